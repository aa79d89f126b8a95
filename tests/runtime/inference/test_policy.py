"""The policy on a real engine and a real bundle: what it refuses, what it keeps exactly, what it scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from flexor.pi05.config import PRESETS
from flexor.pi05.images import resize_with_pad, to_model
from flexor.pi05.prompt import build_prompt, discretise
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError, open_engine
from flexor.runtime.inference.entropy import accel, ace_bits, gauss_nats
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.preprocessor import BadObservation
from flexor.runtime.observation import Observation


def committed(policy: Policy, d: int) -> np.ndarray:
    """d actions in robot units whose way to normalised units and back is not exact."""
    dim = policy.describe()["action_dim"]
    return (np.random.default_rng(d).normal(size=(d, dim)) / 3).astype(np.float32)


def test_the_same_seed_gives_the_same_actions_bit_for_bit(policy: Policy, observation: Observation) -> None:
    first = policy.infer(observation, 11)
    other = policy.infer(observation, 12)
    again = policy.infer(observation, 11)
    assert first.actions.dtype == np.float32
    assert first.actions.shape == (10, 7)
    assert np.isfinite(first.actions).all()
    np.testing.assert_array_equal(first.actions, again.actions)
    assert np.abs(first.actions - other.actions).max() > 1e-3


def test_another_policy_of_the_same_bundle_answers_the_same(
    policy: Policy, micro_bundle: Bundle, observation: Observation
) -> None:
    twin = Policy(micro_bundle, open_engine(micro_bundle))
    np.testing.assert_array_equal(policy.infer(observation, 5).actions, twin.infer(observation, 5).actions)


@pytest.mark.parametrize("d", [1, 3, 5])
def test_the_action_prefix_comes_back_exactly(policy: Policy, observation: Observation, d: int) -> None:
    prefix = committed(policy, d)
    chunk = policy.infer(observation, 1, prefix)
    np.testing.assert_array_equal(chunk.actions[:d], prefix)
    free = policy.infer(observation, 1)
    assert np.abs(chunk.actions[d:] - free.actions[d:]).max() > 1e-3, "the rest of the chunk must know the prefix"


def test_a_chunk_owns_its_numbers(policy: Policy, observation: Observation) -> None:
    first = policy.infer(observation, 1)
    kept = first.actions.copy()
    policy.infer(observation, 2)
    policy.surprise(2)
    np.testing.assert_array_equal(first.actions, kept)


@pytest.mark.parametrize("what", ["agentview", "wrist", "state", "prompt"])
def test_every_part_of_the_observation_moves_the_actions(policy: Policy, observation: Observation, what: str) -> None:
    before = policy.infer(observation, 1).actions
    if what == "state":
        changed = replace(observation, state=observation.state + np.float32(0.5))
    elif what == "prompt":
        changed = replace(observation, prompt="put the green cube on the red plate")
    else:
        changed = replace(observation, images={**observation.images, what: 255 - observation.images[what]})
    assert np.abs(policy.infer(changed, 1).actions - before).max() > 1e-4


def test_cameras_are_taken_by_name_not_by_order(policy: Policy, observation: Observation) -> None:
    swapped = replace(observation, images=dict(reversed(list(observation.images.items()))))
    np.testing.assert_array_equal(policy.infer(observation, 1).actions, policy.infer(swapped, 1).actions)


def test_a_chunk_is_what_its_parts_compute(policy: Policy, micro_bundle: Bundle, observation: Observation) -> None:
    """The whole way written out once more: cameras, prompt, noise, engine, units, accel over the executed rows."""
    state_normalizer, action_normalizer = micro_bundle.normalizers()
    frames = np.stack([resize_with_pad(observation.images[camera], 32) for camera in ("agentview", "wrist")])
    prompt = build_prompt(observation.prompt, discretise(state_normalizer.normalize(observation.state)))
    engine = policy.engine
    prefix = engine.encode(to_model(frames), micro_bundle.tokenizer().encode(prompt))
    noise = np.random.default_rng([21]).standard_normal((1, 10, 7), np.float32)
    sampled, velocities = engine.denoise(prefix, noise, None)
    chunk = policy.infer(observation, 21)
    np.testing.assert_array_equal(chunk.actions, action_normalizer.unnormalize(sampled[0]))
    np.testing.assert_allclose(action_normalizer.normalize(chunk.actions), sampled[0], atol=1e-5)
    assert velocities.shape == (10, 1, 10, 7)
    assert chunk.scores == {"accel": accel(velocities[:, 0, :5])}


def test_a_bundle_may_start_its_chunks_from_less_noise_and_is_scored_on_all_of_it(
    make_bundle: Callable[..., Bundle], policy: Policy, observation: Observation
) -> None:
    half = make_bundle(noise_scale=0.5)
    cooler, still = Policy(half, open_engine(half)), Policy(half, open_engine(half), noise_scale=0.0)
    images, tokens = policy._preprocessor.prepare(observation)
    noise = np.random.default_rng([21]).standard_normal((1, 10, 7), np.float32)
    sampled, _ = policy.engine.denoise(policy.engine.encode(images, tokens), np.float32(0.5) * noise, None)
    chunk = cooler.infer(observation, 21)
    np.testing.assert_array_equal(chunk.actions, half.normalizers()[1].unnormalize(sampled[0]))
    policy.infer(observation, 21)
    assert cooler.surprise(21) == policy.surprise(21)
    for asked in (cooler, still):
        asked.infer(observation, 3)
        answered, shadowed = asked.shadow(3, 0)
        np.testing.assert_array_equal(answered, shadowed)
    np.testing.assert_array_equal(still.infer(observation, 1).actions, still.infer(observation, 2).actions)
    assert [asked.describe()["noise_scale"] for asked in (policy, cooler, still)] == [1.0, 0.5, 0.0]


def test_accel_leaves_the_clamped_rows_out(policy: Policy, micro_bundle: Bundle, observation: Observation) -> None:
    prefix = committed(policy, 3)
    chunk = policy.infer(observation, 4, prefix)
    images, tokens = policy._preprocessor.prepare(observation)
    encoded = policy.engine.encode(images, tokens)
    noise = np.random.default_rng([4]).standard_normal((1, 10, 7), np.float32)
    clamp = micro_bundle.normalizers()[1].normalize(prefix)
    _, velocities = policy.engine.denoise(encoded, noise, clamp)
    assert chunk.scores["accel"] == accel(velocities[:, 0, 3:5])
    further = Policy(micro_bundle, policy.engine)
    further.executed = 8  # who plays more of a chunk is told of more
    assert further.infer(observation, 4, prefix).scores["accel"] == accel(velocities[:, 0, 3:8])


@pytest.mark.parametrize("d", [0, 2])
def test_surprise_scores_eight_samples_of_the_last_question(
    policy: Policy, micro_bundle: Bundle, observation: Observation, d: int
) -> None:
    prefix = committed(policy, d) if d else None
    policy.infer(observation, 9, prefix)
    scores = policy.surprise(9)
    images, tokens = policy._preprocessor.prepare(observation)
    normalizer = micro_bundle.normalizers()[1]
    noise = np.random.default_rng([9, 1]).standard_normal((8, 10, 7), np.float32)
    clamp = None if prefix is None else normalizer.normalize(prefix)
    sampled, _ = policy.engine.denoise(policy.engine.encode(images, tokens), noise, clamp)
    space = micro_bundle.config.action_space
    translations = normalizer.unnormalize(sampled)[:, d:5, :3]
    assert scores["ace_bits"] == ace_bits(translations, space.metres_per_unit, np.array(space.workspace))
    assert scores["gauss_nats"] == gauss_nats(sampled[:, d:5])
    assert policy.surprise(9) == scores
    assert policy.surprise(10)["gauss_nats"] != scores["gauss_nats"]


def test_surprise_before_any_question_is_refused(micro_bundle: Bundle) -> None:
    policy = Policy(micro_bundle, open_engine(micro_bundle))
    policy.warm_up()
    with pytest.raises(EngineError, match=r"call infer\(\) first"):
        policy.surprise(1)


def test_the_chunk_says_where_it_came_from(policy: Policy, micro_bundle: Bundle, observation: Observation) -> None:
    chunk = policy.infer(observation, 77)
    assert chunk.provenance.bundle == micro_bundle.id
    assert (chunk.provenance.adapter, chunk.provenance.noise_seed, chunk.provenance.flow_steps) == ("base", 77, 10)
    assert (chunk.provenance.engine, chunk.provenance.precision) == ("torch", "fp32")
    assert set(chunk.timing_ms) == {"prepare", "encode", "denoise", "finish", "total"}
    stages = sum(chunk.timing_ms[stage] for stage in ("prepare", "encode", "denoise", "finish"))
    assert chunk.timing_ms["total"] == pytest.approx(stages)


def test_describe_says_what_a_client_needs_in_plain_values(policy: Policy, micro_bundle: Bundle) -> None:
    described = policy.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["hash"] == micro_bundle.hash
    assert described["cameras"] == ["agentview", "wrist"]
    numbers = {key: described[key] for key in ("state_dim", "action_dim", "horizon", "replan", "rtc_max_delay", "hz")}
    assert numbers == {"state_dim": 8, "action_dim": 7, "horizon": 10, "replan": 5, "rtc_max_delay": 5, "hz": 20.0}


def test_channels_that_pad_the_model_stay_inside_the_policy(
    make_bundle: Callable[..., Bundle], observation: Observation
) -> None:
    """A model of 9 channels for a robot of 7: neither chunk, prefix nor scores see the other two."""
    bundle = make_bundle(model=replace(PRESETS["pi05-micro"], action_dim=9))
    policy = Policy(bundle, open_engine(bundle))
    prefix = committed(policy, 2)
    chunk = policy.infer(observation, 3, prefix)
    assert policy.describe()["action_dim"] == 7
    assert chunk.actions.shape == (10, 7)
    np.testing.assert_array_equal(chunk.actions[:2], prefix)
    images, tokens = policy._preprocessor.prepare(observation)
    noise = np.random.default_rng([3]).standard_normal((1, 10, 9), np.float32)
    clamp = np.zeros((2, 9), np.float32)
    clamp[:, :7] = bundle.normalizers()[1].normalize(prefix)
    _, velocities = policy.engine.denoise(policy.engine.encode(images, tokens), noise, clamp)
    assert chunk.scores["accel"] == accel(velocities[:, 0, 2:5, :7])
    assert set(policy.surprise(3)) == {"ace_bits", "gauss_nats"}


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, None])
def test_a_noise_seed_that_is_none_is_refused(policy: Policy, observation: Observation, seed: Any) -> None:
    with pytest.raises(BadObservation, match="noise_seed is"):
        policy.infer(observation, seed)


def test_a_bundle_without_state_in_its_prompt_ignores_the_state(
    make_bundle: Callable[..., Bundle], observation: Observation
) -> None:
    bundle = make_bundle(prompt_state=False, normalization="mean_std")
    policy = Policy(bundle, open_engine(bundle))
    moved = replace(observation, state=observation.state + np.float32(0.5))
    np.testing.assert_array_equal(policy.infer(observation, 1).actions, policy.infer(moved, 1).actions)


def test_actions_that_are_not_finite_never_leave_the_policy(
    make_bundle: Callable[..., Bundle], micro_bundle: Bundle, observation: Observation
) -> None:
    weights = load_file(micro_bundle.weights_path)
    weights["action_out_proj.weight"] = np.full_like(weights["action_out_proj.weight"], 3e38)
    bundle = make_bundle(weights=weights)
    with pytest.raises(EngineError, match="gave actions that are not finite"):
        Policy(bundle, open_engine(bundle)).infer(observation, 1)


def test_a_flow_that_stands_still_is_not_called_certain(
    make_bundle: Callable[..., Bundle], micro_bundle: Bundle, observation: Observation
) -> None:
    weights = load_file(micro_bundle.weights_path)
    weights.update({name: np.zeros_like(weights[name]) for name in weights if name.startswith("action_out_proj")})
    bundle = make_bundle(weights=weights)
    with pytest.raises(EngineError, match="cannot be scored"):
        Policy(bundle, open_engine(bundle)).infer(observation, 1)


def test_one_flow_step_is_served_without_accel(micro_bundle: Bundle, observation: Observation) -> None:
    policy = Policy(micro_bundle, open_engine(micro_bundle, flow_steps=1))
    chunk = policy.infer(observation, 1)
    assert chunk.scores == {}
    assert chunk.provenance.flow_steps == 1


def test_bundle_policy_and_scores_do_without_torch_and_mujoco() -> None:
    """A process that may import neither opens a bundle module, and learns by name what the torch engine lacks."""
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "mujoco"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from flexor.runtime import metrics
from flexor.runtime.inference import bundle, bundle_writer, entropy, policy
from flexor.runtime.inference.engine import EngineError, open_engine
try:
    open_engine(bundle.Bundle.open("pi05-nano"))
except EngineError as error:
    print(error)
assert not {"torch", "mujoco"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "engine 'torch' needs torch, which is not installed; pip install 'flexor[torch]'" in done.stdout
