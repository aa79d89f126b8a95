"""Trains a small Pi0.5 from nothing on demonstrations, resumable at any step."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flexor.errors import FlexorError
from flexor.learner.batches import Batch, Batches, all_sentences
from flexor.learner.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from flexor.learner.crew import Crew
from flexor.learner.curves import Curves
from flexor.learner.demonstrations import Demonstrations
from flexor.learner.foresight import Foresight
from flexor.learner.held_out import measure
from flexor.learner.optimiser import Average, Optimiser
from flexor.learner.prompt_table import PromptTable, build_tokenizer
from flexor.learner.settings import PretrainSettings
from flexor.learner.statistics import measure_statistics
from flexor.pi05.config import PRESETS
from flexor.pi05.flow import flow_loss
from flexor.pi05.init import initialise
from flexor.pi05.model import Pi05
from flexor.pi05.normalize import Normalizer
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.torch_engine import load_model


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands: optimiser steps, training samples, share of the budget, the last loss, samples a second."""

    step: int
    samples: int
    spent: float
    loss: float
    samples_per_s: float


class Trainer:
    """One run, resumed from `folder` when there is a checkpoint in it.

    Args:
        demonstrations: what to learn from.
        settings: how.
        folder: checkpoint.safetensors, curves.jsonl and tensorboard/ go here; only rank 0 writes.
        crew: the processes that train together; alone when None.

    Attributes:
        began_from: id of the bundle whose weights it began with, None for a start from nothing.

    Raises:
        FlexorError: the checkpoint belongs to another run, no GPU where one was asked for, data that does not fit.
    """

    def __init__(
        self, demonstrations: Demonstrations, settings: PretrainSettings, folder: Path, crew: Crew | None = None
    ) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self._crew = crew or Crew()
        self.config = PRESETS[settings.preset]
        self.device = choose_device(settings.device)
        if self._crew.size > 1 and self.device.type != "cpu":
            raise FlexorError(f"processes is {self._crew.size} on {self.device}; expected 1, or device=cpu")
        words = json.dumps([asdict(kinds) for kinds in demonstrations.sentences])
        sentences = hashlib.sha256(words.encode()).hexdigest()[:16]  # what the token ids mean follows from them
        init = open_init(settings, demonstrations) if settings.init is not None else None
        self._identity = {**settings.identity(), "data": demonstrations.digest, "sentences": sentences}
        if settings.elsewhere and demonstrations.elsewhere.has_any().any():
            asked = [settings.elsewhere, settings.elsewhere_share, demonstrations.elsewhere.digest()]
            self._identity["elsewhere"] = asked
        self.began_from = init.id if init is not None else None
        if init is not None:
            self._identity["init"] = init.hash
        self._checkpoint_path = folder / "checkpoint.safetensors"
        training, _ = demonstrations.split(settings.held_out)
        if init is None:
            self.statistics = measure_statistics(demonstrations.states[training], demonstrations.actions[training])
            self.tokenizer = build_tokenizer(demonstrations.sentences, self.config)
        else:
            kept = zip(("state", "actions"), init.normalizers(), strict=True)
            self.statistics = {name: normalizer.stats for name, normalizer in kept}
            self.tokenizer = init.tokenizer()
        prompts = PromptTable(self.tokenizer, all_sentences(demonstrations), demonstrations.states.shape[1])
        state, actions = (Normalizer("quantile", self.statistics[name]) for name in ("state", "actions"))
        share = (self._crew.rank, self._crew.size)
        self.batches = Batches(demonstrations, prompts, state, actions, settings, self.device, share)
        self.model = Pi05(self.config)
        initialise(self.model, settings.seed, prompts.bin_tokens.tolist())
        if init is not None:
            self.model.load_state_dict(load_model(init, torch.float32).state_dict())
        self.model.to(self.device)
        self.average = Average(self.model, settings.ema)
        self.foresight = Foresight(self.model).to(self.device)  # after the average, which must not copy its hook
        self._trained = nn.ModuleDict({"model": self.model, "foresight": self.foresight})
        self.optimiser = Optimiser(self._trained, settings, self._crew)
        self.position = 0
        self._used_s = 0.0
        self._foresight_loss = self._elsewhere_loss = 0.0
        self._losses: list[float] = []
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint_path.exists():
            self._resume()

    @property
    def samples(self) -> int:
        """Training samples used so far."""
        return self.position * self.settings.batch

    @property
    def seconds(self) -> float:
        """Wall time used so far, of all the processes that worked on this run."""
        return self._used_s

    def run(self, on_step: Callable[[Standing], None]) -> dict[str, float]:
        """Train until the budget is spent; returns the last held-out numbers."""
        settings = self.settings
        began = time.monotonic() - self._used_s
        saved = time.monotonic()
        first, started = self.position, time.monotonic()
        self._crew.agree(self.position)  # everyone has read the checkpoint before the first new one is written
        with Curves(self._folder, self.position, settings.trackers) as curves:
            while (spent := self._crew.agree(self._spent())) < 1.0:
                loss = self.step(spent)
                self._used_s = time.monotonic() - began
                speed = (self.position - first) * settings.batch / (time.monotonic() - started)
                self._record(curves, loss, spent, speed)
                on_step(Standing(self.position, self.samples, self._spent(), loss, speed))
                if time.monotonic() - saved >= settings.checkpoint_s:
                    self.save()
                    saved = time.monotonic()
            result = self.measure()
            if self.position > first and self.position % settings.evaluate_steps != 0:
                curves.write(self.position, result)
            self.save()
        return result

    def assist(self) -> None:
        """What every process but rank 0 does: the same steps on its own share, until rank 0 says that it is over.

        Raises:
            FlexorError: it stands at another step than rank 0.
        """
        position = self._crew.agree(0.0)
        if position != self.position:
            raise FlexorError(f"process {self._crew.rank} stands at step {self.position}, the first one at {position}")
        while (spent := self._crew.agree(0.0)) < 1.0:
            self.step(spent)

    def step(self, spent: float) -> float:
        """One optimiser step when `spent` of the budget is used; returns its loss."""
        batch = self.batches.draw(self.position)
        loss = self._learn(batch, self.optimiser.rate(self.position, spent))
        self.average.follow(self.position)
        self.position += 1
        return loss

    def measure(self) -> dict[str, float]:
        """Held-out episodes under the averaged weights, with the trained and with the held-out sentences."""
        settings, numbers = self.settings, {}
        for kind, name in (("train", "held_out_episodes"), ("held_out", "held_out_sentences")):
            with self._autocast():
                batches = self.batches.held_out(kind)
                row = measure(self.average.model, batches, settings.draws, settings.max_delay, settings.flow_steps)
            numbers |= {f"{name}/{key}": value for key, value in row.items()}
        return numbers

    def save(self) -> None:
        """Write the checkpoint."""
        groups = {
            "trained": self._trained.state_dict(),
            "average": self.average.model.state_dict(),
            "optimiser": self.optimiser.tensors(),
        }
        tensors = {f"{group}/{name}": tensor for group, content in groups.items() for name, tensor in content.items()}
        state = Checkpoint(self.position, self._used_s, tuple(self._losses), self._identity, tensors)
        write_checkpoint(self._checkpoint_path, state)

    def _learn(self, batch: Batch, rate: float) -> float:
        self.model.train()
        with self._autocast():
            seen = self.model.look(batch.images)
            prefix = self.model.read(seen, batch.tokens, None, batch.token_mask)
            settings = self.settings
            loss, _ = flow_loss(
                self.model,
                prefix,
                batch.actions,
                settings.draws,
                settings.max_delay,
                batch.generator,
                batch.committed,
            )
            image_tokens = batch.images.shape[1] * self.config.vision.tokens
            foresight = self.foresight.loss(image_tokens, batch.places, batch.known)
            elsewhere = loss.new_zeros(())
            if batch.others is not None:
                self.model.read(seen[batch.others.rows], batch.others.tokens, None, batch.others.token_mask)
                elsewhere = self.foresight.grasp_loss(image_tokens, batch.others.places)
        (loss + settings.foresight * foresight + settings.elsewhere * elsewhere).backward()
        told = torch.stack([loss.detach(), foresight.detach(), elsewhere.detach()]).float().cpu()
        self._crew.average([*self.optimiser.gradients(), told])
        value, self._foresight_loss, self._elsewhere_loss = told.tolist()
        if not np.isfinite(value):
            raise FlexorError(
                f"the loss of step {self.position} is {value}; the last checkpoint stands: lower muon_lr and adamw_lr "
                "and start anew"
            )
        self.optimiser.step(rate)
        return value

    def _record(self, curves: Curves, loss: float, spent: float, speed: float) -> None:
        self._losses.append(loss)
        if self.position % self.settings.log_steps == 0:
            row = {
                "train/loss": float(np.mean(self._losses)),
                "train/foresight": self._foresight_loss,
                "train/elsewhere": self._elsewhere_loss,
                "train/rate": self.optimiser.rate(self.position - 1, spent),
                "train/samples": self.samples,
                "train/seconds": self._used_s,
                "train/samples_per_s": speed,
            }
            curves.write(self.position, row)
            self._losses.clear()
        if self.position % self.settings.evaluate_steps == 0:
            curves.write(self.position, self.measure())

    def _spent(self) -> float:
        if self.settings.samples is not None:
            return self.samples / self.settings.samples
        assert self.settings.minutes is not None
        return self._used_s / (60 * self.settings.minutes)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _resume(self) -> None:
        checkpoint = read_checkpoint(self._checkpoint_path, self._identity)
        self._trained.load_state_dict(checkpoint.group("trained"))
        self.average.model.load_state_dict(checkpoint.group("average"))
        self.optimiser.load(checkpoint.group("optimiser"))
        self.position, self._used_s, self._losses = checkpoint.step, checkpoint.seconds, list(checkpoint.losses)


def open_init(settings: PretrainSettings, demonstrations: Demonstrations) -> Bundle:
    """The bundle that a run goes on from.

    Raises:
        FlexorError: there is none, or its sizes, cameras, state or normalisation are others than the run's.
    """
    assert settings.init is not None
    bundle, preset = Bundle.open(settings.init), PRESETS[settings.preset]
    own = replace(bundle.model_config, max_prompt_tokens=preset.max_prompt_tokens)  # of which no weight depends
    has = (own, bundle.cameras, bundle.config.state_dim, bundle.config.normalization)
    wants = (preset, settings.cameras, demonstrations.states.shape[1], "quantile")
    for what, mine, expected in zip(("sizes", "cameras", "state_dim", "normalization"), has, wants, strict=True):
        if mine != expected:
            raise FlexorError(f"init {settings.init}: its {what} is {mine}; expected {expected}: choose another bundle")
    return bundle


def choose_device(wanted: str) -> torch.device:
    """cpu, cuda, or for auto a GPU when there is one.

    Raises:
        FlexorError: cuda was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise FlexorError("device is cuda, but torch finds no GPU; set device=auto, or install a CUDA build of torch")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
