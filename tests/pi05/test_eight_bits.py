"""Products of 8-bit weights by hand: rounding of e4m3, static scales, weights alone, channels with outliers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flexor.pi05.bnb8 import THRESHOLD, Bnb8
from flexor.pi05.config import PRESETS
from flexor.pi05.fp8 import Fp8, calibrate, observed, scale_of
from flexor.pi05.init import randomise
from flexor.pi05.int8 import Int8, Int8Weights, widened
from flexor.pi05.model import Pi05
from flexor.pi05.program import Program

BF16 = torch.bfloat16


def drawn(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("largest", "scale"), [(224.0, 1.0), (225.0, 2.0), (112.0, 0.5), (1.0, 2.0**-7), (448.0, 2.0), (0.0, 2.0**-47)]
)
def test_the_scale_is_the_power_of_two_that_leaves_room_for_twice_the_largest(largest: float, scale: float) -> None:
    assert scale_of(largest) == scale
    assert 2 * largest / scale <= 448


@pytest.mark.parametrize("by_scaled_mm", [True, False])
def test_e4m3_by_hand(by_scaled_mm: bool) -> None:
    """Three bits behind the point: 1.1 -> 1.125, 300 -> 288 (steps of 32 from 256 on), 0.003 -> 2^-9 * 2 (subnormal).

    The second channel has the scale 2: 448 * 2 = 896 is its largest.
    """
    weight, x = torch.zeros(16, 16), torch.zeros(1, 16)
    weight[0, :4] = torch.tensor([448.0, 1.1, 0.0, 1.0])
    weight[1, :4] = torch.tensor([-896.0, 0.0, 2.2, 0.0])
    x[0, :4] = torch.tensor([1.1, 300.0, 5.0, 0.003])
    product = Fp8(weight, None, by_scaled_mm)
    product.calibrate(224.0)  # scale 1
    found = product(x.to(BF16))[0]
    assert found.dtype == BF16
    assert found[0] == torch.tensor(448 * 1.125 + 1.125 * 288 + 2**-8).to(BF16)
    assert found[1] == torch.tensor(2 * (-448 * 1.125 + 1.125 * 5)).to(BF16)
    assert (found[2:] == 0).all()


@pytest.mark.parametrize("by_scaled_mm", [True, False])
def test_what_is_beyond_the_scale_is_cut_and_not_infinite(by_scaled_mm: bool) -> None:
    product = Fp8(torch.eye(16), None, by_scaled_mm)
    product.calibrate(1.0)  # scale 2^-7: 3.5 is the largest
    found = product(torch.tensor([[9.0, -9.0, 3.5, 3.0] + 12 * [0.0]], dtype=BF16))[0]
    assert found[:4].tolist() == [3.5, -3.5, 3.5, 3.0]


def test_both_ways_to_multiply_e4m3_agree() -> None:
    weight, rows = drawn(96, 160, 1), drawn(17, 160, 2).to(BF16)
    found = []
    for by_scaled_mm in (True, False):
        product = Fp8(weight, torch.ones(96), by_scaled_mm)
        product.calibrate(float(rows.abs().max()))
        found.append(product(rows).float())
    assert (found[0] - found[1]).abs().max() <= 2**-7 * found[1].abs().max()  # one is rounded once more, to bfloat16


def test_what_a_graph_recorded_stays_where_it_is_when_more_rows_come(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply, scales = torch._scaled_mm, []  # pyright: ignore[reportPrivateImportUsage]

    def recorded(x: Tensor, weight: Tensor, rows: Tensor, *more: Any, **options: Any) -> Tensor:
        scales.append(rows.data_ptr())
        return multiply(x, weight, rows, *more, **options)

    monkeypatch.setattr(torch, "_scaled_mm", recorded)
    product = Fp8(torch.eye(16), None, by_scaled_mm=True)
    product.calibrate(1.0)
    for rows in (4, 9, 4):
        product(torch.ones(rows, 16, dtype=BF16))
    assert scales[0] == scales[2]


def test_sizes_that_a_gpu_does_not_multiply_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 16; these are \[24, 32\]: use bf16"):
        Fp8(torch.ones(24, 32), None, by_scaled_mm=True)


def test_a_product_without_its_scale_remembers_the_largest_activation() -> None:
    product = Fp8(torch.eye(16), None)
    for largest in (2.0, -7.0, 3.0):
        product(torch.full((2, 16), largest, dtype=BF16))
    assert product.largest == 7.0


def test_a_program_observes_and_is_calibrated_product_by_product(inputs) -> None:
    model = Pi05(PRESETS["pi05-nano"])
    randomise(model, seed=4)
    images, tokens = inputs(model, 1, 2, 9)
    noise = torch.randn(1, 10, 7, generator=torch.Generator().manual_seed(5))

    def play(program: Program) -> Tensor:
        actions, _ = program.denoise(program.encode(images[0], tokens[0]), noise)
        return (actions - noise).flatten()

    exact, program = play(Program(model, 10)), Program(model, 10, "fp8", "fp8")
    half = play(program)
    seen = observed(program)
    vision, depth = 2, 4
    assert len(seen) == 4 * vision + 1 + 5 * (depth - 1) + 1 + 5 * depth
    assert all(largest > 0 for largest in seen.values())
    with pytest.raises(KeyError, match="keys_values"):
        calibrate(program, {name: largest for name, largest in seen.items() if "keys_values" not in name})
    calibrate(program, seen)
    whole = play(program)
    assert not torch.equal(half, whole)  # activations are rounded, too
    assert torch.nn.functional.cosine_similarity(exact, whole, dim=0) >= 0.97
    calibrate(program, {name: 1e3 * largest for name, largest in seen.items()})
    assert torch.nn.functional.cosine_similarity(exact, play(program), dim=0) >= 0.9  # it is floating point
    calibrate(Program(model, 10, "bf16", "fp8"), seen)  # a part of them


def test_weights_alone_are_rounded_by_the_scale_that_the_product_reads() -> None:
    weight, rows = drawn(96, 160, 1) * torch.linspace(0.01, 1.0, 96)[:, None], drawn(17, 160, 2).to(BF16)
    scales = (weight.abs().amax(dim=1) / 127).to(BF16).double()
    expected = (rows.double() @ (weight.double() / scales[:, None]).round().clamp(-127, 127).t()) * scales
    found = Int8Weights(weight, None)(rows).double()
    assert (found - expected).abs().max() <= 2**-7 * expected.abs().max()


def test_widening_as_a_gpu_does_it_gives_the_same() -> None:
    weight, rows = drawn(96, 160, 1), drawn(17, 160, 2).to(BF16)
    product = Int8Weights(weight, None)
    again = widened(rows, product._weight, product._scales)
    torch.testing.assert_close(product(rows), again, rtol=2**-6, atol=2**-6 * float(again.abs().max()))


@pytest.mark.parametrize("rows", [1, 10, 16, 17, 33])
def test_few_rows_are_filled_up_for_products_that_need_more(rows: int) -> None:
    weight, x = drawn(96, 160, 1), drawn(rows, 160, 2)
    torch.testing.assert_close(Int8(weight, None, by_onednn=False)(x), Int8(weight, None)(x), rtol=1e-5, atol=1e-5)


def test_an_outlier_does_not_cost_its_row_the_other_channels() -> None:
    """Rounded with the outlier's scale, 100 / 127, nearly all other channels are 0; here its own weights are 0."""
    weight, x = drawn(96, 160, 1), 0.1 * drawn(8, 160, 2)
    weight[:, 7], x[:, 7] = 0.0, 100.0
    assert THRESHOLD < 100.0
    exact = x @ weight.t()
    lost = {kind: float((kind(weight, None)(x) - exact).abs().max() / exact.abs().max()) for kind in (Bnb8, Int8)}
    assert lost[Bnb8] < 0.02 < 0.5 < lost[Int8]
