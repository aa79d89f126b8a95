"""Training end to end: it learns, it writes a bundle that serves, and it refuses what cannot work before it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import CAMERAS, SENTENCES, record
from safetensors.numpy import load_file

from flexor.errors import FlexorError
from flexor.learner.curves import read_curves
from flexor.learner.pretrain import Watcher, pretrain
from flexor.learner.settings import PretrainSettings
from flexor.learner.trainer import choose_device
from flexor.runtime.episodes.index import EpisodeIndex
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.inference.policy import Policy
from flexor.runtime.observation import Observation

QUIET = Watcher(lambda done, total: None, lambda standing: None)
SMALL: dict[str, Any] = {"preset": "pi05-micro", "batch": 16, "warmup_steps": 5, "held_out": 0.2, "log_steps": 5}


def settings(**changes: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({**SMALL, "samples": 640, **changes})


@pytest.fixture(scope="module")
def trained(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle trained for 60 steps, and what the training said."""
    out = tmp_path_factory.mktemp("trained") / "small-one"
    return out, pretrain(recordings, out, settings(samples=960, evaluate_steps=30), QUIET)


def test_the_loss_falls_on_both_training_and_held_out_samples(trained: tuple[Path, dict[str, Any]]):
    rows = read_curves(trained[0].with_name("small-one.training") / "curves.jsonl")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    held_out = [row["held_out_episodes/loss"] for row in rows if "held_out_episodes/loss" in row]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]
    assert len(held_out) == 2
    assert held_out[-1] < held_out[0]


def test_the_bundle_answers_an_observation_with_a_chunk(trained: tuple[Path, dict[str, Any]]):
    bundle = Bundle.open(trained[0])
    policy = Policy(bundle, open_engine(bundle))
    frame = np.zeros((48, 48, 3), np.uint8)
    state = np.array([0, 0, 0, 3.1, 0, 0, 0.02, -0.02], np.float32)
    prompt = SENTENCES["red"]["held_out"][0]
    chunk = policy.infer(Observation(dict.fromkeys(CAMERAS, frame), state, prompt), noise_seed=0)
    assert chunk.actions.shape == (10, 7)
    assert np.isfinite(chunk.actions).all()


def test_the_bundle_says_how_it_is_meant_to_be_run_and_where_it_came_from(trained: tuple[Path, dict[str, Any]]):
    out, result = trained
    config = Bundle.open(out).config
    assert (config.name, config.cameras, config.hz) == ("small-one", CAMERAS, 20.0)
    assert (config.replan, config.rtc_max_delay, config.flow_steps, config.state_dim) == (5, 5, 10, 8)
    assert config.origin["samples"] == result["samples"] == 960
    assert config.origin["settings"]["preset"] == "pi05-micro"
    assert result["episodes"] == 10


def test_the_successes_it_learned_from_are_marked_with_the_bundle_and_nothing_else(tmp_path: Path):
    record(tmp_path / "data", episodes=10, steps=4)
    (failed,) = record(tmp_path / "data", episodes=1, steps=4, outcome="failure")

    def on_episode(done: int, total: int) -> None:
        if done == total:
            later.extend(record(tmp_path / "data", episodes=1, steps=4))

    later: list[Path] = []
    pretrain(tmp_path / "data", tmp_path / "small-one", settings(samples=16), Watcher(on_episode, lambda at: None))
    users = {row.id: row.used_by for row in EpisodeIndex(tmp_path / "data").episodes()}
    assert [users.pop(path.stem) for path in (failed, *later)] == [(), ()]
    assert len(users) == 10
    assert set(users.values()) == {(Bundle.open(tmp_path / "small-one").id,)}


def test_a_run_that_goes_on_from_a_bundle_begins_with_its_weights_words_and_normalisation(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    record(tmp_path / "data", episodes=14, steps=6)  # other numbers, so other statistics of their own
    begun = Path(shutil.copytree(trained[0], tmp_path / "begun"))
    told = json.loads((begun / "bundle.json").read_text())
    told["model"]["max_prompt_tokens"] += 9  # no weight depends on it
    (begun / "bundle.json").write_text(json.dumps(told))
    given = settings(samples=16, init=str(begun), muon_lr=1e-9, adamw_lr=1e-9, weight_decay=0)
    pretrain(tmp_path / "data", tmp_path / "next-one", given, QUIET)
    before, after = (load_file(path / "weights.safetensors") for path in (trained[0], tmp_path / "next-one"))
    for name, tensor in before.items():
        np.testing.assert_allclose(after[name], tensor, atol=1e-6, err_msg=name)
    for file in ("norm_stats.json", "tokenizer.json"):
        assert (tmp_path / "next-one" / file).read_bytes() == (trained[0] / file).read_bytes()
    assert Bundle.open(tmp_path / "next-one").config.origin["settings"]["init"] == Bundle.open(begun).id
    assert Bundle.open(tmp_path / "next-one").model_config == Bundle.open(trained[0]).model_config


def test_a_bundle_of_other_sizes_cannot_be_gone_on_from(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match=r"init pi05-nano: its sizes is .*another bundle"):
        pretrain(recordings, tmp_path / "small-one", settings(init="pi05-nano"), QUIET)


def test_the_bundle_holds_the_averaged_weights_as_float16(trained: tuple[Path, dict[str, Any]]):
    weights = load_file(trained[0] / "weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {np.dtype(np.float16)}
    checkpoint = load_file(trained[0].with_name("small-one.training") / "checkpoint.safetensors")
    for name, tensor in weights.items():
        np.testing.assert_array_equal(tensor, checkpoint[f"average/{name}"].astype(np.float16))


def test_a_finished_run_writes_the_same_bundle_again_without_training(
    trained: tuple[Path, dict[str, Any]], recordings: Path
):
    out, result = trained
    steps: list[int] = []
    watcher = Watcher(lambda done, total: None, lambda standing: steps.append(standing.step))
    again = pretrain(recordings, out, settings(samples=960, evaluate_steps=30), watcher)
    assert steps == []
    assert again["bundle_hash"] == result["bundle_hash"]


def test_other_sentences_are_another_run_because_they_give_the_token_ids_their_meaning(tmp_path: Path):
    record(tmp_path / "data", episodes=10)
    out = tmp_path / "told-anew"
    pretrain(tmp_path / "data", out, settings(samples=32), QUIET)
    words = {task: {**kinds, "train": ["another way to say it"]} for task, kinds in SENTENCES.items()}
    (tmp_path / "data" / "sentences.json").write_text(json.dumps(words))
    with pytest.raises(FlexorError, match=r"another run: sentences was"):
        pretrain(tmp_path / "data", out, settings(samples=64), QUIET)


def test_another_seed_is_another_run(trained: tuple[Path, dict[str, Any]], recordings: Path):
    with pytest.raises(FlexorError, match="seed was 0 and is now 1"):
        pretrain(recordings, trained[0], settings(samples=960, seed=1), QUIET)


def test_a_wall_budget_ends_a_run(recordings: Path, tmp_path: Path):
    spent: list[float] = []
    watcher = Watcher(lambda done, total: None, lambda standing: spent.append(standing.spent))
    wall = PretrainSettings.model_validate({**SMALL, "minutes": 0.01, "evaluation_samples": 8})
    result = pretrain(recordings, tmp_path / "short", wall, watcher)
    assert all(share < 1 for share in spent[:-1])
    assert spent[-1] >= 1
    assert result["steps"] == len(spent)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_weights(tmp_path: Path):
    record(tmp_path / "data", episodes=10, steps=6)
    with pytest.raises(FlexorError, match="the loss of step"):
        pretrain(tmp_path / "data", tmp_path / "wild", settings(muon_lr=1e30, adamw_lr=1e30, checkpoint_s=60), QUIET)
    assert not (tmp_path / "wild").exists()


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"preset": "pi06"}, "good", "preset 'pi06' is unknown"),
        ({}, "Bad Name", "bundle name 'Bad Name'"),
        ({"max_delay": 10}, "good", "rtc_max_delay is 10"),
        ({"replan": 11}, "good", "replan is 11"),
    ],
)
def test_what_cannot_become_a_bundle_is_refused_before_training(
    recordings: Path, tmp_path: Path, changes: dict[str, Any], name: str, said: str
):
    with pytest.raises(FlexorError, match=said):
        pretrain(recordings, tmp_path / name, settings(**changes), QUIET)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(recordings: Path, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    with pytest.raises(FlexorError, match="is no bundle"):
        pretrain(recordings, tmp_path / "thesis", settings(), QUIET)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years"


def test_two_budgets_or_none_are_refused():
    for budget in ({"samples": None}, {"samples": 1, "minutes": 1.0}):
        with pytest.raises(ValueError, match="give one budget"):
            settings(**budget)


def test_a_gpu_is_used_where_there_is_one_and_asked_for_in_vain_where_not():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(FlexorError, match="finds no GPU"):
            choose_device("cuda")


def test_the_bundle_is_plain_json_about_itself(trained: tuple[Path, dict[str, Any]]):
    about = json.loads((trained[0] / "bundle.json").read_text())
    assert about["origin"]["held_out_sentences/l1_xyz"] > 0
