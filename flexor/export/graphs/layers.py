"""What both graphs are made of: norms, rotary positions and products, with real numbers and static shapes only.

Exporters trace these modules. Tokens stand in rows, [tokens, width]: a product with a constant is then one MatMul, and
one with a bias or a sum one Gemm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexor.pi05.attention import rotary
from flexor.pi05.config import GemmaConfig
from flexor.pi05.gemma import EPSILON, GemmaAttention, GemmaMlp, RmsNorm

BLOCKED = -2.3819763e38
"""Added to the score of what must not be seen: openpi's number, after which a softmax gives exactly 0."""

Factors = tuple[Tensor, Tensor]
"""A and B of one pair, transposed: [in, n r] and [n r, out]."""


class Product(nn.Module):
    """x [rows, in] -> [rows, out]: fixed weights, stored as [in, out], and a bias where there is one."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float().t().contiguous(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().float().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.matmul(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)


def adapted(product: Product, x: Tensor, factors: Factors) -> Tensor:
    """product(x) + x A B, as one Gemm on top of the base's own product: with zeros the base bit for bit."""
    a, b = factors
    return torch.addmm(product(x), torch.matmul(x, a), b)


class Norm(nn.Module):
    """RMSNorm of rows; 1 + weight is one constant."""

    def __init__(self, norm: RmsNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(1.0 + norm.weight.detach().float(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, width] -> the same shape."""
        return normalise(x) * self.weight


class Heads(nn.Module):
    """Rotates queries and keys and takes rows of heads apart; one key head.

    The scale of the scores is part of the queries' angles, so that weights and adapters stay as they are.
    """

    flip: Tensor
    scale: Tensor

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        scale = torch.full((config.heads + 1, 1, 1), config.head_dim**-0.5)
        scale[-1] = 1.0
        self.register_buffer("scale", scale)
        self.register_buffer("flip", torch.tensor([1, 0]))

    def angles(self, turns: Tensor) -> Tensor:
        """`turn_table` rows [2, rows, 2, head_dim / 2] -> [2, rows, heads + 1, 2, head_dim / 2]."""
        return turns.unsqueeze(2) * self.scale

    def forward(self, mixed: Tensor, angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What q, k and v give, [rows, (heads + 2) * head_dim].

        Returns:
            Queries [rows * heads, head_dim], keys and values [rows, head_dim].
        """
        heads, dim = self.heads, self.head_dim
        turned, values = mixed.split(((heads + 1) * dim, dim), dim=1)
        halves = turned.reshape(-1, heads + 1, 2, dim // 2)
        # Pairs are (first half, second half): with the halves swapped, the other term of every rotation.
        turned = halves * angles[0] + halves.index_select(2, self.flip) * angles[1]
        queries, keys = turned.reshape(-1, (heads + 1) * dim).split((heads * dim, dim), dim=1)
        return queries.reshape(-1, dim), keys, values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Softmax attention; `bias` broadcasts to [rows * heads, keys]. -> [rows, heads * head_dim]."""
        scores = torch.addmm(bias, queries, keys.t())
        return torch.matmul(scores.softmax(dim=-1), values).reshape(-1, self.heads * self.head_dim)


def turn_table(count: int, config: GemmaConfig, theta: float) -> Tensor:
    """Cosines and signed sines of positions 0..count-1, float32 [2, count, 2, head_dim / 2]."""
    cos, sin = rotary(torch.arange(count), config.head_dim, theta)
    return torch.stack((torch.stack((cos, cos), dim=1), torch.stack((-sin, sin), dim=1)))


def normalise(x: Tensor) -> Tensor:
    """x / rms(x) over the last axis, in the form that onnxruntime knows as one operation."""
    return x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + EPSILON)


def fused_qkv(attention: GemmaAttention) -> Tensor:
    """Weights of q, k and v stacked, [(heads + 2) * head_dim, width], in the order of an adapter's rows."""
    return torch.cat(
        [projection.weight.float() for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    )


def fused_gate_up(mlp: GemmaMlp) -> Tensor:
    """Weights of gate and up stacked, [2 * mlp_dim, width]."""
    return torch.cat((mlp.gate_proj.weight.float(), mlp.up_proj.weight.float()))


def geglu(mixed: Tensor, mlp_dim: int) -> Tensor:
    """What gate and up give, [rows, 2 * mlp_dim] -> [rows, mlp_dim].

    The width is told, not asked of the tensor: a traced question of a shape is answered anew in every step.
    """
    gate, up = mixed.split(mlp_dim, dim=1)
    return F.gelu(gate, approximate="tanh") * up
