"""Muon for the hidden matrices, AdamW for the rest, one schedule for both, and the average of the weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from flexor.errors import FlexorError
from flexor.learner.crew import Crew
from flexor.learner.muon import Muon
from flexor.learner.settings import PretrainSettings
from flexor.pi05.model import Pi05


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon may take it: a matrix inside a transformer layer, from features to features.

    Embeddings, the patch stem, position tables, projections in and out and the time MLP are matrices too, but their
    rows or columns are not features of a residual stream, and orthogonalising their updates is not what they need.
    """
    return parameter.ndim == 2 and re.search(r"(^|[._])layers\.", name) is not None


class Optimiser:
    """Muon (flexor.learner.muon) and AdamW as one.

    Args:
        model: its parameters, split by `is_hidden_matrix`.
        settings: peak rates, warm-up, final share, weight decay, clip.
        crew: the processes that train together; alone when None.
    """

    def __init__(self, model: nn.Module, settings: PretrainSettings, crew: Crew | None = None) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        hidden = [(name, parameter) for name, parameter in named if is_hidden_matrix(name, parameter)]
        rest = [(name, parameter) for name, parameter in named if not is_hidden_matrix(name, parameter)]
        if not hidden or not rest:
            raise ValueError(f"{len(hidden)} hidden matrices and {len(rest)} other parameters; expected some of both")
        self.settings = settings
        self._parameters = dict(named)
        matrices = [parameter for _, parameter in hidden]
        muon = Muon(matrices, lr=settings.muon_lr, momentum=0.95, weight_decay=settings.weight_decay, crew=crew)
        adamw = torch.optim.AdamW(
            [parameter for _, parameter in rest], lr=settings.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self._parts: dict[torch.optim.Optimizer, float] = {muon: settings.muon_lr, adamw: settings.adamw_lr}

    def rate(self, step: int, spent: float) -> float:
        """The share of the peak rates at `step` (from 0) when `spent` in [0, 1] of the budget is used."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(max(spent, 0.0), 1.0)))
        warm = min(1.0, (step + 1) / max(1, self.settings.warmup_steps))
        return warm * (self.settings.final_lr + (1 - self.settings.final_lr) * cosine)

    def gradients(self) -> list[Tensor]:
        """The gradients as they are now, of the parameters that have one, always in the same order."""
        return [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]

    def step(self, rate: float) -> float:
        """Clip the gradients, change the weights at `rate` of the peak, forget the gradients; returns their norm.

        Raises:
            FlexorError: a gradient is not finite; no weight was changed.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), self.settings.clip)
        if not torch.isfinite(norm):
            raise FlexorError(
                f"the norm of the gradients is {float(norm)}; the last checkpoint stands: lower muon_lr and adamw_lr "
                "and start anew"
            )
        for part, peak in self._parts.items():
            for group in part.param_groups:
                group["lr"] = peak * rate
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, named `<parameter>/<slot>`."""
        return {f"{name}/{slot}": value for name, state in self._states() for slot, value in state.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave; raises ValueError for a parameter that the model does not have.

        A parameter of which nothing is there has had no gradient yet: the end of the prefix's last layer never gets
        one, for the expert reads only its keys and values.
        """
        names = {parameter: name for name, parameter in self._parameters.items()}
        owners = {names[parameter]: part for part in self._parts for parameter in part.param_groups[0]["params"]}
        for key, value in tensors.items():
            name, _, slot = key.rpartition("/")
            if name not in owners:
                raise ValueError(f"the optimiser state has {key!r}, but the model has no parameter {name!r}")
            parameter = self._parameters[name]
            owners[name].state[parameter][slot] = value.to(parameter.device)

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        names: dict[Tensor, str] = {parameter: name for name, parameter in self._parameters.items()}
        for part in self._parts:
            for parameter, state in part.state.items():
                yield names[parameter], state


class Average:
    """Exponential moving average of the weights, short at first: decay min(ema, (1 + n) / (10 + n)) at step n."""

    def __init__(self, model: Pi05, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self._decay = decay
        self._live = list(model.parameters())

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the averaged weights towards the live ones after `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for averaged, live in zip(self.model.parameters(), self._live, strict=True):
            averaged.lerp_(live, 1 - decay)
