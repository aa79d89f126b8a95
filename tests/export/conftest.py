"""A bundle of random weights and its graphs, which tests share and must not change."""

from __future__ import annotations

import pytest
import torch
from exported_bundles import RANK, STEPS, write_micro

from flexor.export.exporter import Wish, export_graphs
from flexor.runtime.inference.bundle import Bundle


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    return write_micro(tmp_path_factory.mktemp("source") / "micro")


@pytest.fixture(scope="session")
def exported(source: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In fp32, with the horizon and prompt of the source and STEPS flow steps."""
    out = tmp_path_factory.mktemp("exported") / "graphs"
    return export_graphs(source, out, Wish(rank=RANK, flow_steps=STEPS)).bundle
