"""What can be set about pretraining; the values are the recipe of docs/nano.md."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.learner.trackers import Trackers


class PretrainSettings(BaseModel):
    """One training run. Exactly one of `minutes` and `samples` ends it; the learning rate follows the same budget.

    Attributes:
        preset: name in flexor.pi05.config.PRESETS.
        init: bundle to go on from (folder, or a shipped one's name): its weights, words and normalisation; None begins
            from nothing.
        cameras: which recorded cameras the policy sees, in the order of its image tokens.
        minutes: wall budget, evaluation included; a resumed run goes on with what was left.
        samples: budget in training samples; with it a run is repeatable bit for bit (fp32, CPU, one thread).
        draws: (time, noise) draws of the flow loss that share one prefix pass.
        max_delay: largest number of committed actions in training-time real-time chunking.
        prefix_noise: standard deviation added to a chunk's committed actions, alike on all of them, normalised units.
        prefix_flips: share of the chunks whose committed actions show the other gripper command.
        muon_lr, adamw_lr: peak rates of the hidden matrices and of everything else.
        final_lr: what is left of the peak when the budget is spent.
        ema: largest decay of the averaged weights, which are the ones that ship.
        state_noise: standard deviation added to the normalised state.
        shift_pixels: largest shift of a frame, with its edge repeated.
        things, thing_pixels: how many things of one colour are laid into a frame at most, and how large at most.
        brightness, contrast, colour: half-widths of the factors drawn for each frame (colour: for each channel).
        foresight: weight of the training-only loss that asks where the gripper will close and let go; 0 leaves it out.
        elsewhere: weight of the same loss for what else could have been asked for, where `flexor elsewhere` noted it.
        elsewhere_share: share of a batch's samples that this is asked of at most; each costs a pass of the prefix.
        word_dropout: share of the sentences' words replaced by the unknown word, so that one is no surprise later.
        held_out: share of the episodes that is never trained on.
        evaluation_samples: held-out samples behind one row of held-out numbers.
        checkpoint_s: seconds between checkpoints; 0 writes one after every step.
        threads: of each process.
        processes: CPU processes that share every batch (flexor.learner.crew).
        trackers: wandb, trackio: who gets the curves besides their file and TensorBoard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "pi05-nano"
    cameras: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    init: str | None = None
    seed: int = 0
    minutes: float | None = Field(default=None, gt=0)
    samples: int | None = Field(default=None, gt=0)
    batch: int = Field(default=64, gt=0)
    draws: int = Field(default=4, gt=0)
    max_delay: int = Field(default=5, ge=0)
    prefix_noise: float = Field(default=0.3, ge=0)
    prefix_flips: float = Field(default=0.15, ge=0, le=1)
    muon_lr: float = Field(default=3e-3, gt=0)
    adamw_lr: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=150, ge=0)
    final_lr: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.997, ge=0, lt=1)
    state_noise: float = Field(default=0.02, ge=0)
    shift_pixels: int = Field(default=3, ge=0)
    things: int = Field(default=0, ge=0)
    thing_pixels: int = Field(default=14, ge=2)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    colour: float = Field(default=0.1, ge=0, lt=1)
    foresight: float = Field(default=1.0, ge=0)
    elsewhere: float = Field(default=1.0, ge=0)
    elsewhere_share: float = Field(default=0.25, gt=0, le=1)
    word_dropout: float = Field(default=0.02, ge=0, lt=1)
    held_out: float = Field(default=0.05, gt=0, le=0.5)
    evaluation_samples: int = Field(default=256, gt=0)
    evaluate_steps: int = Field(default=500, gt=0)
    log_steps: int = Field(default=20, gt=0)
    checkpoint_s: float = Field(default=60.0, ge=0)
    flow_steps: int = Field(default=10, gt=0)
    replan: int = Field(default=5, gt=0)
    noise_scale: float = Field(default=0.5, ge=0, le=1)
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, gt=0)
    processes: int = Field(default=1, gt=0)
    trackers: Trackers = ()

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.minutes is None) == (self.samples is None):
            raise ValueError(f"give one budget, minutes or samples; got minutes={self.minutes} samples={self.samples}")
        return self

    @model_validator(mode="after")
    def _equal_shares(self) -> Self:
        if self.batch % self.processes:
            raise ValueError(f"batch is {self.batch} and processes is {self.processes}; expected equal shares")
        return self

    def identity(self) -> dict[str, object]:
        """What a checkpoint must agree with to be resumed: all that shapes the weights, save the budget."""
        budget, watching = {"minutes", "samples"}, {"evaluate_steps", "evaluation_samples", "log_steps", "checkpoint_s"}
        machine = {"device", "threads", "processes", "trackers"}
        # so that runs from before there were things go on
        unused = set() if self.things else {"things", "thing_pixels"}
        # what is asked elsewhere depends on the data: the trainer tells it
        return self.model_dump(
            mode="json", exclude=budget | watching | machine | unused | {"elsewhere", "elsewhere_share"}
        )
