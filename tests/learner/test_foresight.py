"""Foresight: hindsight from the recording alone, and a head that leaves no trace in the policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flexor.learner.foresight import Foresight, waypoints
from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05


def rows(closing: list[int], episode: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples whose gripper frame stands at (i, 0, 10 * i) and closes where `closing` says."""
    count = len(closing)
    states = np.zeros((count, 8), np.float32)
    states[:, 0], states[:, 2] = np.arange(count), 10 * np.arange(count)
    actions = np.full((count, 10, 7), -1.0, np.float32)
    actions[:, 0, 6] = np.where(np.array(closing) > 0, 1.0, -1.0)
    return states, actions, np.full(count, episode, np.int64)


def test_the_next_grasp_and_the_last_release_of_a_hand_made_episode() -> None:
    # open 0 1, closed 2 3, dropped: open 4, closed 5 6, let go: open 7 8
    places, known = waypoints(*rows([0, 0, 1, 1, 0, 1, 1, 0, 0]))
    assert known[:, 0].tolist() == [True, True, False, False, True, False, False, False, False]
    assert places[[0, 1, 4], 0].tolist() == [[2, 0, 20], [2, 0, 20], [5, 0, 50]]
    assert known[:, 1].tolist() == [True] * 7 + [False] * 2
    assert places[:7, 1].tolist() == [[6, 0, 60]] * 7


def test_episodes_do_not_look_into_each_other_nor_where_nothing_was_grasped() -> None:
    first, second = rows([0, 0], 0), rows([0, 1], 1)
    joined = tuple(np.concatenate(parts) for parts in zip(first, second, strict=True))
    _, known = waypoints(*joined)
    assert known.tolist() == [[False, False], [False, False], [True, True], [False, True]]


@pytest.fixture
def model() -> Pi05:
    made = Pi05(PRESETS["pi05-micro"])
    randomise(made, 0)
    return made


def encode(model: Pi05, seed: int = 0) -> None:
    size = model.config.vision.image_size
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((3, 2, 3, size, size), generator=generator) * 2 - 1
    model.encode(images, torch.arange(1, 16).reshape(3, 5))


def test_its_loss_counts_only_events_to_come(model: Pi05) -> None:
    foresight = Foresight(model)
    encode(model)
    places = torch.full((3, 2, 3), 2.0)
    places[0] = 100.0
    known = torch.tensor([[False, False], [True, False], [True, True]])
    # the head starts at zero, so every error is 2 squared
    assert foresight.loss(2 * model.config.vision.tokens, places, known).item() == pytest.approx(4.0)


def test_with_no_event_to_come_it_is_zero_and_not_nan(model: Pi05) -> None:
    foresight = Foresight(model)
    encode(model)
    assert foresight.loss(0, torch.ones(3, 2, 3), torch.zeros(3, 2, dtype=torch.bool)).item() == 0.0


def test_its_gradient_reaches_the_word_embeddings_and_the_eyes(model: Pi05) -> None:
    foresight = Foresight(model)
    torch.nn.init.normal_(foresight.head.weight)
    encode(model)
    foresight.loss(2 * model.config.vision.tokens, torch.ones(3, 2, 3), torch.ones(3, 2, dtype=torch.bool)).backward()
    for parameter in (model.token_embedding.weight, next(model.vision.parameters())):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_it_adds_nothing_to_what_the_model_saves(model: Pi05) -> None:
    names = list(model.state_dict())
    Foresight(model)
    assert list(model.state_dict()) == names


def test_it_refuses_to_answer_before_anything_was_encoded(model: Pi05) -> None:
    with pytest.raises(RuntimeError, match="encode"):
        Foresight(model).loss(0, torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
