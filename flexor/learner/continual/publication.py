"""Publication: one adapter, from its plan to its folder; done again after a kill, it gives the same folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from flexor.learner.continual.learner_state import Plan
from flexor.learner.continual.settings import ContinualSettings
from flexor.learner.lora.episode_set import EpisodeSet
from flexor.learner.lora.replay_mix import ReplayMix
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.trainer import CHECKPOINT, LoraStanding, LoraTrainer, Start
from flexor.learner.replay.online_pool import OnlinePool
from flexor.learner.replay.replay_sampler import ReplaySampler
from flexor.learner.replay.reservoir import Reservoir
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.manifest import BASE
from flexor.runtime.adapters.peft_files import MODEL, factors_of, read_model
from flexor.runtime.inference.bundle import Bundle

MAX_MODEL_BYTES = 2**32


class Publication:
    """Args:
    bundle: whose policy is taught.
    plan: what it is learned from.
    sets: the episodes of the plan.
    start: what it begins with; None for nothing.
    settings: how.
    folder: its checkpoint and curves.
    prefixes: folder of encoded prefixes.

    Raises:
        FlexorError: the checkpoint is of other settings.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        sets: Sequence[EpisodeSet],
        start: Start | None,
        settings: ContinualSettings,
        folder: Path,
        prefixes: Path,
    ) -> None:
        self._bundle, self._plan, self._settings, self._folder = bundle, plan, settings, folder
        # The sampler knows the reservoir by its ids alone: where it lies, the sets know.
        reservoir = Reservoir(folder, plan.replayed) if plan.replayed else None
        sampler = ReplaySampler(OnlinePool(plan.online), reservoir, settings.replay)
        self._mix = ReplayMix(sampler, sets)
        self._pools = [SamplePool(episodes, bundle, settings) for episodes in sets]
        self._trainer = LoraTrainer(bundle, self._pools, settings, folder, prefixes, self._mix, start)

    def learn(self, on_step: Callable[[LoraStanding], None], pause: Callable[[], None]) -> dict[str, float]:
        """Learn, or go on where a killed run or LearningStopped ended it.

        Returns:
            steps, samples, minutes, online_share, and the loss on held-out samples before and after, where there are.
        """
        trainer = self._trainer
        measured = [pool for pool, samples in enumerate(self._pools) if len(samples.held_out)]
        before = [trainer.held_out(pool, learned=False, pause=pause) for pool in measured]
        trainer.run(on_step, pause)
        told = {"steps": trainer.position, "samples": trainer.samples, "minutes": trainer.seconds / 60}
        told["online_share"] = self._mix.told()["train/online_share"]
        for pool, loss in zip(measured, before, strict=True):
            what = ("", "replay_")[pool]
            told |= {f"{what}loss_before": loss, f"{what}loss_after": trainer.held_out(pool, pause=pause)}
        return told

    def write(self, out: Path, plan: Plan, metrics: dict[str, float]) -> tuple[str, list[str]]:
        """Write what was learned into the directory of adapters; its id, and the robot's episodes that it came of.

        Args:
            plan: with version and time settled.

        Raises:
            AdapterError: it is not finite.
            OSError: the disk refuses.
        """
        assert plan.version is not None and plan.created_at is not None
        used = self._mix.used
        folder = write_adapter(
            out,
            self._trainer.trained.published(),
            self._bundle,
            rank=self._settings.r,
            alpha=self._settings.lora_alpha,
            parent=plan.parent,
            episodes=used,
            seed=self._settings.seed,
            metrics=metrics,
            version=plan.version,
            created_at=datetime.fromisoformat(plan.created_at),
        )
        return folder.name, used

    def close(self) -> None:
        """Throw away what only a killed run would need; the curves stay."""
        (self._folder / CHECKPOINT).unlink(missing_ok=True)


def read_start(out: Path, adapter: str, bundle: Bundle, settings: ContinualSettings) -> Start | None:
    """The adapter to begin with; None for `base`.

    Raises:
        AdapterError: it is gone, damaged, of another bundle, or of another rank or alpha.
    """
    if adapter == BASE:
        return None
    folder = AdapterFolder.read(out / adapter, MAX_MODEL_BYTES)
    manifest, schema = folder.manifest, folder.manifest.adapter_schema
    if manifest.base != bundle.hash:
        raise AdapterError("wrong_base", f"{adapter} was trained on {manifest.base[:12]}, not on {bundle.id}")
    if (schema.rank, schema.alpha) != (settings.r, settings.lora_alpha):
        text = f"{adapter} has rank {schema.rank} and alpha {schema.alpha:g}"
        raise AdapterError("wrong_schema", f"{text}; this learner has {settings.r} and {settings.lora_alpha:g}")
    return Start(adapter, factors_of(read_model(folder.files[MODEL], adapter), adapter))
