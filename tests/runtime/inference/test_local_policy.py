"""flexor.load: a policy in the caller's own process, from a script that knows nothing of the project."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import flexor
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.local_policy import LocalPolicy
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import Observation

SCRIPT = """
import json
import numpy as np
import flexor

policy = flexor.load("pi05-nano", seed=3)
told = policy.describe()
images = {camera: np.zeros((120, 160, 3), np.uint8) for camera in told["cameras"]}
asked = {"images": images, "state": np.zeros(told["state_dim"], np.float32), "prompt": "put the red block into the box"}
actions = np.stack([policy.select_action(asked) for _ in range(told["replan"] + 1)])
print(json.dumps([told["bundle"], actions.shape, policy.infer(asked).actions.shape, bool(np.isfinite(actions).all())]))
"""


@pytest.fixture
def policy(micro_bundle: Bundle) -> LocalPolicy:
    return flexor.load(micro_bundle.path, seed=7)


def test_a_script_elsewhere_gets_actions_from_a_shipped_bundle(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["pi05-nano", [6, 7], [10, 7], True]


def test_single_actions_are_those_of_the_chunk_until_it_is_asked_for_anew(
    policy: LocalPolicy, observation: Observation
) -> None:
    replan = policy.describe()["replan"]
    played = np.stack([policy.select_action(observation) for _ in range(2 * replan)])
    policy.reset()
    first, second = policy.infer(observation), policy.infer(observation)
    np.testing.assert_array_equal(played, np.concatenate([first.actions[:replan], second.actions[:replan]]))
    assert first.provenance.noise_seed != second.provenance.noise_seed


def test_in_between_the_observation_is_not_looked_at_and_reset_makes_it_look(
    policy: LocalPolicy, observation: Observation
) -> None:
    policy.select_action(observation)
    blind = Observation({}, observation.state, observation.prompt)
    assert policy.select_action(blind).shape == (7,)
    policy.reset()
    with pytest.raises(BadObservation, match="cameras missing"):
        policy.select_action(blind)


def test_the_seed_alone_decides(policy: LocalPolicy, micro_bundle: Bundle, observation: Observation) -> None:
    actions = policy.infer(observation).actions
    np.testing.assert_array_equal(flexor.load(micro_bundle.path, seed=7).infer(observation).actions, actions)
    assert np.abs(flexor.load(micro_bundle.path, seed=8).infer(observation).actions - actions).max() > 1e-3


def test_a_mapping_asks_the_same_and_one_of_other_keys_is_refused(
    policy: LocalPolicy, observation: Observation
) -> None:
    actions = policy.infer(observation).actions
    policy.reset()
    np.testing.assert_array_equal(policy.infer(asdict(observation)).actions, actions)
    with pytest.raises(BadObservation, match=r"images, state, prompt; this one has images, state, task"):
        policy.infer({"images": {}, "state": observation.state, "task": "lift it"})


def test_an_unknown_bundle_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match="pi05-none"):
        flexor.load("pi05-none")
