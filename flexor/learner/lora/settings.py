"""What can be set about learning an adapter."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.learner.lora.profile import DEFAULT, PROFILES, SHALLOW
from flexor.learner.trackers import Trackers


class LoraSettings(BaseModel):
    """One adapter. Exactly one of `minutes` and `steps` ends the run; the learning rate follows the same budget.

    Attributes:
        profile: key of flexor.learner.lora.profile.PROFILES.
        r, lora_alpha: rank of the factors, and what B A is scaled by, times r; as PEFT names them.
        trains: the "factors", or the projections' whole "weights", of whose change the nearest one of rank r is
            published: for small models, of which a large rank is as many numbers (flexor.learner.lora.whole_weights).
        optimiser: "adamw", or "muon" (flexor.learner.muon), which wants a rate of its own.
        minutes: wall budget; a resumed run goes on with what was left.
        steps: budget in optimiser steps; with it a run is repeatable bit for bit (fp32, CPU, one thread).
        batch: samples of a micro-batch; accumulation: micro-batches of an optimiser step.
        draws: (time, noise) draws of the flow loss on each prefix.
        max_delay: largest number of committed actions in training-time real-time chunking; the bundle's own when None.
        encodings: of a sample, the first as it was seen, the others of varied frames and words.
        replay_share: share of samples that are of the base's own demonstrations, where there are any.
        lr, warmup_steps, final_lr, weight_decay, clip: of the optimiser, its cosine schedule, the norm of gradients.
        ema: largest decay of the averaged factors, which are the ones that are published.
        foresight: weight of the training-only loss that asks where the gripper will close and let go
            (flexor.learner.foresight); 0 leaves it out. The profile expert changes nothing that could answer it.
        things, thing_pixels: how many things of one colour are laid into a varied frame at most, and how large at most.
        load_in_8bit: image tower and prefix are held in 8 bits (bitsandbytes): less memory, more time.
        gradient_checkpointing: what prefix layers keep for a gradient is computed again when it is needed: less memory,
            more time; of no use in the profile expert, which needs none.
        cache_mb: disk budget of what is encoded once, MB.
        trackers: wandb, trackio: who gets the curves besides their file and TensorBoard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = DEFAULT
    r: int = Field(default=8, gt=0)
    lora_alpha: float = Field(default=32.0, gt=0)
    trains: Literal["factors", "weights"] = "factors"
    optimiser: Literal["adamw", "muon"] = "adamw"
    seed: int = 0
    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch: int = Field(default=1, gt=0)
    accumulation: int = Field(default=8, gt=0)
    draws: int = Field(default=8, gt=0)
    max_delay: int | None = Field(default=None, ge=0)
    encodings: int = Field(default=4, gt=0)
    replay_share: float = Field(default=0.3, ge=0, lt=1)
    lr: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    final_lr: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    foresight: float = Field(default=0.0, ge=0)
    prefix_noise: float = Field(default=0.3, ge=0)
    prefix_flips: float = Field(default=0.15, ge=0, le=1)
    state_noise: float = Field(default=0.02, ge=0)
    shift_pixels: int = Field(default=3, ge=0)
    things: int = Field(default=0, ge=0)
    thing_pixels: int = Field(default=14, ge=2)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    colour: float = Field(default=0.1, ge=0, lt=1)
    held_out: float = Field(default=0.05, gt=0, le=0.5)
    cache_mb: int = Field(default=4096, gt=0)
    checkpoint_s: float = Field(default=20.0, ge=0)
    log_steps: int = Field(default=10, gt=0)
    load_in_8bit: bool = False
    gradient_checkpointing: bool = False
    precision: Literal["bf16", "fp32"] = "bf16"
    threads: int = Field(default=1, gt=0)
    trackers: Trackers = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError(f"give one budget, minutes or steps; got minutes={self.minutes} steps={self.steps}")
        if self.profile not in PROFILES:
            raise ValueError(f"profile is {self.profile!r}; expected one of {', '.join(PROFILES)}")
        if self.foresight and self.profile == "expert":
            raise ValueError(
                f"foresight is {self.foresight:g} and the profile expert, which changes nothing of what is asked there;"
                " take foresight=0 or another profile"
            )
        if self.load_in_8bit and (self.profile not in SHALLOW or self.trains == "weights"):
            raise ValueError(
                f"load_in_8bit holds in 8 bits what the profile {self.profile} with trains={self.trains} changes; take"
                f" one of {', '.join(SHALLOW)} with trains=factors"
            )
        return self

    def identity(self) -> dict[str, object]:
        """What a checkpoint must agree with to be resumed: all that shapes the factors, save the budget."""
        watching = {
            "minutes",
            "steps",
            "cache_mb",
            "gradient_checkpointing",
            "checkpoint_s",
            "log_steps",
            # so that runs from before there were things go on
            *(() if self.things else ("things", "thing_pixels")),
            "threads",
            "trackers",
        }
        return self.model_dump(mode="json", exclude=watching)
