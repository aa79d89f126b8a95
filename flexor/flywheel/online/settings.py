"""OnlineSettings: what can be set of an online loop, and its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.flywheel.triggers.settings import SuccessRateSettings, Thresholds, TriggerSettings
from flexor.learner.continual.settings import ContinualSettings, LearnerSettings, PublishSettings
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.replay.settings import ReplaySettings
from flexor.runtime.driving.daemon_settings import DaemonSettings

STEPS = 650
"""Optimiser steps of one adapter, where nothing else is said."""


class DomainShiftSettings(BaseModel):
    """How the world has changed, docs/shift.md.

    Attributes:
        current_level: none, low, medium or high.
        axes: only these, comma-separated; all of them when empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    current_level: str = "medium"
    axes: str = ""


class ModelSettings(BaseModel):
    """What is served.

    Attributes:
        bundle: folder of a bundle, or the name of one that ships.
        load_in_8bit: serve it by bitsandbytes in the least memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str = "pi05-nano"
    load_in_8bit: bool = False


class LoopLoraSettings(LoraSettings):
    """LoraSettings for the small models that a loop turns around, whose budget is STEPS where none is given.

    All that is linear is trained, as the small models themselves were: by Muon, and asked where the hand will close;
    of the change the nearest one of rank r is published, nearly all of it. Things are laid into varied frames: what
    else lies on a table is the first that differs between two workplaces. What it is worth: docs/flywheel.md. A model
    too large for that takes `profile=projector trains=factors optimiser=adamw lr=0.001`.
    """

    profile: str = "full"
    r: int = Field(default=96, gt=0)
    lora_alpha: float = Field(default=96.0, gt=0)
    trains: Literal["factors", "weights"] = "weights"
    optimiser: Literal["adamw", "muon"] = "muon"
    batch: int = Field(default=64, gt=0)
    accumulation: int = Field(default=1, gt=0)
    draws: int = Field(default=4, gt=0)
    encodings: int = Field(default=64, gt=0)
    lr: float = Field(default=1.5e-3, gt=0)
    warmup_steps: int = Field(default=150, ge=0)
    final_lr: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    ema: float = Field(default=0.997, ge=0, lt=1)
    foresight: float = Field(default=1.0, ge=0)
    things: int = Field(default=4, ge=0)
    threads: int = Field(default=2, gt=0)  # nobody asks the server meanwhile, but for its own shadows

    @model_validator(mode="before")
    @classmethod
    def _with_budget(cls, given: Any) -> Any:
        unsaid = isinstance(given, dict) and given.get("minutes") is None and given.get("steps") is None
        return {**given, "steps": STEPS} if unsaid else given


class CollectSettings(BaseModel):
    """The episodes of a cycle.

    Attributes:
        episodes: in each cycle.
        correct: let the simulation's expert take over when an episode goes wrong; a control leaves it out.
        advise: let it say at every step what it would do there, which is learned from in its place (DAgger); a control
            leaves that out, and nobody who is not a program can do it.
        practise: share of the episodes whose task is drawn by how often the policy fails at it; the others take the
            tasks in turn (flexor.flywheel.online.practice).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int = Field(default=30, ge=1)
    correct: bool = True
    advise: bool = True
    practise: float = Field(default=0.5, ge=0, le=1)


class GateSettings(BaseModel):
    """What a new adapter has to show in lockstep before a server is told of it.

    It plays the episodes that cycles are measured on and more like them, and some where nothing is shifted. It is held
    back when it is surely worse than its parent (the upper end of the 95 % interval of the paired difference below 0),
    or worse by more than `margin`. Few episodes hold back what is better: of 40, two more failures are 5 points.

    Attributes:
        shifted: episodes under the shift; 0 leaves that out.
        unshifted: the same where nothing is shifted.
        margin: points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shifted: int = Field(default=100, ge=0)
    unshifted: int = Field(default=100, ge=0)
    margin: float = Field(default=5.0, ge=0)


class OfferSettings(BaseModel):
    """How a new adapter is tried by the server.

    Attributes:
        episodes: at most, of candidate and parent together; 0: as soon as the server has shadowed it on live requests,
            it plays, which is for who trusts the gate.
        velocity: part of the robot's velocity limit that they keep to; 1 is for simulation, where nothing breaks.
        timeout_s: how long the server is waited for at least before an adapter that it never decides on is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int = Field(default=100, ge=0, multiple_of=2)
    velocity: float = Field(default=1.0, gt=0, le=1)
    timeout_s: float = Field(default=120.0, gt=0)


class MeasureSettings(BaseModel):
    """Success in lockstep, on seeds that nothing is learned from.

    Attributes:
        episodes: after each cycle, the same seeds every time.
        after: fresh ones at the end, of base and last adapter alike.
        unshifted: the same where nothing is shifted: what was forgotten.
        workers: processes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int = Field(default=40, ge=1)
    after: int = Field(default=200, ge=0)
    unshifted: int = Field(default=300, ge=0)
    workers: int = Field(default=2, ge=1)


class OnlineSettings(TriggerSettings):
    """One loop; what it has of TriggerSettings says when there is something to learn.

    Attributes:
        thresholds: as of TriggerSettings, with a smaller min_fill.
        task: simulated robot: tabletop, or a suite of LIBERO.
        tasks: of them only these, in turn; all when empty.
        domain_shift: how its world has changed.
        model: the policy that works there.
        calibration: file of a calibration of the bundle's entropy scores (docs/entropy.md), of the daemon and of the
            trigger `entropy`; None leaves the scores raw.
        lora: how an adapter is learned, with a budget in steps.
        learner: what one begins with.
        replay: which episodes it is learned from.
        learning: False, a control, collects and measures and learns nothing.
        patience: cycles in a row whose adapter does not go into service, after which the loop says that it does not
            improve and stops publishing.
        reserve: demonstrations of the base, recorded where nothing is shifted, that are replayed against forgetting.
        learn_timeout_s: how long one adapter may take.
        daemon: of the robot's side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A cycle is 30 episodes: the rate has to speak early enough that some of them are still corrected.
    thresholds: Thresholds = Thresholds(success_rate=SuccessRateSettings(min_fill=8))
    task: str = "tabletop"
    tasks: tuple[str, ...] = ()
    domain_shift: DomainShiftSettings = DomainShiftSettings()
    model: ModelSettings = ModelSettings()
    calibration: Path | None = None
    lora: LoopLoraSettings = LoopLoraSettings()
    learner: LearnerSettings = LearnerSettings(init="current")
    replay: ReplaySettings = ReplaySettings()
    learning: bool = True
    patience: int = Field(default=3, ge=1)
    reserve: int = Field(default=150, ge=0)
    learn_timeout_s: float = Field(default=1800.0, gt=0)
    collect: CollectSettings = CollectSettings()
    gate: GateSettings = GateSettings()
    offer: OfferSettings = OfferSettings()
    measure: MeasureSettings = MeasureSettings()
    daemon: DaemonSettings = DaemonSettings()

    @model_validator(mode="after")
    def _learner_fits(self) -> Self:
        self.continual(0)
        return self

    def continual(self, seed: int) -> ContinualSettings:
        """Of the learner's process, which makes one adapter at once, of whatever there is.

        Args:
            seed: of the loop; what is learned and replayed is drawn by it.
        """
        return ContinualSettings.model_validate(
            self.lora.model_dump()
            | {"seed": self.lora.seed + seed, "learner": self.learner, "replay": self.replayed(seed)}
            | {"publish": PublishSettings(every_episodes=1, min_episodes=1)}
        )

    def replayed(self, seed: int) -> ReplaySettings:
        """Which episodes are learned from: where the collected ones are advised, those of trials teach nothing beside.

        Args:
            seed: of the loop.
        """
        plain = self.replay.successes and not self.collect.advise
        return self.replay.model_copy(update={"seed": self.replay.seed + seed, "successes": plain})

    def serve_arguments(self, adapters: Path) -> tuple[str, ...]:
        """What stands after `flexor serve BUNDLE`, for a server that takes the adapters of that directory."""
        eight_bit = ("--8bit",) if self.model.load_in_8bit else ()
        trial = (f"adapters.canary_episodes={self.offer.episodes}", f"adapters.canary_velocity={self.offer.velocity:g}")
        schema = (f"adapters.rank={self.lora.r}", f"adapters.alpha={self.lora.lora_alpha:g}")
        return ("--adapters", str(adapters), *eight_bit, *trial, *schema)
