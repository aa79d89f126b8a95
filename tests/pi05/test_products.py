"""Products in each precision, against the same sums made by other means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flexor.pi05.config import PRESETS
from flexor.pi05.init import randomise
from flexor.pi05.int8 import Int8
from flexor.pi05.model import Pi05
from flexor.pi05.products import PRECISIONS, make_product
from flexor.pi05.program import Program

ROUNDING = {"fp32": 1e-6, "bf16": 8e-3, "int8": 2e-2, "int8w": 2e-2, "fp8": 6e-2, "bnb8": 2e-2}
"""What may be lost of the largest number of a result."""


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(96, 160, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.01, 1.0, 96)[:, None]


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(17, 160, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.01, 9.0, 17)[:, None]


@pytest.mark.parametrize(
    ("precision", "stream"),
    [(precision, torch.float32) for precision in PRECISIONS]
    + [(precision, torch.bfloat16) for precision in PRECISIONS if precision != "fp32"],
)
def test_a_product_is_x_times_the_weights_and_the_bias(
    precision: str, stream: torch.dtype, weight: Tensor, rows: Tensor
):
    bias = torch.linspace(-1.0, 1.0, 96)
    product, x = make_product(weight, bias, precision, stream), rows.to(stream)
    exact = x.double() @ weight.double().t() + bias
    found = product(x.view(17, 1, 160))
    assert found.shape == (17, 1, 96) and found.dtype == stream
    worst = ROUNDING[precision] if stream == torch.float32 else max(ROUNDING[precision], ROUNDING["bf16"])
    for row, wanted in zip(found[:, 0].double(), exact, strict=True):  # row by row: scales belong to rows
        assert (row - wanted).abs().max() <= worst * wanted.abs().max()
    to = torch.ones(17, 96, dtype=stream)
    assert (product.added(x, to).double() - 1 - exact).abs().max() <= 2 * worst * exact.abs().max()
    assert (to == 1).all()


@pytest.mark.parametrize("by_onednn", [True, False])
def test_8_bits_are_rounded_sums_of_bytes_with_two_scales(by_onednn: bool, weight: Tensor, rows: Tensor):
    """Every step in float64 by hand; both libraries do the same."""
    of_weight, of_row = weight.abs().amax(dim=1) / 127, rows.abs().amax(dim=1, keepdim=True) / 127
    bytes_of_weight, bytes_of_rows = (weight / of_weight[:, None]).round(), (rows * of_row.reciprocal()).round()
    expected = (bytes_of_rows.double() @ bytes_of_weight.double().t()) * of_weight * of_row
    found = Int8(weight, None, by_onednn)(rows)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("by_onednn", [True, False])
def test_rows_and_channels_of_zeros_stay_zero(by_onednn: bool, weight: Tensor, rows: Tensor):
    weight[5], rows[3] = 0.0, 0.0
    found = Int8(weight, None, by_onednn)(rows)
    assert (found[:, 5] == 0).all() and (found[3] == 0).all() and found.isfinite().all()


def test_a_product_owns_its_weights(weight: Tensor, rows: Tensor):
    products = [make_product(weight, None, precision, torch.float32) for precision in PRECISIONS[1:]]
    before = [product(rows) for product in products]
    weight.zero_()
    for product, found in zip(products, before, strict=True):
        torch.testing.assert_close(product(rows), found, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("prefix", "expert", "least"),
    [
        ("bf16", "fp32", 0.9995),
        ("bf16", "bf16", 0.9995),
        ("int8", "fp32", 0.995),
        ("fp32", "int8", 0.995),
        ("bf16", "int8w", 0.999),
        ("bnb8", "bnb8", 0.995),
        ("fp8", "fp8", 0.98),
    ],
)
def test_a_program_in_fewer_bits_gives_nearly_the_same_actions(prefix: str, expert: str, least: float, inputs):
    model = Pi05(PRESETS["pi05-nano"])
    randomise(model, seed=4)
    images, tokens = inputs(model, 1, 2, 9)
    noise = torch.randn(8, 10, 7, generator=torch.Generator().manual_seed(5))

    def play(program: Program) -> Tensor:
        actions, _ = program.denoise(program.encode(images[0], tokens[0]), noise)
        return (actions - noise).flatten()  # what the model adds to the noise

    exact, found = play(Program(model, 10)), play(Program(model, 10, prefix, expert))
    assert not torch.equal(exact, found)
    assert torch.nn.functional.cosine_similarity(exact, found, dim=0) >= least


def test_an_unknown_precision_is_refused_with_those_there_are(weight: Tensor):
    with pytest.raises(ValueError, match="precision is 'fp4'; expected one of fp32, bf16, int8, int8w, fp8, bnb8"):
        make_product(weight, None, "fp4", torch.float32)
