"""The objective: flow times as in openpi, clean prefixes at time 0, loss on the rest only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flexor.pi05.flow import flow_loss, sample_time
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix

Draw = Callable[[Pi05, int, int, int], tuple[Tensor, Tensor]]


class Oracle(Pi05):
    """Knows the true actions: right on noised tokens by `error`, absurd on clean ones; keeps what it was asked."""

    actions: Tensor
    error: float

    def velocity(self, prefix: Prefix, x: Tensor, time: Tensor) -> Tensor:
        self.asked = x, time
        exact = (x - self.actions[:, None]) / time.clamp(min=1e-3)[..., None]
        return torch.where(time[..., None] > 0, exact + self.error, 1e9)


@pytest.fixture
def oracle(micro: Pi05) -> Oracle:
    model = Oracle(micro.config)
    model.load_state_dict(micro.state_dict())
    model.actions, model.error = torch.randn(6, 10, 7), 0.0
    return model


def test_times_follow_beta_three_halves_one() -> None:
    times = sample_time((200_000,), torch.Generator().manual_seed(0)).double()
    assert times.min() >= 0.001 and times.max() <= 1.0
    assert times.mean().item() == pytest.approx(0.6 * 0.999 + 0.001, abs=3e-3)
    for quantile in (0.1, 0.5, 0.9):
        expected = quantile ** (2 / 3) * 0.999 + 0.001
        assert times.quantile(quantile).item() == pytest.approx(expected, abs=5e-3)


def test_clean_actions_are_untouched_at_time_zero_and_their_number_covers_the_range(
    oracle: Oracle, inputs: Draw
) -> None:
    prefix = oracle.encode(*inputs(oracle, 6, 1, 4))
    flow_loss(oracle, prefix, oracle.actions, draws=64, max_delay=5, generator=torch.Generator().manual_seed(1))
    x, time = oracle.asked
    clean = time == 0.0
    delays = clean.sum(dim=-1)
    assert sorted(delays.unique().tolist()) == [0, 1, 2, 3, 4, 5]
    assert torch.equal(clean, torch.arange(10) < delays[..., None])
    assert torch.equal(x[clean], oracle.actions[:, None].expand_as(x)[clean])
    noised = time.masked_fill(clean, float("nan"))
    assert torch.equal(noised.nan_to_num(0.0).amax(-1), noised.nan_to_num(9.0).amin(-1))


def test_of_what_is_beyond_reach_nothing_is_asked(oracle: Oracle, inputs: Draw) -> None:
    prefix = oracle.encode(*inputs(oracle, 6, 1, 4))
    wrong = oracle.actions.clone()
    reach = torch.tensor([10, 1, 4, 7, 10, 2])
    for sample, known in enumerate(reach.tolist()):
        wrong[sample, known:] = 99.0  # the oracle does not know it
    loss, each = flow_loss(oracle, prefix, wrong, 64, 5, torch.Generator().manual_seed(1), oracle.actions, reach)
    assert loss.item() == pytest.approx(0.0, abs=1e-3)
    assert each.abs().max().item() == pytest.approx(0.0, abs=1e-3)  # also where all that is known was committed
    assert flow_loss(oracle, prefix, wrong, 64, 5, torch.Generator().manual_seed(1), oracle.actions)[0].item() > 1.0


def test_committed_actions_are_shown_in_place_of_the_clean_ones_and_nowhere_else(oracle: Oracle, inputs: Draw) -> None:
    prefix = oracle.encode(*inputs(oracle, 6, 1, 4))
    committed = torch.full_like(oracle.actions, 7.0)
    loss, _ = flow_loss(oracle, prefix, oracle.actions, 64, 5, torch.Generator().manual_seed(1), committed)
    x, time = oracle.asked
    assert (x[time == 0.0] == 7.0).all()
    assert not (x[time > 0.0] == 7.0).any()
    assert loss.item() == pytest.approx(0.0, abs=1e-3)  # what is asked for on the rest has not changed


def test_the_loss_sees_noised_actions_only(oracle: Oracle, inputs: Draw) -> None:
    prefix = oracle.encode(*inputs(oracle, 6, 1, 4))
    for error in (0.0, 0.5):
        oracle.error = error
        loss, per_draw = flow_loss(oracle, prefix, oracle.actions, 8, 5, torch.Generator().manual_seed(1))
        assert loss.item() == pytest.approx(error**2, abs=1e-3)
        assert per_draw.shape == (6, 8)
        assert (per_draw - error**2).abs().max() <= 1e-2


def test_noised_actions_lie_between_standard_noise_and_the_actions(oracle: Oracle, inputs: Draw) -> None:
    prefix = oracle.encode(*inputs(oracle, 6, 1, 4))
    flow_loss(oracle, prefix, oracle.actions, 200, 0, torch.Generator().manual_seed(1))
    x, time = oracle.asked
    noise = (x - (1 - time[..., None]) * oracle.actions[:, None]) / time[..., None]
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02


def test_the_loss_of_the_model_is_the_plain_mean_without_delay(micro: Pi05, inputs: Draw) -> None:
    prefix, actions = micro.encode(*inputs(micro, 2, 1, 4)), torch.randn(2, 10, 7)
    loss, per_draw = flow_loss(micro, prefix, actions, 3, 0, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    time = sample_time((2, 3, 1), generator)
    noise = torch.randn(2, 3, 10, 7, generator=generator)
    x = time[..., None] * noise + (1 - time[..., None]) * actions[:, None]
    errors = (micro.velocity(prefix, x, time.expand(-1, -1, 10)) - (noise - actions[:, None])).square()
    assert loss.item() == pytest.approx(errors.mean().item(), rel=1e-5)
    assert (per_draw - errors.mean(dim=(2, 3))).abs().max() <= 1e-5


def test_the_same_generator_gives_the_same_loss(micro: Pi05, inputs: Draw) -> None:
    prefix, actions = micro.encode(*inputs(micro, 2, 1, 4)), torch.randn(2, 10, 7)
    losses = [flow_loss(micro, prefix, actions, 4, 5, torch.Generator().manual_seed(s))[0].item() for s in (7, 7, 8)]
    assert losses[0] == losses[1] != losses[2]


def test_bfloat16_autocast_gives_nearly_the_same_loss_and_finite_gradients(micro: Pi05, inputs: Draw) -> None:
    images, tokens = inputs(micro, 4, 2, 9)
    mask = torch.arange(9) < torch.tensor([[9], [7], [5], [9]])
    actions = torch.randn(4, 10, 7)
    micro.requires_grad_(True)
    exact, _ = flow_loss(micro, micro.encode(images, tokens, None, mask), actions, 4, 5, torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = flow_loss(micro, micro.encode(images, tokens, None, mask), actions, 4, 5, torch.Generator())
    rough.backward()
    assert rough.item() == pytest.approx(exact.item(), rel=0.01)
    assert all(p.grad.isfinite().all() for p in micro.parameters() if p.grad is not None)


def test_numbers_out_of_range_are_refused(micro: Pi05, inputs: Draw) -> None:
    prefix, actions = micro.encode(*inputs(micro, 1, 1, 4)), torch.randn(1, 10, 7)
    with pytest.raises(ValueError, match="draws is 0"):
        flow_loss(micro, prefix, actions, 0, 5, torch.Generator())
    with pytest.raises(ValueError, match=r"max_delay is 10; expected 0..9"):
        flow_loss(micro, prefix, actions, 1, 10, torch.Generator())
