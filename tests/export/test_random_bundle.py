"""Random bundles: real widths, any depth, always the same weights, and usable as any other bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.export import random_bundle
from flexor.export.random_bundle import sliced, write_random_bundle
from flexor.pi05.config import PRESETS
from flexor.pi05.init import draw_named
from flexor.runtime.inference.engine import open_engine


def test_a_slice_has_the_preset_s_widths_and_fewer_layers_and_words():
    model = sliced("pi05", layers=2, vocabulary=4096, horizon=50)
    assert (model.vision.depth, model.prefix.depth, model.expert.depth) == (2, 2, 2)
    assert (model.prefix.width, model.prefix.mlp_dim, model.expert.width) == (2048, 16384, 1024)
    assert (model.vocab_size, model.horizon) == (4096, 50)
    assert sliced("pi05") == PRESETS["pi05"].__class__.from_dict({**PRESETS["pi05"].to_dict(), "horizon": 10})


@pytest.mark.parametrize(
    ("preset", "sizes", "message"),
    [
        ("pi06", {}, "preset 'pi06' is unknown; there are pi05"),
        ("pi05", {"layers": 19}, "layers is 19; pi05 allows 1 to 18"),
        ("pi05-micro", {"vocabulary": 0}, "vocabulary is 0; pi05-micro allows 1 to"),
    ],
)
def test_sizes_that_do_not_exist_are_named(preset: str, sizes: dict[str, int], message: str):
    with pytest.raises(FlexorError, match=message):
        sliced(preset, **sizes)


def test_its_weights_are_those_of_their_names_and_every_part_matters(tmp_path: Path):
    made = write_random_bundle(tmp_path / "made", sliced("pi05-micro"), "micro")
    assert made.hash == write_random_bundle(tmp_path / "again", sliced("pi05-micro"), "micro").hash
    stored = load_file(made.weights_path)
    for name, tensor in stored.items():
        assert torch.equal(tensor, draw_named(name, tensor.shape).bfloat16()), name
        assert tensor.float().std() > 0, name
    engine, model = open_engine(made), made.model_config
    images = np.zeros((2, 3, model.vision.image_size, model.vision.image_size), np.float32)
    noise = np.random.default_rng(0).standard_normal((1, model.horizon, model.action_dim), np.float32)
    first, second = (
        engine.denoise(engine.encode(images, np.array(words), 0), noise, None, 0)[0] for words in ([5, 6], [5, 7])
    )
    assert np.abs(first - second).mean() > 0.01


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Usage:
        free = 10**6

    monkeypatch.setattr(random_bundle.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(FlexorError, match=r"would take 6\.7 GB and 0\.0 GB are free"):
        write_random_bundle(tmp_path / "made", sliced("pi05"), "large")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_one_and_tells_what(tmp_path: Path):
    out = tmp_path / "made"
    given = ["bench", "bundle", "pi05-micro", "--layers", "1", "--out", str(out), "--json", str(tmp_path / "told.json")]
    assert CliRunner().invoke(app, given).exit_code == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["bundle"].startswith("pi05-micro-1-layers-random@")
    assert told["parameters"] == sliced("pi05-micro", layers=1).parameter_count()
    again = CliRunner().invoke(app, given)
    assert again.exit_code != 0 and "already exists" in str(again.exception)
