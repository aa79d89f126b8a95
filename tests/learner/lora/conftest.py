"""A trained small policy, and recordings that it has not seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import record

from flexor.learner.pretrain import Watcher, pretrain
from flexor.learner.settings import PretrainSettings
from flexor.runtime.inference.bundle import Bundle


@pytest.fixture(scope="session")
def base(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A pi05-micro that was trained for a moment, with words and statistics of its own."""
    out = tmp_path_factory.mktemp("base") / "small-base"
    settings = PretrainSettings(
        preset="pi05-micro", batch=16, warmup_steps=5, held_out=0.2, samples=640, evaluate_steps=1000
    )
    pretrain(recordings, out, settings, Watcher(lambda done, total: None, lambda standing: None))
    return Bundle.open(out)


@pytest.fixture(scope="session")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in which the arm must go the other way: what an adapter can learn."""
    root = tmp_path_factory.mktemp("changed")
    record(root, episodes=10, mirrored=True)
    return root
