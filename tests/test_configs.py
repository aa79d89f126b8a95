"""The files in configs/: each says every setting of its model, at its default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel

from flexor.flywheel.alerts import AlertSettings
from flexor.flywheel.online.settings import STEPS, OnlineSettings
from flexor.learner.continual.settings import ContinualSettings
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
    "alerts.yaml": (AlertSettings, []),
    "learn.yaml": (ContinualSettings, ["steps=1"]),
}
"""By file: its model, and what has no default and must be said."""

PARTS = ("libero.yaml", "pi05.yaml", "continual.yaml")
"""Of flexor.flywheel.online.settings.OnlineSettings, together with lora.yaml."""


def test_every_file_is_checked_here():
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {*MODELS, *PARTS}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_defaults(name: str):
    model, said = MODELS[name]
    assert load_settings(model, CONFIGS / name, said, "lora") == load_settings(model, None, said)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_says_every_setting(name: str):
    written = OmegaConf.load(CONFIGS / name)
    written = OmegaConf.select(written, "lora") if list(written) == ["lora"] else written
    for key in known_keys(MODELS[name][0]):
        folder, _, last = key.rpartition(".")
        assert last in (OmegaConf.select(written, folder) if folder else written), key


def test_the_parts_of_an_online_loop_give_the_defaults_and_say_every_setting():
    files = [CONFIGS / name for name in PARTS]
    assert load_settings(OnlineSettings, files) == load_settings(OnlineSettings, None, ["task=libero_long"])
    written = OmegaConf.merge(*(OmegaConf.load(file) for file in (*files, CONFIGS / "lora.yaml")))
    assert load_settings(OnlineSettings, CONFIGS / "lora.yaml").lora.steps == STEPS
    elsewhere = ("daemon",)  # run.yaml
    for key in known_keys(OnlineSettings):
        if not key.startswith(elsewhere):
            folder, _, last = key.rpartition(".")
            assert last in (OmegaConf.select(written, folder) if folder else written), key


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("domain_shift.current_level=high", lambda settings: settings.domain_shift.current_level == "high"),
        ("model.load_in_8bit=true", lambda settings: settings.model.load_in_8bit),
        ("lora.r=16", lambda settings: settings.continual(0).r == 16),
        ("lora.lora_alpha=64", lambda settings: settings.continual(0).lora_alpha == 64),
        (
            "thresholds.success_rate.trigger_threshold=0.85",
            lambda s: s.thresholds.success_rate.trigger_threshold == 0.85,
        ),
    ],
)
def test_the_keys_of_the_seed_reach_what_they_set(said: str, read: Callable[[OnlineSettings], bool]):
    assert not read(load_settings(OnlineSettings)) and read(load_settings(OnlineSettings, None, [said]))
