"""The files in configs/: each says every setting of its model, at its default."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel

from flexor.learner.lora.settings import LoraSettings
from flexor.learner.settings import PretrainSettings
from flexor.runtime.driving.daemon import DaemonSettings
from flexor.runtime.serving.server_settings import ServerSettings
from flexor.settings import known_keys, load_settings
from flexor.sim.collect import CollectSettings

CONFIGS = Path(__file__).parents[1] / "configs"
MODELS: dict[str, tuple[type[BaseModel], list[str]]] = {
    "serve.yaml": (ServerSettings, []),
    "run.yaml": (DaemonSettings, []),
    "collect.yaml": (CollectSettings, []),
    "pretrain.yaml": (PretrainSettings, ["minutes=1"]),
    "lora.yaml": (LoraSettings, ["minutes=1"]),
}
"""By file: its model, and what has no default and must be said."""


def test_every_file_is_checked_here():
    assert {path.name for path in CONFIGS.glob("*.yaml")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_defaults(name: str):
    model, said = MODELS[name]
    assert load_settings(model, CONFIGS / name, said) == load_settings(model, None, said)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_says_every_setting(name: str):
    written = OmegaConf.load(CONFIGS / name)
    for key in known_keys(MODELS[name][0]):
        folder, _, last = key.rpartition(".")
        assert last in (OmegaConf.select(written, folder) if folder else written), key
