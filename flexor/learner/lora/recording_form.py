"""RecordingForm: what recordings must be for a bundle to learn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flexor.learner.demonstrations import DemonstrationError
from flexor.runtime.inference.bundle import Bundle

SAME_RATE = 1e-6  # relative, as where a robot and a server meet


class RecordingForm:
    """Args:
    bundle: that is taught.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._name, self._config = bundle.id, bundle.config

    def check_rate(self, where: object, hz: float) -> None:
        """Refuse recordings at another control rate: each of their actions lasted longer or shorter.

        Raises:
            DemonstrationError: it is another; `where` says whose.
        """
        if not math.isclose(hz, self._config.hz, rel_tol=SAME_RATE):
            raise DemonstrationError(
                f"{where} was recorded at {hz:g} Hz; {self._name} acts at {self._config.hz:g}: record at that rate, or"
                " teach a bundle of this one"
            )

    def check(self, where: object, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Refuse samples of another robot, and broken numbers, of which no loss is finite.

        Args:
            where: says whose they are.
            arrays: states [n, S], actions [n, H, A] and played [n, H, A], robot units.

        Raises:
            DemonstrationError: another S or A, or a number that is not finite.
        """
        config = self._config
        for name, expected in (("states", config.state_dim), ("actions", config.action_dim)):
            if (width := arrays[name].shape[-1]) != expected:
                raise DemonstrationError(
                    f"{where} has {name} of {width} numbers; {self._name} has {expected}: record with its robot, or"
                    " teach a bundle of this one"
                )
        for name in ("states", "actions", "played"):
            broken = np.argwhere(~np.isfinite(arrays[name]))
            if len(broken):
                place = tuple(int(index) for index in broken[0])
                raise DemonstrationError(
                    f"{where} holds {arrays[name][place]} in its {name}, at {list(place)}; expected finite numbers:"
                    " leave the episode out, and check the sensor"
                )
