"""What tests of whole commands share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported_bundles import write_micro


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="fx") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a bundle of random weights."""
    return str(write_micro(tmp_path_factory.mktemp("bundle") / "micro").path)
