"""Settings and pipelines of LeRobot and OpenTau that cannot be followed are refused, by name and with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_checkpoints import STATS, write_lerobot, write_opentau
from foreign_tensors import edit_json, save

from flexor.errors import FlexorError
from flexor.export.checkpoints.importer import plan_import


def lerobot_step(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A change of one step of both pipelines."""

    def apply(folder: Path) -> None:
        for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
            edit_json(
                folder / file,
                lambda data: [change(step) for step in data["steps"] if step["registry_name"].endswith(name)],
            )

    return apply


def without_stat(folder: Path) -> None:
    rows = {key: np.asarray(row) for key, row in STATS["state"].items() if key != "std"}
    save(
        folder / "policy_preprocessor_step_2_normalizer_processor.safetensors",
        {f"observation.state.{key}": row for key, row in rows.items()},
    )


LEROBOT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pi0 policy": (
        lambda f: edit_json(f / "config.json", lambda d: d.update(type="pi0")),
        "is of a 'pi0' policy; flexor runs 'pi05'",
    ),
    "an adapter": (lambda f: edit_json(f / "config.json", lambda d: d.update(use_peft=True)), "merge it into the base"),
    "relative actions": (
        lambda f: edit_json(f / "config.json", lambda d: d.update(use_relative_actions=True)),
        "its actions are relative to the state",
    ),
    "relative actions in the pipeline": (
        lerobot_step(
            "device_processor",
            lambda step: step.update(registry_name="delta_actions_processor", config={"enabled": True}),
        ),
        "policy_preprocessor.json: its actions are relative to the state",
    ),
    "past states": (
        lambda f: edit_json(f / "config.json", lambda d: d.update(use_proprioceptive_memory=True)),
        "it feeds past states",
    ),
    "no pipeline": (lambda f: (f / "policy_preprocessor.json").unlink(), "migrate_policy_normalization"),
    "no pipeline back": (lambda f: (f / "policy_postprocessor.json").unlink(), "policy_postprocessor.json is missing"),
    "no step that normalises": (
        lerobot_step("normalizer_processor", lambda step: step.update(registry_name="nothing")),
        "has no step 'normalizer_processor' with a config",
    ),
    "a mode that flexor does not have": (
        lerobot_step("normalizer_processor", lambda step: step["config"]["norm_map"].update(STATE="QUANTILE10")),
        "normalises STATE by 'QUANTILE10'; expected one of QUANTILES, MEAN_STD, MIN_MAX",
    ),
    "a mode that is missing": (
        lerobot_step("normalizer_processor", lambda step: step["config"]["norm_map"].pop("ACTION")),
        "normalises ACTION by None",
    ),
    "images normalised": (
        lerobot_step("normalizer_processor", lambda step: step["config"]["norm_map"].update(VISUAL="MEAN_STD")),
        "normalises images by MEAN_STD",
    ),
    "the state left alone": (
        lerobot_step("normalizer_processor", lambda step: step["config"].update(normalize_observation_keys=[])),
        "leaves observation.state as it is",
    ),
    "no file with statistics": (
        lerobot_step("normalizer_processor", lambda step: step.pop("state_file")),
        "names no state file with statistics of observation.state; .*--stats FILE",
    ),
    "statistics without the state's std": (
        without_stat,
        "statistics of observation.state lack std, which normalisation 'mean_std' needs; without them nothing",
    ),
    "statistics gone": (
        lambda f: (f / "policy_postprocessor_step_0_unnormalizer_processor.safetensors").unlink(),
        "policy_postprocessor_step_0_unnormalizer_processor.safetensors cannot be read",
    ),
    "cameras that nothing shows": (
        lambda f: edit_json(
            f / "config.json",
            lambda d: d.update(input_features={"observation.images.laptop": {"type": "VISUAL", "shape": [3, 9, 9]}}),
        ),
        r"no image slot of laptop shows a camera of the robot; say which with --camera SLOT=CAMERA",
    ),
    "no chunk size": (lambda f: edit_json(f / "config.json", lambda d: d.pop("chunk_size")), "chunk_size is None"),
}


@pytest.mark.parametrize("case", LEROBOT)
def test_a_lerobot_folder_that_cannot_be_followed_is_refused(case: str, tmp_path: Path) -> None:
    change, message = LEROBOT[case]
    checkpoint = write_lerobot(tmp_path / "checkpoint")
    change(checkpoint)
    with pytest.raises(FlexorError, match=message):
        plan_import(checkpoint, "imported")


OPENTAU: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "continuous state": (lambda d: d.update(state_type="continuous"), "state_type is 'continuous'"),
    "responses": (lambda d: d.update(predict_response=True), "it writes a response before it acts"),
    "relative actions": (lambda d: d.update(delta_action_state_map={"0": 0}), "its actions are relative to the state"),
    "another policy": (lambda d: d.update(type="pi07"), "is of a 'pi07' policy"),
    "quantiles, which it does not hold": (
        lambda d: d["normalization_mapping"].update(STATE="QUANTILE"),
        "buffers normalize_inputs.buffer_state lack q01, q99",
    ),
    "a third camera, which was never masked": (
        lambda d: d["input_features"].update(camera2={"type": "VISUAL", "shape": [3, 224, 224]}),
        "nothing fills the image slot 'camera2', which was never masked",
    ),
}


@pytest.mark.parametrize("case", OPENTAU)
def test_an_opentau_folder_that_cannot_be_followed_is_refused(case: str, tmp_path: Path) -> None:
    change, message = OPENTAU[case]
    checkpoint = write_opentau(tmp_path / "checkpoint", "0.2")
    edit_json(checkpoint / "config.json", change)
    with pytest.raises(FlexorError, match=message):
        plan_import(checkpoint, "imported")


def test_several_data_sets_must_be_chosen_from(tmp_path: Path) -> None:
    checkpoint = write_opentau(tmp_path / "checkpoint", "0.5", datasets=2)
    with pytest.raises(FlexorError, match=r"trained on 2 data sets, set0, set1; choose whose statistics .* --dataset"):
        plan_import(checkpoint, "imported")
