"""Batches follow from (seed, step) alone, keep to the training episodes, and say the sentences they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flexor.learner.batches import Batches, all_sentences, sentence_numbers
from flexor.learner.demonstrations import Demonstrations
from flexor.learner.prompt_table import PromptTable, build_tokenizer
from flexor.learner.settings import PretrainSettings
from flexor.learner.statistics import measure_statistics
from flexor.pi05.config import PRESETS
from flexor.pi05.normalize import Normalizer

PLAIN = {"shift_pixels": 0, "brightness": 0, "contrast": 0, "colour": 0, "state_noise": 0, "word_dropout": 0}
SURE = {"prefix_noise": 0, "prefix_flips": 0}


def batches(demonstrations: Demonstrations, **changes) -> Batches:
    settings = PretrainSettings.model_validate(
        {"preset": "pi05-micro", "samples": 1, "batch": 8, "held_out": 0.3, **changes}
    )
    statistics = measure_statistics(demonstrations.states, demonstrations.actions)
    tokenizer = build_tokenizer(demonstrations.sentences, PRESETS["pi05-micro"])
    prompts = PromptTable(tokenizer, all_sentences(demonstrations), 8)
    state, actions = (Normalizer("quantile", statistics[name]) for name in ("state", "actions"))
    return Batches(demonstrations, prompts, state, actions, settings, torch.device("cpu"))


def rows_of(demonstrations: Demonstrations, images: torch.Tensor) -> list[int]:
    """Which samples unaugmented images are of."""
    pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
    return [int(np.flatnonzero((demonstrations.images == image).all(axis=(1, 2, 3, 4)))[0]) for image in pixels]


def test_the_same_step_gives_the_same_batch_whatever_was_drawn_before(demonstrations: Demonstrations):
    steady, jumping = batches(demonstrations), batches(demonstrations)
    drawn = [steady.draw(step) for step in range(30)]
    for step in (29, 3, 17):
        again = jumping.draw(step)
        for name in ("images", "tokens", "token_mask", "actions", "committed"):
            assert torch.equal(getattr(again, name), getattr(drawn[step], name)), (step, name)
        ours, theirs = (torch.rand(4, generator=batch.generator) for batch in (again, drawn[step]))
        assert torch.equal(ours, theirs)


def test_an_epoch_uses_every_training_sample_once_and_no_held_out_one(demonstrations: Demonstrations):
    training, held_out = demonstrations.split(0.3)
    source = batches(demonstrations, batch=len(training) // 4, **PLAIN)
    assert len(training) % 4 == 0
    for epoch in range(2):
        images = torch.cat([source.draw(4 * epoch + part).images for part in range(4)])
        assert sorted(rows_of(demonstrations, images)) == training.tolist()
    evaluated = torch.cat([batch.images for batch in source.held_out("train")])
    assert sorted(rows_of(demonstrations, evaluated)) == held_out.tolist()


def test_held_out_samples_are_the_same_at_every_call(demonstrations: Demonstrations):
    source = batches(demonstrations, evaluation_samples=12)
    first, again = (list(source.held_out("held_out")) for _ in range(2))
    assert [len(batch.actions) for batch in first] == [8, 4]
    for ours, theirs in zip(first, again, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.tokens, theirs.tokens)


@pytest.mark.parametrize("kind", ["train", "held_out"])
def test_a_sample_is_told_a_sentence_of_its_task_and_kind(demonstrations: Demonstrations, kind: str):
    texts, numbers = all_sentences(demonstrations), sentence_numbers(demonstrations)[kind]
    for task, (first, end) in enumerate(numbers):
        assert texts[first:end] == list(getattr(demonstrations.sentences[task], kind))


def test_every_training_sentence_is_said_in_time(demonstrations: Demonstrations):
    source = batches(demonstrations, **PLAIN)
    tokenizer = build_tokenizer(demonstrations.sentences, PRESETS["pi05-micro"])
    said = {tuple(row) for step in range(40) for row in source.draw(step).tokens.tolist()}
    for kinds in demonstrations.sentences:
        for text in kinds.train:
            words = tokenizer.encode(f"Task: {text}, State:").tolist()
            assert any(list(row[: len(words)]) == words for row in said), text


def test_augmentation_changes_frames_and_states_but_not_actions(demonstrations: Demonstrations):
    plain, varied = batches(demonstrations, **PLAIN).draw(0), batches(demonstrations).draw(0)
    assert not torch.equal(plain.images, varied.images)
    assert not torch.equal(plain.tokens, varied.tokens)
    assert torch.equal(plain.actions, varied.actions)


def test_committed_actions_are_those_that_were_played_and_doubted_only_in_training(demonstrations: Demonstrations):
    statistics = measure_statistics(demonstrations.states, demonstrations.actions)
    played = Normalizer("quantile", statistics["actions"]).normalize(demonstrations.played)
    sure, doubted = batches(demonstrations, **PLAIN, **SURE), batches(demonstrations, **PLAIN)
    for batch in (sure.draw(0), next(sure.held_out("train")), next(doubted.held_out("train"))):
        np.testing.assert_array_equal(batch.committed, played[rows_of(demonstrations, batch.images)])
        assert not torch.equal(batch.committed, batch.actions)
    assert not torch.equal(doubted.draw(0).committed, sure.draw(0).committed)


def test_the_gripper_is_not_rescaled_and_a_still_channel_is_not_blown_up(demonstrations: Demonstrations):
    statistics = measure_statistics(demonstrations.states, demonstrations.actions)
    actions = Normalizer("quantile", statistics["actions"]).normalize(demonstrations.actions)
    np.testing.assert_allclose(actions[..., 6], demonstrations.actions[..., 6], atol=1e-5)
    assert np.abs(actions[..., 3:6]).max() < 1e-4
    assert (statistics["actions"].q99 - statistics["actions"].q01)[3] == pytest.approx(0.05)
