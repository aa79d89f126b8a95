"""A bundle of random weights and its graphs in every format, which tests share and must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exported_bundles import RANK, STEPS, write_micro
from recordings import record

from flexor.export.exporter import Wish, export_graphs
from flexor.pi05.program import Program
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.torch_engine import load_model


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    return write_micro(tmp_path_factory.mktemp("source") / "micro")


@pytest.fixture(scope="session")
def exported_as(source: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """By format: in fp32, with the horizon and prompt of the source and STEPS flow steps; made once."""
    made: dict[str, Bundle] = {}

    def export(format_: str) -> Bundle:
        if format_ not in made:
            out = tmp_path_factory.mktemp("exported") / "graphs"
            made[format_] = export_graphs(source, out, Wish(format_, rank=RANK, flow_steps=STEPS)).bundle
        return made[format_]

    return export


@pytest.fixture(scope="session")
def exported(exported_as: Callable[[str], Bundle]) -> Bundle:
    return exported_as("onnx")


@pytest.fixture(scope="module")
def program(source: Bundle) -> Program:
    return Program(load_model(source, None), STEPS)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    record(folder, episodes=6, steps=24, size=32)
    return folder
