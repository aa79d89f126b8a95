"""What else could have been asked for: found by scene, said in its own words, asked before the first grasp."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import CAMERAS

from flexor.errors import FlexorError
from flexor.learner.batches import Batches, Others, all_sentences
from flexor.learner.curves import read_curves
from flexor.learner.demonstrations import Demonstrations, load_demonstrations
from flexor.learner.elsewhere import read_elsewhere
from flexor.learner.foresight import Foresight, untouched
from flexor.learner.prompt_table import PromptTable, build_tokenizer
from flexor.learner.settings import PretrainSettings
from flexor.learner.statistics import measure_statistics
from flexor.learner.trainer import Trainer
from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import Normalizer

MICRO = PRESETS["pi05-micro"]
ROBOT = "sim:made-up"


def note(path: Path, scenes: dict[str, dict[str, list[float]]]) -> Path:
    path.write_text(json.dumps({ROBOT: scenes}))
    return path


def test_the_others_of_an_episode_are_found_by_its_scene_and_the_one_it_shows_is_none(tmp_path: Path):
    path = note(tmp_path / "elsewhere.json", {"red:3": {"red": [1, 1, 1], "blue": [0.1, 0.2, 0.3]}})
    origins = [(ROBOT, "red", "3"), (ROBOT, "blue@red", "3"), (ROBOT, "red", "4"), ("sim:else", "red", "3")]
    found = read_elsewhere(path, origins, ["blue", "blue@red", "red"])
    # the second episode asks for blue by another name, and what "blue" comes to there is the same place
    assert found.tasks.tolist() == [[0, -1], [2, 0], [-1, -1], [-1, -1]]
    assert found.places[0, 0] == pytest.approx([0.1, 0.2, 0.3])
    assert found.places[1, 0].tolist() == [1, 1, 1]


def test_what_has_no_sentence_is_left_out_and_no_file_means_nothing_else(tmp_path: Path):
    path = note(tmp_path / "elsewhere.json", {"red:3": {"green@red": [1, 1, 1], "blue@red": [2, 2, 2]}})
    assert read_elsewhere(path, [(ROBOT, "red", "3")], ["blue", "red"]).tasks.tolist() == [[0]]
    assert read_elsewhere(tmp_path / "none.json", [(ROBOT, "red", "3")], ["red"]).tasks.shape == (1, 0)


@pytest.mark.parametrize("text", ["[]", "{", '{"sim:made-up": {"red:3": {"blue": [1, 2]}}}', '{"sim:made-up": [1]}'])
def test_another_form_is_refused_by_name(tmp_path: Path, text: str):
    path = tmp_path / "elsewhere.json"
    path.write_text(text)
    with pytest.raises(FlexorError, match=r"elsewhere\.json does not have the form"):
        read_elsewhere(path, [(ROBOT, "red", "3")], ["blue", "red"])


def test_untouched_ends_with_the_first_grasp_and_never_begins_without_one():
    actions = np.full((9, 10, 7), -1.0, np.float32)
    actions[[2, 3, 5], 0, 6] = 1.0
    assert untouched(actions, np.array([0] * 6 + [1] * 3)).tolist() == [True, True] + [False] * 7


@pytest.fixture
def asked(recordings: Path, tmp_path: Path) -> Demonstrations:
    """The recordings, where in every scene of "red" blue stands at (i, 15, 12) cm, i being its seed."""
    root = tmp_path / "asked"
    shutil.copytree(recordings, root)
    note(root / "elsewhere.json", {f"red:{seed}": {"blue": [seed / 100, 0.15, 0.12]} for seed in range(10)})
    return load_demonstrations(root, CAMERAS, MICRO.vision.image_size, MICRO.horizon)


def batches(demonstrations: Demonstrations, **changes: float) -> Batches:
    values = {"preset": "pi05-micro", "samples": 1, "batch": 16, "held_out": 0.3, "word_dropout": 0, **changes}
    statistics = measure_statistics(demonstrations.states, demonstrations.actions)
    prompts = PromptTable(build_tokenizer(demonstrations.sentences, MICRO), all_sentences(demonstrations), 8)
    state, actions = (Normalizer("quantile", statistics[name]) for name in ("state", "actions"))
    settings = PretrainSettings.model_validate(values)
    return Batches(demonstrations, prompts, state, actions, settings, torch.device("cpu"))


def drawn(source: Batches) -> list[Others]:
    return [others for step in range(20) if (others := source.draw(step).others) is not None]


def test_another_sentence_is_said_with_its_own_place(asked: Demonstrations):
    source = batches(asked)
    told = drawn(source)
    assert told
    tokenizer = build_tokenizer(asked.sentences, MICRO)
    words = [set(tokenizer.encode(text)) for text in asked.sentences[asked.task_names.index("blue")].train]
    state = Normalizer("quantile", measure_statistics(asked.states, asked.actions)["state"])
    seeds = set()
    for others in told:
        for tokens, place in zip(others.tokens.tolist(), others.places, strict=True):
            assert any(sentence <= set(tokens) for sentence in words)
            padded = np.zeros((1, 8), np.float32)
            padded[0, :3] = place
            where = state.unnormalize(padded)[0, :3]
            assert where[1:] == pytest.approx([0.15, 0.12], abs=1e-6)
            seeds.add(round(float(where[0]) * 100))
    assert seeds <= set(range(10)) and len(seeds) > 1


def test_it_is_asked_of_samples_of_such_scenes_before_the_grasp_alone(asked: Demonstrations):
    source = batches(asked, shift_pixels=0, brightness=0, contrast=0, colour=0)
    red = asked.tasks == asked.task_names.index("red")
    allowed = red & untouched(asked.actions, asked.episodes)
    for step in range(20):
        batch = source.draw(step)
        pixels = ((batch.images + 1) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
        rows = [int(np.flatnonzero((asked.images == image).all(axis=(1, 2, 3, 4)))[0]) for image in pixels]
        chosen = [] if batch.others is None else batch.others.rows.tolist()
        may = [place for place, row in enumerate(rows) if allowed[row]]
        assert set(chosen) <= set(may) and len(chosen) == min(4, len(may))  # a quarter of 16
        assert chosen == sorted(set(chosen))


def test_what_else_is_asked_changes_nothing_of_the_rest_and_can_be_left_out(
    asked: Demonstrations, demonstrations: Demonstrations
):
    with_, without, none = batches(asked).draw(3), batches(asked, elsewhere=0).draw(3), batches(demonstrations).draw(3)
    assert with_.others is not None and without.others is None and none.others is None
    for name in ("images", "tokens", "actions", "committed"):
        assert torch.equal(getattr(with_, name), getattr(without, name))
    assert all(batch.others is None for batch in batches(asked).held_out("train"))


def test_the_grasp_loss_is_of_the_next_grasp_alone():
    model = Pi05(MICRO)
    randomise(model, 0)
    foresight = Foresight(model)
    torch.nn.init.zeros_(foresight.head.weight)
    foresight.head.bias.data = torch.tensor([1.0, 2.0, 3.0, 50.0, 50.0, 50.0])
    size = MICRO.vision.image_size
    model.encode(torch.zeros(2, 2, 3, size, size), torch.arange(1, 11).reshape(2, 5))
    places = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 6.0]])
    assert foresight.grasp_loss(2 * MICRO.vision.tokens, places).item() == pytest.approx(9 / 6)


def test_a_trainer_learns_from_it_and_its_curve_says_so(asked: Demonstrations, tmp_path: Path):
    values = {"preset": "pi05-micro", "batch": 16, "samples": 16 * 60, "held_out": 0.3, "precision": "fp32"}
    changes = {"log_steps": 1, "warmup_steps": 1, "evaluation_samples": 8, "evaluate_steps": 1000}
    trainer = Trainer(asked, PretrainSettings.model_validate({**values, **changes}), tmp_path / "run")
    trainer.run(lambda standing: None)
    losses = [
        row["train/elsewhere"] for row in read_curves(tmp_path / "run" / "curves.jsonl") if "train/elsewhere" in row
    ]
    assert np.mean([loss for loss in losses[-15:] if loss]) < 0.5 * np.mean([loss for loss in losses[:5] if loss])
