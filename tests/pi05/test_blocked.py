"""Products of blocked weights, against the same sums in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flexor.pi05.blocked import FEWEST_WEIGHTS, Blocked, can_block, gated, gelu
from flexor.pi05.products import Dense, make_product

ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 8e-3}
DTYPES = [dtype for dtype in ROUNDING if can_block(torch.empty(512, 256), dtype)]
pytestmark = pytest.mark.skipif(not DTYPES, reason="this processor, or this PyTorch, multiplies no blocked weights")


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def check(found: Tensor, exact: Tensor) -> None:
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= ROUNDING[found.dtype] * exact.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 10, 568])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_and_what_is_done_in_it(dtype: torch.dtype, rows: int, with_bias: bool):
    weight, x, other = draw(512, 256).to(dtype), draw(rows, 256).to(dtype), draw(rows, 512).to(dtype)
    bias = draw(512).to(dtype) if with_bias else None
    product = Blocked(weight, bias, dtype)
    exact = x.double() @ weight.double().t() + (0.0 if bias is None else bias.double())
    kept = other.clone()
    check(product(x), exact)
    check(product(x.view(rows, 1, 256)), exact.view(rows, 1, 512))
    check(product.gelu(x), F.gelu(exact, approximate="tanh"))
    check(product.added(x, other), exact + other.double())
    check(product.times(x, other), exact * other.double())
    assert torch.equal(other, kept)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_owns_its_weights(dtype: torch.dtype):
    weight, x = draw(512, 256).to(dtype), draw(10, 256).to(dtype)
    product = Blocked(weight, None, dtype)
    before = product(x)
    weight.zero_()
    assert torch.equal(product(x), before)


def test_large_dense_products_are_blocked_and_small_ones_are_not():
    assert isinstance(make_product(draw(512, FEWEST_WEIGHTS // 512), None, "fp32", torch.float32), Blocked)
    assert isinstance(make_product(draw(511, FEWEST_WEIGHTS // 512), None, "fp32", torch.float32), Dense)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_gated_mlp_is_the_same_whoever_multiplies(precision: str):
    gate, up, x = draw(512, 256) / 16, draw(1024, 256)[:512] / 16, draw(10, 256)
    opened = F.gelu(x.double() @ gate.double().t(), approximate="tanh")
    exact = opened * (x.double() @ up.double().t())
    first, second = (make_product(weight, None, precision, torch.float32) for weight in (gate, up))
    worst = 2e-6 if precision == "fp32" else 4e-2
    assert (gelu(first, x).double() - opened).abs().max() <= worst * opened.abs().max()
    assert (gated(first, second, x).double() - exact).abs().max() <= worst * exact.abs().max()
