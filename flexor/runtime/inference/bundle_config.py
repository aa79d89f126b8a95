"""BundleConfig: what bundle.json says about a policy, typed and checked at birth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexor.errors import FlexorError
from flexor.pi05.config import Pi05Config
from flexor.pi05.normalize import OPENPI_EPSILON, PAIRS, Mode
from flexor.pi05.prompt import FORMATS, STATE_BINS
from flexor.runtime.inference.action_space import ActionSpace
from flexor.runtime.inference.graphs import Graphs

SCHEMA_VERSION = 1
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class BundleError(FlexorError):
    """A bundle that cannot be served: a missing, altered or malformed file, or an impossible setting."""


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """Everything a bundle says about itself but its file hashes.

    Attributes:
        name: of the bundle, lower case.
        model: sizes of the network; model.horizon = H, and model.action_dim is at least A.
        cameras: camera names in the order in which the network was trained.
        state_dim: S.
        normalization: key of normalize.PAIRS, for the state and, unless `action_normalization` differs, the actions.
        prompt_state: whether the prompt carries the discretised state.
        replan: control steps after which a new chunk is meant to begin, 1..H.
        rtc_max_delay: longest committed action prefix that training has seen; 0 = none.
        flow_steps: Euler steps of the flow.
        hz: control rate of the training data.
        action_space: meaning of the A numbers.
        origin: where the weights came from; free form, for people.
        action_normalization: key of normalize.PAIRS, of the actions; None means the state's.
        norm_epsilon: what the normalisation adds to every span.
        prompt_format: key of prompt.FORMATS.
        prompt_padding: bins that follow the state's own in the prompt, where its padding was written out too.
        graphs: the exported graphs that the bundle holds in the place of weights; None for weights.
        noise_scale: what the noise that a chunk starts from is multiplied by, 0..1: below 1 the actions keep to what
            is likely, at 0 they are the same whatever the seed. Samples for the entropy are drawn at 1.
    """

    name: str
    model: Pi05Config
    cameras: tuple[str, ...]
    state_dim: int
    normalization: Mode
    prompt_state: bool
    replan: int
    rtc_max_delay: int
    flow_steps: int
    hz: float
    action_space: ActionSpace
    origin: Mapping[str, Any] = field(default_factory=dict)
    action_normalization: Mode | None = None
    norm_epsilon: float = OPENPI_EPSILON
    prompt_format: str = "openpi"
    prompt_padding: tuple[int, ...] = ()
    graphs: Graphs | None = None
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise BundleError(f"bundle name {self.name!r}; expected lower-case letters, digits and . _ - (64 at most)")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise BundleError(f"cameras are {list(self.cameras)}; expected at least one, each name once")
        for mode in (self.normalization, self.normalization_of_actions):
            if mode not in PAIRS:
                raise BundleError(f"normalization is {mode!r}; expected one of {', '.join(PAIRS)}")
        if not 0 <= self.norm_epsilon < 1:
            raise BundleError(f"normalization.epsilon is {self.norm_epsilon}; expected a small number, 0 or above")
        if self.prompt_format not in FORMATS:
            raise BundleError(f"prompt.format is {self.prompt_format!r}; expected one of {', '.join(FORMATS)}")
        if not self.prompt_state and (self.prompt_padding or not FORMATS[self.prompt_format].plain):
            raise BundleError(
                f"prompt.state is false, but padding is {list(self.prompt_padding)} and format {self.prompt_format!r};"
                " expected no padding and a format that can do without the state"
            )
        if any(isinstance(bin_, bool) or bin_ not in range(-1, STATE_BINS) for bin_ in self.prompt_padding):
            raise BundleError(f"prompt.padding is {list(self.prompt_padding)}; expected bins in -1..{STATE_BINS - 1}")
        allowed = {
            "state_dim": range(1, 1025),
            "replan": range(1, self.model.horizon + 1),
            "rtc_max_delay": range(self.model.horizon),
            "flow_steps": range(1, 1001),
        }
        for key, values in allowed.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value not in values:
                raise BundleError(f"{key} is {value!r}; expected a whole number in {values[0]}..{values[-1]}")
        if not 0 <= self.noise_scale <= 1:
            raise BundleError(f"noise_scale is {self.noise_scale}; expected 0 to 1, where 1 is what training draws")
        if not self.hz > 0:
            raise BundleError(f"hz is {self.hz}; expected a control rate above 0")
        if len(self.action_space.names) > self.model.action_dim:
            raise BundleError(
                f"action_space names {len(self.action_space.names)} dimensions and the model has only"
                f" {self.model.action_dim}; expected as many or fewer"
            )

    @property
    def horizon(self) -> int:
        """H, actions in a chunk."""
        return self.model.horizon

    @property
    def action_dim(self) -> int:
        """A of the robot; the model's own may be larger, its last channels are padding then."""
        return len(self.action_space.names)

    @property
    def normalization_of_actions(self) -> Mode:
        """Mode of the actions."""
        return self.action_normalization or self.normalization

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without file hashes. What is as openpi has it is left out, as older bundles do."""
        prompt: dict[str, Any] = {"state": self.prompt_state}
        if self.prompt_format != "openpi":
            prompt["format"] = self.prompt_format
        if self.prompt_padding:
            prompt["padding"] = list(self.prompt_padding)
        normalization: str | dict[str, Any] = self.normalization
        if self.normalization_of_actions != self.normalization or self.norm_epsilon != OPENPI_EPSILON:
            normalization = {
                "state": self.normalization,
                "actions": self.normalization_of_actions,
                "epsilon": self.norm_epsilon,
            }
        exported = {} if self.graphs is None else {"graphs": self.graphs.to_dict()}
        cooled = {} if self.noise_scale == 1.0 else {"noise_scale": self.noise_scale}
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "model": self.model.to_dict(),
            "cameras": list(self.cameras),
            "state_dim": self.state_dim,
            "normalization": normalization,
            "prompt": prompt,
            "horizon": self.horizon,
            "replan": self.replan,
            "rtc_max_delay": self.rtc_max_delay,
            "flow_steps": self.flow_steps,
            "hz": self.hz,
            "action_space": self.action_space.to_dict(),
            "origin": dict(self.origin),
            **cooled,
            **exported,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BundleConfig:
        """Read the JSON form, without file hashes.

        Raises:
            BundleError: another schema version, an unknown or missing key, an impossible value.
        """
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"schema_version is {version!r}; this flexor reads {SCHEMA_VERSION}; use the flexor that wrote it"
            )
        check_keys("bundle.json", data, KEYS, ("graphs", "noise_scale"))
        check_keys("prompt", data["prompt"], ("state",), ("format", "padding"))
        normalization = data["normalization"]
        if not isinstance(normalization, dict):
            normalization = {"state": normalization, "actions": normalization, "epsilon": OPENPI_EPSILON}
        check_keys("normalization", normalization, ("state", "actions", "epsilon"))
        same = normalization["actions"] == normalization["state"]
        if not isinstance(data["prompt"]["state"], bool):
            raise BundleError(f"prompt.state is {data['prompt']['state']!r}; expected true or false")
        try:
            model = Pi05Config.from_dict(data["model"])
            config = cls(
                name=str(data["name"]),
                model=model,
                cameras=_names(data["cameras"]),
                state_dim=data["state_dim"],
                normalization=normalization["state"],
                prompt_state=data["prompt"]["state"],
                replan=data["replan"],
                rtc_max_delay=data["rtc_max_delay"],
                flow_steps=data["flow_steps"],
                hz=float(data["hz"]),
                action_space=ActionSpace.from_dict(data["action_space"]),
                origin=dict(data["origin"]),
                action_normalization=None if same else normalization["actions"],
                norm_epsilon=float(normalization["epsilon"]),
                prompt_format=data["prompt"].get("format", "openpi"),
                prompt_padding=tuple(data["prompt"].get("padding", ())),
                graphs=Graphs.from_dict(data["graphs"]) if "graphs" in data else None,
                noise_scale=float(data.get("noise_scale", 1.0)),
            )
        except (TypeError, ValueError) as error:
            raise BundleError(f"a value has the wrong form: {error}") from error
        if data["horizon"] != model.horizon:
            raise BundleError(f"horizon is {data['horizon']!r} and model.horizon {model.horizon}; expected the same")
        return config


KEYS = (
    "schema_version",
    "name",
    "model",
    "cameras",
    "state_dim",
    "normalization",
    "prompt",
    "horizon",
    "replan",
    "rtc_max_delay",
    "flow_steps",
    "hz",
    "action_space",
    "origin",
)


def _names(cameras: object) -> tuple[str, ...]:
    if not isinstance(cameras, list) or not all(isinstance(camera, str) for camera in cameras):
        raise BundleError(f"cameras is {cameras!r}; expected a list of names")
    return tuple(cameras)


def check_keys(where: str, data: object, expected: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuse a mapping whose keys are not the expected ones and perhaps some of the optional ones.

    Raises:
        BundleError: names the missing and the unknown keys.
    """
    if not isinstance(data, Mapping):
        raise BundleError(f"{where} is {type(data).__name__}; expected an object with the keys {', '.join(expected)}")
    missing = [key for key in expected if key not in data]
    unknown = [str(key) for key in data if key not in (*expected, *optional)]
    if missing or unknown:
        raise BundleError(
            f"{where} has missing keys {missing} and unknown keys {unknown}; expected exactly {', '.join(expected)}"
            + (f", and perhaps {', '.join(optional)}" if optional else "")
        )
