"""What the policy refuses, each with its name, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import Observation


def _image(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype)


BAD_OBSERVATIONS: dict[str, tuple[Callable[[Observation], dict[str, Any]], str]] = {
    "missing camera": (lambda o: {"images": {"wrist": o.images["wrist"]}}, r"missing: \['agentview'\].*expects \['age"),
    "no camera": (lambda o: {"images": {}}, r"missing: \['agentview', 'wrist'\]"),
    "extra camera": (lambda o: {"images": {**o.images, "rear": _image((8, 8, 3))}}, r"unknown: \['rear'\]"),
    "float image": (
        lambda o: {"images": {**o.images, "wrist": _image((8, 8, 3), np.float32)}},
        "camera 'wrist' has dtype float32; expected uint8",
    ),
    "grey image": (lambda o: {"images": {**o.images, "wrist": _image((8, 8))}}, r"'wrist' has shape \(8, 8\)"),
    "four channels": (
        lambda o: {"images": {**o.images, "wrist": _image((8, 8, 4))}},
        r"shape \(8, 8, 4\); expected RGB",
    ),
    "planes first": (
        lambda o: {"images": {**o.images, "wrist": _image((3, 8, 8))}},
        r"shape \(3, 8, 8\); expected RGB",
    ),
    "empty image": (lambda o: {"images": {**o.images, "wrist": _image((0, 8, 3))}}, r"shape \(0, 8, 3\)"),
    "double state": (lambda o: {"state": o.state.astype(np.float64)}, "state has dtype float64; expected float32"),
    "short state": (lambda o: {"state": o.state[:7]}, r"state has shape \(7,\); expected \(8,\)"),
    "batched state": (lambda o: {"state": o.state[None]}, r"state has shape \(1, 8\); expected \(8,\)"),
    "NaN state": (lambda o: {"state": np.append(o.state[:7], np.float32("nan"))}, r"state holds nan at \[7\]"),
    "infinite state": (lambda o: {"state": np.append(np.float32("-inf"), o.state[1:])}, r"state holds -inf at \[0\]"),
    "empty prompt": (lambda o: {"prompt": ""}, "prompt is ''; expected a sentence"),
    "blank prompt": (lambda o: {"prompt": " \n"}, "expected a sentence"),
    "prompt of bytes": (lambda o: {"prompt": b"push"}, "expected a sentence"),
    "long prompt": (lambda o: {"prompt": "cube " * 100}, "takes at most 40"),
}


@pytest.mark.parametrize("case", BAD_OBSERVATIONS)
def test_a_bad_observation_is_refused_and_named(policy: Policy, observation: Observation, case: str) -> None:
    changes, message = BAD_OBSERVATIONS[case]
    before = policy.infer(observation, 1).actions
    with pytest.raises(BadObservation, match=message):
        policy.infer(replace(observation, **changes(observation)), 1)
    np.testing.assert_array_equal(policy.infer(observation, 1).actions, before, "a refusal must not change the policy")


BAD_PREFIXES: Mapping[str, tuple[np.ndarray, str]] = {
    "too long": (np.zeros((6, 7), np.float32), r"has 6 actions; .* at most 5 \(rtc_max_delay\)"),
    "empty": (np.zeros((0, 7), np.float32), r"shape \(0, 7\)"),
    "other width": (np.zeros((2, 8), np.float32), r"shape \(2, 8\); expected \[d, 7\]"),
    "one action": (np.zeros(7, np.float32), r"shape \(7,\)"),
    "double": (np.zeros((2, 7)), "dtype float64"),
    "NaN": (np.array([[0, 0, 0, 0, 0, 0, np.nan]], np.float32), r"holds nan at \[0, 6\]"),
}


@pytest.mark.parametrize("case", BAD_PREFIXES)
def test_a_bad_action_prefix_is_refused_and_named(policy: Policy, observation: Observation, case: str) -> None:
    prefix, message = BAD_PREFIXES[case]
    with pytest.raises(BadObservation, match=message):
        policy.infer(observation, 1, prefix)


def test_a_bundle_trained_without_delay_takes_no_action_prefix(
    make_bundle: Callable[..., Bundle], observation: Observation
) -> None:
    bundle = make_bundle(rtc_max_delay=0)
    policy = Policy(bundle, open_engine(bundle))
    policy.warm_up()
    with pytest.raises(BadObservation, match=r"at most 0 \(rtc_max_delay\)"):
        policy.infer(observation, 1, np.zeros((1, 7), np.float32))
