"""A small checkpoint of every origin becomes a bundle that computes what that origin's own files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from foreign_checkpoints import ACTION_DIM, STATE_DIM, STATS, write_lerobot, write_openpi, write_opentau
from foreign_tensors import SMALL, random_weights, save_shards, stored
from safetensors.numpy import load_file

from flexor.export.checkpoints.importer import plan_import, run_import
from flexor.export.checkpoints.recipe import Choices
from flexor.pi05.model import Pi05
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.policy import Policy
from flexor.runtime.inference.preprocessor import Preprocessor
from flexor.runtime.inference.torch_engine import TorchEngine
from flexor.runtime.observation import Observation

SENTENCE = "pick_up the bowl"
STATE = np.linspace(-1.5, 1.0, STATE_DIM, dtype=np.float32)
Stat = dict[str, Any]


def observe() -> Observation:
    frames = np.random.default_rng(3).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    return Observation({"agentview": frames[0], "robot0_eye_in_hand": frames[1]}, STATE, SENTENCE)


def column(quantity: str, name: str) -> np.ndarray:
    return np.asarray(STATS[quantity][name])


def bins(normalised: np.ndarray) -> list[int]:
    """As every origin bins: 256 even bins, -1 below them."""
    return [-1 if value < -1 else min(int((value + 1) * 128), 255) for value in normalised]


def quantile_state() -> np.ndarray:
    low, high = column("state", "q01"), column("state", "q99")
    return (STATE - low) / (high - low + 1e-6) * 2 - 1


def openpi_actions(x: np.ndarray) -> np.ndarray:
    low, high = column("actions", "q01"), column("actions", "q99")
    return (x + 1) / 2 * (high - low + 1e-6) + low


def mean_std_actions(x: np.ndarray) -> np.ndarray:
    return x * column("actions", "std") + column("actions", "mean")


def spoken(values: list[int]) -> str:
    return " ".join(map(str, values))


def lerobot_state() -> np.ndarray:
    return (STATE - column("state", "mean")) / (column("state", "std") + 1e-8)


def opentau_bins() -> list[int]:
    low, high = column("state", "min"), column("state", "max")
    return bins(np.clip((STATE - low) / (high - low + 1e-8) * 2 - 1, -1, 1))


CASES: dict[
    str, tuple[Callable[[Path], Path], Choices, Callable[[], list[str]], Callable[[np.ndarray], np.ndarray]]
] = {
    "openpi's pi05_libero: without the state": (
        write_openpi,
        Choices(),
        lambda: ["pick up the bowl", "\n"],
        openpi_actions,
    ),
    "openpi's, told to say the state": (
        write_openpi,
        Choices(state_in_prompt=True),
        lambda: [f"Task: pick up the bowl, State: {spoken(bins(quantile_state()))};\nAction: "],
        openpi_actions,
    ),
    "lerobot 0.4: padded to 32": (
        write_lerobot,
        Choices(),
        lambda: [f"Task: pick up the bowl, State: {spoken(bins(lerobot_state()) + [128] * 24)};\nAction: "],
        mean_std_actions,
    ),
    "lerobot 0.6: not padded": (
        lambda folder: write_lerobot(folder, later=True),
        Choices(),
        lambda: [f"Task: pick up the bowl, State: {spoken(bins(lerobot_state()))};\nAction: "],
        mean_std_actions,
    ),
    "lerobot by quantiles, told not to pad": (
        lambda folder: write_lerobot(folder, mode="QUANTILES"),
        Choices(pad_state=False),
        lambda: [f"Task: pick up the bowl, State: {spoken(bins(quantile_state()))};\nAction: "],
        openpi_actions,
    ),
    "opentau 0.1: padding at the bottom": (
        write_opentau,
        Choices(),
        lambda: [f"Task: pick_up the bowl\nState: {spoken(opentau_bins() + [0] * 24)}\nActions:"],
        mean_std_actions,
    ),
    "opentau 0.2: end of sentence between": (
        lambda folder: write_opentau(folder, "0.2"),
        Choices(),
        lambda: [f"Task: pick_up the bowl<eos>State: {spoken(opentau_bins() + [0] * 24)}<eos>Actions:"],
        mean_std_actions,
    ),
    "opentau 0.5: padding in the middle": (
        lambda folder: write_opentau(folder, "0.5"),
        Choices(),
        lambda: [f"Task: pick_up the bowl, State: {spoken(opentau_bins() + [128] * 24)};\n"],
        mean_std_actions,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_imported_policy_answers_as_its_origin_prompts_normalises_and_computes(case: str, tmp_path: Path) -> None:
    write, choices, pieces, to_robot = CASES[case]
    checkpoint = write(tmp_path / "checkpoint")
    run_import(plan_import(checkpoint, "imported", choices=choices), tmp_path / "imported")
    bundle = Bundle.open(tmp_path / "imported")
    observation = observe()

    # The prompt, by the checkpoint's own tokenizer.
    theirs = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokens = [2]
    for piece in pieces():
        tokens += theirs.encode(piece, add_special_tokens=False).ids
    _, prepared = Preprocessor(bundle).prepare(observation)
    assert prepared.tolist() == tokens

    # The chunk, by the plain model on the weights that were drawn.
    model = Pi05(bundle.model_config)
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in random_weights().items()})
    frames = np.stack(list(observation.images.values())).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1
    engine = TorchEngine(bundle, "fp32", threads=1, flow_steps=10)
    noise = np.random.default_rng(5).standard_normal((1, 10, 32)).astype(np.float32)
    with torch.no_grad():
        prefix = model.encode(torch.from_numpy(frames)[None], torch.tensor([tokens]))
        expected = model.denoise(prefix, torch.from_numpy(noise), 10)[0].numpy()
    images, prepared = Preprocessor(bundle).prepare(observation)
    actions, _ = engine.denoise(engine.encode(images, prepared), noise, None)
    np.testing.assert_allclose(actions, expected, atol=2e-5)

    # What reaches the robot: seven channels, in its units.
    _, normalizer = bundle.normalizers()
    np.testing.assert_allclose(
        normalizer.unnormalize(expected[0, :, :ACTION_DIM]), to_robot(expected[0, :, :ACTION_DIM]), rtol=1e-4, atol=1e-5
    )
    chunk = Policy(bundle, engine).infer(observation, noise_seed=1)
    assert chunk.actions.shape == (10, ACTION_DIM) and np.isfinite(chunk.actions).all()


@pytest.mark.parametrize("vision_level", ["vision_model.", ""])
@pytest.mark.parametrize("embedding", [("lm_head",), ("embed_tokens",), ("lm_head", "embed_tokens")])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_every_spelling_of_the_names_gives_the_same_weights(
    prefix: str, embedding: tuple[str, ...], vision_level: str, tmp_path: Path
) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint")
    (checkpoint / "model.safetensors").unlink()
    save_shards(checkpoint, stored(random_weights(), SMALL, prefix, embedding, vision_level))
    plan = plan_import(checkpoint, "imported")
    bundle = run_import(plan, tmp_path / "imported")
    written, drawn = load_file(bundle.weights_path), random_weights()
    assert written.keys() == drawn.keys()
    for name, tensor in drawn.items():
        np.testing.assert_array_equal(written[name], tensor, err_msg=name)
    assert plan.names.embedding.endswith("embed_tokens.weight" if "embed_tokens" in embedding else "lm_head.weight")


def test_the_sizes_are_the_checkpoints_own(tmp_path: Path) -> None:
    config = plan_import(write_openpi(tmp_path / "checkpoint"), "imported").config
    assert config.model == SMALL


def test_an_opentau_policy_keeps_the_delay_that_it_was_trained_for(tmp_path: Path) -> None:
    plan = plan_import(write_opentau(tmp_path / "checkpoint", "0.2"), "imported")
    assert plan.config.rtc_max_delay == 3
    assert (plan.config.normalization, plan.config.normalization_of_actions) == ("min_max", "mean_std")


def test_one_of_several_data_sets_is_chosen_by_name(tmp_path: Path) -> None:
    checkpoint = write_opentau(tmp_path / "checkpoint", "0.5", datasets=3)
    stats = plan_import(checkpoint, "imported", choices=Choices(dataset="set0")).stats
    np.testing.assert_allclose(stats["state"].min, column("state", "min"), rtol=1e-6)


def test_the_bundle_fits_the_simulated_franka(tmp_path: Path) -> None:
    from flexor.sim.scenes import CAMERAS
    from flexor.sim.tabletop import ACTION_DIM as SIM_ACTION_DIM
    from flexor.sim.world import CONTROL_HZ

    for name, write in {"openpi": write_openpi, "lerobot": write_lerobot, "opentau": write_opentau}.items():
        config = plan_import(write(tmp_path / name), "imported").config
        assert config.cameras == CAMERAS, name
        assert (config.state_dim, config.action_dim, config.hz) == (8, SIM_ACTION_DIM, CONTROL_HZ)


def test_bf16_halves_what_openpi_halves_and_keeps_the_rest(tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint")
    bundle = run_import(plan_import(checkpoint, "imported", dtype="bf16"), tmp_path / "imported")
    from safetensors import safe_open

    drawn = random_weights()
    with safe_open(bundle.weights_path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            tensor = file.get_tensor(name)
            wide = any(part in name for part in ("patch_embedding", "position_embedding", "action_", "time_mlp"))
            wide |= not name.startswith("vision") and "norm" in name
            expected = torch.from_numpy(drawn[name])
            assert tensor.dtype == (torch.float32 if wide else torch.bfloat16), name
            assert torch.equal(tensor, expected.to(tensor.dtype)), name
