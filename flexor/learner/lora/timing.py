"""Timing: the learner beside plain PEFT training of the same factors, both from the same samples with as many draws.

The other arm is what one would write without a cache: micro-batches of one sample, accumulated, each of which encodes
its prefix, with a gradient only where the profile needs one. A step of it has as many samples and draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from flexor.learner.lora.live_prefixes import LivePrefixes
from flexor.learner.lora.prefix_sources import Prefixes
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.trainer import LoraTrainer
from flexor.pi05.prefix import Prefix
from flexor.runtime.inference.bundle import Bundle

ROUNDS = 8  # of both arms in turn, so that a drift of the machine meets both


class UncachedPrefixes(LivePrefixes):
    """Prefixes that are computed anew each time, without a gradient."""

    @torch.no_grad()
    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix:
        """As of `LivePrefixes`."""
        return super().prefixes(rows, encodings)


class PlainTrainer(LoraTrainer):
    """A LoraTrainer that keeps no prefix."""

    def _prefixes(self, base: str, cache: Path) -> Sequence[Prefixes]:
        kind = UncachedPrefixes if self.settings.profile == "expert" else LivePrefixes
        return [kind(self.model, pool) for pool in self._pools]


def time_learner(
    bundle: Bundle, pool: SamplePool, settings: LoraSettings, work: Path, on_step: Callable[[int, int], None]
) -> dict[str, Any]:
    """Learn for `settings.steps` steps in both arms, in turns.

    Args:
        bundle: whose policy the factors are of.
        pool: what is learned from.
        settings: of the learner; a step has batch x accumulation samples in either arm.
        work: an empty folder.
        on_step: told the steps that are done, of both arms, and how many there will be.

    Returns:
        steps_per_s, baseline_steps_per_s and ratio, encoding included; loss_before, loss_after and baseline_loss_after
        on held-out samples, under no clock.
    """
    one = settings.model_copy(update={"batch": 1, "accumulation": settings.batch * settings.accumulation})
    cached = LoraTrainer(bundle, [pool], settings, work / "cached", work / "prefixes")
    plain = PlainTrainer(bundle, [pool], one, work / "plain", work)
    assert settings.steps is not None
    seconds = {"cached": 0.0, "plain": 0.0}
    before = cached.held_out()
    share = max(1, settings.steps // ROUNDS)
    while cached.position < settings.steps:
        count = min(share, settings.steps - cached.position)
        for name, trainer in (("cached", cached), ("plain", plain)):
            for _ in range(count):
                began = time.perf_counter()
                trainer.step(1.0)
                seconds[name] += time.perf_counter() - began
                on_step(cached.position + plain.position, 2 * settings.steps)
    rates = {name: settings.steps / spent for name, spent in seconds.items()}
    return {
        "steps": settings.steps,
        "samples": cached.samples,
        "steps_per_s": rates["cached"],
        "baseline_steps_per_s": rates["plain"],
        "ratio": rates["cached"] / rates["plain"],
        "loss_before": before,
        "loss_after": cached.held_out(),
        "baseline_loss_after": plain.held_out(),
    }
