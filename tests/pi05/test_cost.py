"""Operations and bytes of a call, against sums made by hand and against the real layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flexor.pi05.config import PRESETS
from flexor.pi05.cost import Cost, call_cost, prefix_cost, step_cost, vision_cost
from flexor.pi05.init import randomise
from flexor.pi05.model import Pi05

PI05 = replace(PRESETS["pi05"], horizon=10)


@pytest.mark.parametrize(
    ("views", "horizon", "teraflops"), [(2, 10, 3.251), (3, 10, 4.493), (2, 50, 3.545), (3, 50, 4.803)]
)
def test_the_whole_call_at_full_size(views: int, horizon: int, teraflops: float) -> None:
    """Sums made by hand for 200 prompt tokens and ten steps."""
    cost = call_cost(replace(PI05, horizon=horizon), views, 200, 10)
    assert sum(phase.flops for phase in cost.values()) / 1e12 == pytest.approx(teraflops, rel=2e-3)


def test_the_phases_at_full_size() -> None:
    """2 * 256 * 27 * (4 * 1152^2 + 2 * 1152 * 4304) + ...; 412 M + 2.4 M and 311 M weights of 2 bytes."""
    assert vision_cost(PI05, 1, 2).flops / 1e9 == pytest.approx(220.2, rel=1e-3)
    assert vision_cost(PI05, 1, 2).bytes / 1e9 == pytest.approx(0.830, rel=3e-3)  # biases and positions left out
    step = step_cost(PI05, 712, 1, 2, 2)
    assert step.bytes / 1e9 == pytest.approx(0.623 + 0.0131, rel=1e-3)
    assert step.flops / 1e9 == pytest.approx(7.29, rel=1e-2)  # 7.53 less the 0.233 of the modulations
    whole = 17 * 110_100_480 + 2 * 2048 * 256
    assert prefix_cost(PI05, 712, 1).bytes == whole


def test_the_counts_are_those_of_the_real_layers() -> None:
    """torch counts what the eager model multiplies; it skips nothing, so its time embedding is taken off."""
    config = PRESETS["pi05-nano"]
    model = Pi05(config)
    randomise(model, 0)
    images, tokens = torch.zeros(1, 2, 3, 96, 96), torch.ones(1, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        prefix = model.encode(images, tokens)
    expected = call_cost(config, 2, 20, 1)
    assert counted.get_total_flops() == expected["vision"].flops + expected["prefix"].flops
    x, table = torch.zeros(1, 3, 10, 7), model.modulations(torch.ones(1))[:, None, None]
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.velocity_from(prefix, x, table.detach())
    assert counted.get_total_flops() == step_cost(config, 92, 3, 2, 2).flops


def test_more_samples_read_the_weights_once_and_steps_read_them_anew() -> None:
    one, many, longer = (call_cost(PI05, 2, 24, steps, n)["expert"] for steps, n in ((10, 1), (10, 8), (20, 1)))
    assert many.bytes == one.bytes and many.flops == 8 * one.flops
    assert longer.bytes == 2 * one.bytes and longer.flops == 2 * one.flops


def test_the_floor_is_the_slower_of_computing_and_reading() -> None:
    assert Cost(100.0, 10.0).floor_s(50.0, 10.0) == 2.0
    assert Cost(100.0, 10.0).floor_s(1000.0, 5.0) == 2.0
    assert Cost(1.0, 2.0) + Cost(3.0, 4.0) == Cost(4.0, 6.0) == Cost(2.0, 3.0) * 2
