"""Preprocessor: from an observation in robot units to what the network reads, or a clear refusal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.pi05.images import Resample, pillow_resample, resize_with_pad, to_model
from flexor.pi05.prompt import FORMATS, discretise
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.observation import Observation


class BadObservation(FlexorError):
    """A request that a bundle cannot answer; the message says what is wrong with it and what is expected."""


class Preprocessor:
    """Cameras, prompt and normalisation of one bundle, in the order of openpi's input transforms.

    Raises:
        BundleError: the bundle's tokenizer or statistics cannot be used.
    """

    def __init__(self, bundle: Bundle, resample: Resample = pillow_resample) -> None:
        self._resample = resample
        self._name = bundle.name
        self._config = bundle.config
        self._size = bundle.config.model.vision.image_size
        self._prompt_format = FORMATS[bundle.config.prompt_format]
        self._tokenizer = bundle.tokenizer()
        self._state_normalizer, self._action_normalizer = bundle.normalizers()

    def prepare(self, observation: Observation) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images [V, 3, S, S] in [-1, 1] in the bundle's camera order, and prompt tokens [T].

        Raises:
            BadObservation: a camera missing, unknown or of another form, a state of another form or not finite, a
                prompt that is empty or too long.
        """
        config = self._config
        missing = [camera for camera in config.cameras if camera not in observation.images]
        extra = [camera for camera in observation.images if camera not in config.cameras]
        if missing or extra:
            raise BadObservation(
                f"cameras missing: {missing}, unknown: {extra}; {self._name} expects {list(config.cameras)}"
            )
        frames = [self._frame(camera, observation.images[camera]) for camera in config.cameras]
        bins = [*discretise(self._normalised_state(observation.state)), *config.prompt_padding]
        if not isinstance(observation.prompt, str) or not observation.prompt.strip():
            raise BadObservation(f"the prompt is {observation.prompt!r}; expected a sentence that says what to do")
        try:
            pieces = self._prompt_format.pieces(observation.prompt, bins if config.prompt_state else None)
            tokens = self._tokenizer.encode(*pieces)
        except ValueError as error:
            raise BadObservation(str(error)) from error
        return to_model(frames), tokens

    def clamp(self, action_prefix: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """The committed actions [d, A] in robot units as the network takes them: normalised, padded to its width.

        Raises:
            BadObservation: another form, more actions than the bundle was trained for, or not finite.
        """
        if action_prefix is None:
            return None
        config = self._config
        action_prefix = np.asarray(action_prefix)
        if action_prefix.dtype != np.float32:
            raise BadObservation(f"the action prefix has dtype {action_prefix.dtype}; expected float32")
        if action_prefix.ndim != 2 or action_prefix.shape[1] != config.action_dim or len(action_prefix) == 0:
            raise BadObservation(
                f"the action prefix has shape {action_prefix.shape}; expected [d, {config.action_dim}] with d of 1 or"
                " more, or no action prefix"
            )
        if len(action_prefix) > config.rtc_max_delay:
            raise BadObservation(
                f"the action prefix has {len(action_prefix)} actions; {self._name} was trained for at most"
                f" {config.rtc_max_delay} (rtc_max_delay): ask earlier, or without an action prefix"
            )
        _refuse_not_finite("the action prefix", action_prefix)
        clamp = np.zeros((len(action_prefix), config.model.action_dim), np.float32)
        clamp[:, : config.action_dim] = self._action_normalizer.normalize(action_prefix)
        return clamp

    def blank(self) -> Observation:
        """A black, average observation that this bundle answers."""
        frame = np.zeros((self._size, self._size, 3), np.uint8)
        return Observation(
            images={camera: frame for camera in self._config.cameras},
            state=self._state_normalizer.unnormalize(np.zeros(self._config.state_dim)),
            prompt="nothing",
        )

    def _frame(self, camera: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = np.asarray(image)
        if image.dtype != np.uint8:
            raise BadObservation(f"camera {camera!r} has dtype {image.dtype}; expected uint8, 0..255")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise BadObservation(f"camera {camera!r} has shape {image.shape}; expected RGB [height, width, 3]")
        return resize_with_pad(image, self._size, self._resample)

    def _normalised_state(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        state = np.asarray(state)
        if state.dtype != np.float32:
            raise BadObservation(f"the state has dtype {state.dtype}; expected float32")
        if state.shape != (self._config.state_dim,):
            raise BadObservation(f"the state has shape {state.shape}; expected ({self._config.state_dim},)")
        _refuse_not_finite("the state", state)
        return self._state_normalizer.normalize(state)


def _refuse_not_finite(what: str, values: NDArray[np.float32]) -> None:
    if np.isfinite(values).all():
        return
    first = tuple(int(index) for index in np.argwhere(~np.isfinite(values))[0])
    place = ", ".join(map(str, first))
    raise BadObservation(f"{what} holds {values[first]} at [{place}]; expected finite numbers: check the sensor")
