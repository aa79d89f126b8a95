"""LoraTrainer: learns one adapter, resumable at any step."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flexor.errors import FlexorError
from flexor.learner.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from flexor.learner.curves import Curves
from flexor.learner.lora.foresight_task import ForesightTask
from flexor.learner.lora.frozen_base import open_frozen_base
from flexor.learner.lora.mix import Mix
from flexor.learner.lora.prefix_sources import Prefixes, prefix_sources
from flexor.learner.lora.sample_mix import SampleMix
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.step_parts import Part, SideBySide, draw_parts
from flexor.learner.lora.training_kinds import OPTIMISERS, TRAINED
from flexor.pi05 import lora
from flexor.pi05.flow import flow_loss
from flexor.runtime.inference.bundle import Bundle

DRAWS = 1  # the stream of random numbers of a step; 0 is the order of samples
HELD_OUT_SAMPLES, HELD_OUT_BATCH = 256, 16
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Start:
    """An adapter to go on from: its id, and A [r, in] and B [out, r] by projection."""

    adapter: str
    factors: lora.Factors


@dataclass(frozen=True, slots=True)
class LoraStanding:
    """Where a run stands: optimiser steps, samples, share of the budget, the last loss, the gradients' norm."""

    step: int
    samples: int
    spent: float
    loss: float
    grad_norm: float


class LearningStopped(Exception):
    """What a `pause` raises to end learning between two micro-batches; the steps that were made are kept."""


def never_pause() -> None:
    """Nobody else wants the machine."""


class LoraTrainer:
    """One run, resumed from `folder` when there is a checkpoint in it.

    Args:
        bundle: whose policy the adapter is for.
        pools: what is new, and, when there are two, the base's own demonstrations, drawn replay_share of the time.
        settings: how.
        folder: checkpoint.safetensors, curves.jsonl and tensorboard/ go here.
        cache: folder of encoded prefixes, which several runs may use one after the other.
        mix: what is drawn of the pools; None draws new samples in epochs, and replay_share of the others.
        start: what to begin with; None begins with an adapter that changes nothing.

    Attributes:
        trained: what is learned.

    Raises:
        FlexorError: the checkpoint belongs to another run, or the bundle holds no weights.
    """

    def __init__(
        self,
        bundle: Bundle,
        pools: Sequence[SamplePool],
        settings: LoraSettings,
        folder: Path,
        cache: Path,
        mix: Mix | None = None,
        start: Start | None = None,
    ) -> None:
        self._side_by_side = SideBySide(settings.threads)
        self.settings, self._pools = settings, list(pools)
        self.model = open_frozen_base(bundle, settings)
        self.trained = TRAINED[settings.trains](self.model, settings)
        self._max_delay = bundle.config.rtc_max_delay if settings.max_delay is None else settings.max_delay
        self._sources = self._prefixes(bundle.hash, cache)
        replayed = self._pools[1].training if len(self._pools) > 1 else None
        self._mix = mix or SampleMix(self._pools[0].training, replayed, settings.replay_share, settings.seed)
        image_tokens = len(bundle.cameras) * bundle.model_config.vision.tokens
        self._foresight = ForesightTask(self.model, image_tokens) if settings.foresight else None
        asked = {} if self._foresight is None else self._foresight.live
        self._optimisers = OPTIMISERS[settings.optimiser](self.trained.live | asked, settings)
        self._identity = {**settings.identity(), "base": bundle.hash, "data": [pool.digest for pool in self._pools]}
        self._identity |= self._mix.identity()
        if start is not None:
            self._identity["start"] = start.adapter
            self.trained.begin_with(start.factors)
        self.position = 0
        self._used_s = 0.0
        self._losses: list[float] = []
        self._folder, self._path = folder, folder / CHECKPOINT
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._resume()

    @property
    def samples(self) -> int:
        """Samples used so far, each with all its draws."""
        return self.position * self.settings.batch * self.settings.accumulation

    @property
    def seconds(self) -> float:
        """Wall time used so far, encoding included."""
        return self._used_s

    def run(self, on_step: Callable[[LoraStanding], None], pause: Callable[[], None] = never_pause) -> None:
        """Learn until the budget is spent; `pause` is called before every micro-batch and may take its time.

        Raises:
            FlexorError: as `step`; the disk refuses.
        """
        settings = self.settings
        began, saved = time.monotonic() - self._used_s, time.monotonic()
        with Curves(self._folder, self.position, settings.trackers) as curves:
            while (spent := self._spent()) < 1.0:
                try:
                    loss, norm = self.step(self._rate(spent), pause)
                except LearningStopped:
                    self.save()
                    raise
                self._used_s = time.monotonic() - began
                self._record(curves, loss, norm)
                on_step(LoraStanding(self.position, self.samples, self._spent(), loss, norm))
                if time.monotonic() - saved >= settings.checkpoint_s:
                    self.save()
                    saved = time.monotonic()
            self.save()

    def step(self, rate: float, pause: Callable[[], None] = never_pause) -> tuple[float, float]:
        """One optimiser step at `rate` of the peak; returns its loss and the norm of its gradients.

        Raises:
            FlexorError: the loss or a gradient is not finite; no factor was changed.
        """
        settings, total = self.settings, 0.0
        losses: dict[int, list[NDArray[np.float64]]] = {}
        for optimiser, _ in self._optimisers:
            optimiser.zero_grad(set_to_none=True)  # of a step that was left in the middle
        for micro in range(settings.accumulation):
            pause()
            first = (self.position * settings.accumulation + micro) * settings.batch
            rng = np.random.default_rng([settings.seed, DRAWS, self.position, micro])
            rows = self._mix.draw(first, settings.batch, rng)
            parts = draw_parts(self._pools, rows, settings.encodings, rng)
            losses[first] = [np.empty(0) for _ in rows]
            learned = self._side_by_side.run([functools.partial(self._learn, part) for part in parts])
            for part, (loss, each) in zip(parts, learned, strict=True):
                losses[first][part.pool] = each
                total += loss * len(part.rows) / (settings.batch * settings.accumulation)
        norm = float(nn.utils.clip_grad_norm_(list(self.trained.live.values()), settings.clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise FlexorError(
                f"step {self.position}: the loss is {total} and the gradients' norm {norm}; the last checkpoint stands:"
                " lower lr and start anew"
            )
        for optimiser, peak in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
            optimiser.step()
        self.trained.follow(self.position)
        self._mix.learned(losses)
        self.position += 1
        return total, norm

    @torch.no_grad()
    def held_out(self, pool: int = 0, learned: bool = True, pause: Callable[[], None] = never_pause) -> float:
        """Flow loss on held-out samples of a pool, as they were recorded, by equal draws: of the averaged factors, or
        of the base, at whatever step the run stands. `pause` is called before every batch."""
        rng = np.random.default_rng([self.settings.seed, DRAWS])
        rows = self._pools[pool].held_out
        rows = np.sort(rng.choice(rows, min(HELD_OUT_SAMPLES, len(rows)), replace=False))
        total = 0.0
        with self.trained.averaged() if learned else self.trained.left_out(), self._autocast():
            for start in range(0, len(rows), HELD_OUT_BATCH):
                pause()
                part = rows[start : start + HELD_OUT_BATCH]
                prefix = self._sources[pool].prefixes(part.tolist(), [0] * len(part))
                actions, played, reach = self._pools[pool].chunks(part, None)
                generator = torch.Generator().manual_seed(start)
                loss, _ = flow_loss(
                    self.model, prefix, actions, self.settings.draws, self._max_delay, generator, played, reach
                )
                total += len(part) * float(loss)
        return total / len(rows)

    def save(self) -> None:
        """Write the checkpoint."""
        moments = {
            f"{place}/{number}/{slot}": value
            for place, (optimiser, _) in enumerate(self._optimisers)
            for number, slots in optimiser.state_dict()["state"].items()
            for slot, value in slots.items()
        }
        groups = {"live": dict(self.trained.live), "average": self.trained.average, "optimiser": moments}
        groups["foresight"] = {} if self._foresight is None else dict(self._foresight.live)
        tensors = {f"{group}/{name}": tensor for group, content in groups.items() for name, tensor in content.items()}
        losses, drawing = tuple(self._losses), self._mix.state()
        write_checkpoint(self._path, Checkpoint(self.position, self._used_s, losses, self._identity, tensors, drawing))

    def _learn(self, part: Part) -> tuple[float, NDArray[np.float64]]:
        """Add a part's gradients to the others'; its mean loss, and each sample's own."""
        settings = self.settings
        with self._autocast():
            prefix = self._sources[part.pool].prefixes(part.rows.tolist(), part.encodings)
            loss, each = flow_loss(
                self.model,
                prefix,
                part.actions,
                settings.draws,
                self._max_delay,
                part.generator,
                part.committed,
                part.reach,
            )
            whole = loss
            if self._foresight is not None:
                asked = self._foresight.loss(*self._pools[part.pool].waypoints(part.rows))
                whole = loss + settings.foresight * asked
        (whole * (len(part.rows) / (settings.batch * settings.accumulation))).backward()
        return float(loss.detach()), each.double().mean(dim=1).numpy()

    def _record(self, curves: Curves, loss: float, norm: float) -> None:
        self._losses.append(loss)
        if self.position % self.settings.log_steps == 0:
            row = {
                "train/loss": float(np.mean(self._losses)),
                "train/grad_norm": norm,
                "train/lr": self._optimisers[0][0].param_groups[0]["lr"],
                "train/samples": self.samples,
                "train/seconds": self._used_s,
                **self._mix.told(),
            }
            curves.write(self.position, row)
            self._losses.clear()

    def _prefixes(self, base: str, cache: Path) -> Sequence[Prefixes]:
        """One source a pool: see `prefix_sources`."""
        return prefix_sources(self.model, base, self._pools, self.settings, cache)

    def _rate(self, spent: float) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(spent, 1.0)))
        warm = min(1.0, (self.position + 1) / max(1, self.settings.warmup_steps))
        return warm * (self.settings.final_lr + (1 - self.settings.final_lr) * cosine)

    def _spent(self) -> float:
        if self.settings.steps is not None:
            return self.position / self.settings.steps
        assert self.settings.minutes is not None
        return self._used_s / (60 * self.settings.minutes)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _resume(self) -> None:
        checkpoint = read_checkpoint(self._path, self._identity)
        self.trained.assign(checkpoint.group("live"))
        self.trained.average.update(checkpoint.group("average"))
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._optimisers]
        for key, value in checkpoint.group("optimiser").items():
            place, number, slot = key.split("/")
            states[int(place)].setdefault(int(number), {})[slot] = value
        for (optimiser, _), state in zip(self._optimisers, states, strict=True):
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.position, self._used_s, self._losses = checkpoint.step, checkpoint.seconds, list(checkpoint.losses)
        self._mix.restore(checkpoint.drawing)
        if self._foresight is not None:
            self._foresight.assign(checkpoint.group("foresight"))
