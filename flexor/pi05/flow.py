"""The flow-matching objective with training-time real-time chunking.

Flow as in openpi: x_t = t * noise + (1 - t) * actions, target noise - actions. Real-time chunking by clamped prefix:
Black, Ren, Equi & Levine, arXiv 2512.05964.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix


def sample_time(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Flow times Beta(1.5, 1) * 0.999 + 0.001, float32: more of them near the noise."""
    # The distribution function of Beta(a, 1) is t^a.
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return uniform ** (1.0 / 1.5) * 0.999 + 0.001


def flow_loss(
    model: Pi05,
    prefix: Prefix,
    actions: Tensor,
    draws: int,
    max_delay: int,
    generator: torch.Generator,
    committed: Tensor | None = None,
    reach: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Flow-matching loss of `draws` draws of time and noise on one prefix.

    Of every draw the first d actions (d uniform in 0..max_delay) stay clean at flow time 0 and are not part of the
    loss: what the model sees when those actions are already on their way to the robot.

    Args:
        model: the policy.
        prefix: of B samples, with or without gradient.
        actions: float32 [B, H, A] in the model's range.
        draws: K, at least 1.
        max_delay: longest d, 0 for none, below H.
        generator: where times, noise and delays come from; on any device.
        committed: float32 [B, H, A], what the clean actions are shown as; `actions` themselves when None. An expert's
            own next action tells where it is going, and a model that has seen nothing else believes it more than its
            eyes; what was really played, disturbances included, tells less.
        reach: int64 [B], how many of a sample's first actions are known; the rest is not part of the loss. None: all.

    Returns:
        The mean squared error over all unclamped, known numbers (scalar), and the same for each draw, detached [B, K].

    Raises:
        ValueError: draws or max_delay out of range.
    """
    batch, horizon, _ = actions.shape
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected at least 1")
    if not 0 <= max_delay < horizon:
        raise ValueError(f"max_delay is {max_delay}; expected 0..{horizon - 1} for a horizon of {horizon}")
    source, device = generator.device, actions.device
    flow_time = sample_time((batch, draws, 1), generator).to(device)
    noise = torch.randn((batch, draws, *actions.shape[1:]), generator=generator, device=source).to(device)
    delays = torch.randint(0, max_delay + 1, (batch, draws, 1), generator=generator, device=source).to(device)
    clean = torch.arange(horizon, device=device) < delays
    time = flow_time.expand(-1, -1, horizon).masked_fill(clean, 0.0)
    target = noise - actions[:, None]
    shown = actions if committed is None else committed
    noised = torch.where(clean[..., None], shown[:, None], actions[:, None] + time[..., None] * target)
    ignored = clean if reach is None else clean | (torch.arange(horizon, device=device) >= reach[:, None, None])
    errors = (model.velocity(prefix, noised, time) - target).square().mean(dim=-1).masked_fill(ignored, 0.0)
    counts = (~ignored).sum(dim=-1)
    return errors.sum() / counts.sum().clamp(min=1), errors.detach().sum(dim=-1) / counts.clamp(min=1)
