"""Demonstrations recorded once for all the learner's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import CAMERAS, record

from flexor.learner.demonstrations import Demonstrations, load_demonstrations
from flexor.pi05.config import PRESETS

MICRO = PRESETS["pi05-micro"]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten short successful episodes of two tasks."""
    root = tmp_path_factory.mktemp("recordings")
    record(root, episodes=10)
    return root


@pytest.fixture(scope="session")
def demonstrations(recordings: Path) -> Demonstrations:
    """The same, loaded for pi05-micro."""
    return load_demonstrations(recordings, CAMERAS, MICRO.vision.image_size, MICRO.horizon)
