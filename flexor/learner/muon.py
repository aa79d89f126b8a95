"""Muon, for many small matrices on a CPU: those of one shape are orthogonalised together, each process does its share.

https://kellerjordan.github.io/posts/muon, scaled to AdamW's update size as in arXiv 2502.16982; the same update as
`torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, which takes one matrix after another, in every process all of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from flexor.learner.crew import Crew

QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAMW_RMS = 0.2  # root mean square of AdamW's usual update
SMALLEST = 1e-7


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest matrices whose singular values are near 1, bfloat16 [n, rows, columns] with rows <= columns."""
    a, b, c = QUINTIC
    norms = torch.linalg.matrix_norm(matrices.float(), keepdim=True).clamp(min=SMALLEST)
    x = (matrices.float() / norms).bfloat16()
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum with Nesterov's look ahead and decoupled weight decay.

    Args:
        parameters: matrices.
        lr: rate, before it is scaled to AdamW's update size.
        crew: the processes that hold the same weights and gradients; alone when None.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        crew: Crew | None = None,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._crew = crew or Crew()

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, update in zip(moved, self._updates(moved, group["momentum"]), strict=True):
                rate = group["lr"] * ADAMW_RMS * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-rate)

    def _updates(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Orthogonalised looks ahead, in the order and the shapes of the parameters."""
        kinds: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, parameter in enumerate(parameters):
            kinds[min(parameter.shape), max(parameter.shape)].append(place)
        stacks = {}
        for shape, places in kinds.items():
            stacks[shape] = stack = torch.zeros(len(places), *shape, dtype=torch.bfloat16, device=parameters[0].device)
            mine = slice(self._crew.rank, None, self._crew.size)
            ahead = [_wide(self._look_ahead(parameters[place], momentum)) for place in places]
            if own := ahead[mine]:
                stack[mine] = orthogonalise(torch.stack(own))
        self._crew.add_up(list(stacks.values()))
        updates: list[Tensor] = [torch.empty(0)] * len(parameters)
        for shape, places in kinds.items():
            for place, update in zip(places, stacks[shape], strict=True):
                updates[place] = update if parameters[place].shape == update.shape else update.mT
        return updates

    def _look_ahead(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient, average = parameter.grad, state["momentum_buffer"]
        assert gradient is not None
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def _wide(matrix: Tensor) -> Tensor:
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
