"""How good the averaged weights are on what was never trained on: flow loss and distance of sampled chunks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from flexor.learner.batches import Batch
from flexor.pi05.flow import flow_loss
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix


@torch.no_grad()
def measure(model: Pi05, batches: Iterable[Batch], draws: int, max_delay: int, flow_steps: int) -> dict[str, float]:
    """Mean over all samples of `batches`.

    Returns:
        loss: flow loss with `draws` draws a sample.
        l1_xyz: |sampled - demonstrated| over the chunk's translations, normalised units, one sample by `flow_steps`
            Euler steps.
    """
    loss = distance = 0.0
    samples = 0
    for batch in batches:
        count = len(batch.actions)
        prefix = model.encode(batch.images, batch.tokens, None, batch.token_mask)
        mean, _ = flow_loss(model, prefix, batch.actions, draws, max_delay, batch.generator, batch.committed)
        loss += count * float(mean)
        sampled = sample(model, prefix, batch.actions.shape, flow_steps, batch.generator)
        distance += count * float((sampled - batch.actions)[..., :3].abs().mean())
        samples += count
    return {"loss": loss / samples, "l1_xyz": distance / samples}


def sample(model: Pi05, prefix: Prefix, shape: torch.Size, flow_steps: int, generator: torch.Generator) -> Tensor:
    """One chunk for each of B prefixes, float32 [B, H, A]: Euler from noise (t = 1) to data (t = 0)."""
    x = torch.randn((shape[0], 1, *shape[1:]), generator=generator, device=generator.device)
    for step in range(flow_steps):
        time = torch.full(x.shape[:3], 1 - step / flow_steps, device=x.device)
        x = x - model.velocity(prefix, x, time).float() / flow_steps
    return x[:, 0]
