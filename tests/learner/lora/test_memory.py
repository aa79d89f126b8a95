"""What the learner does with less memory, and what it says when there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_learners import settings, trainer_of

from flexor.learner.lora.learn import LearnWatcher, learn
from flexor.learner.lora.memory_knobs import LearnerOutOfMemory, next_knob
from flexor.runtime.inference.bundle import BUNDLE_JSON, Bundle, file_sha256
from flexor.runtime.inference.torch_engine import load_model

QUIET = LearnWatcher(lambda done, total: None, lambda standing: None)


def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(base: Bundle, changed: Path, tmp_path: Path):
    kept: dict[bool, int] = {}
    published = {}
    for again in (False, True):
        trainer = trainer_of(base, changed, tmp_path / str(again), gradient_checkpointing=again)
        sizes: dict[int, int] = {}

        def pack_hook(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
            trainer._sources[0].prefixes([0, 1, 2, 3], [0, 1, 2, 3])
        kept[again] = sum(sizes.values())
        for _ in range(2):
            trainer.step(1.0)
        published[again] = trainer.trained.published()
    assert kept[True] < 0.8 * kept[False]
    for name, factors in published[True].items():
        for factor, plain in zip(factors, published[False][name], strict=True):
            np.testing.assert_allclose(factor, plain, rtol=1e-4, atol=1e-7)


def test_a_base_in_8_bits_takes_a_quarter_and_teaches_nearly_the_same(base: Bundle, changed: Path, tmp_path: Path):
    trainers = {
        eight: trainer_of(base, changed, tmp_path / str(eight), load_in_8bit=eight, steps=24) for eight in (True, False)
    }
    frozen = {
        eight: sum(
            p.nbytes for name, p in trainer.model.named_parameters() if "prefix_layers" in name and "_proj" in name
        )
        for eight, trainer in trainers.items()
    }
    assert 0 < frozen[True] < 0.27 * frozen[False]
    losses = {}
    for eight, trainer in trainers.items():
        before = trainer.held_out(learned=False)
        trainer.run(lambda standing: None)
        losses[eight] = before, trainer.held_out()
    assert losses[True][0] == pytest.approx(losses[False][0], rel=0.02)
    assert losses[True][1] == pytest.approx(losses[False][1], rel=0.05)
    assert losses[True][1] < losses[True][0]


def stored_as(bundle: Bundle, dtype: torch.dtype, out: Path) -> Bundle:
    """The same bundle with its weights in another dtype."""
    shutil.copytree(bundle.path, out)
    weights = out / bundle.weights_path.name
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
    told = json.loads((out / BUNDLE_JSON).read_text())
    told["files"][weights.name] = file_sha256(weights)
    (out / BUNDLE_JSON).write_text(json.dumps(told))
    return Bundle.open(out)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
def test_a_base_held_narrow_computes_what_autocast_makes_of_a_wide_one(
    base: Bundle, changed: Path, tmp_path: Path, stored: torch.dtype
):
    base = stored_as(base, stored, tmp_path / "base")
    narrow = trainer_of(base, changed, tmp_path / "narrow", precision="bf16", steps=3)
    wide = trainer_of(base, changed, tmp_path / "wide", precision="bf16", steps=3)
    own, loaded = dict(wide.model.named_parameters()), load_model(base, torch.float32).state_dict()
    wide.trained.assign({name: factor.detach().clone() for name, factor in narrow.trained.live.items()})
    frozen = [name for name, parameter in own.items() if not parameter.requires_grad]
    for name in frozen:
        own[name].data = loaded[name.replace(".base_layer", "")]
    held = {name: parameter for name, parameter in narrow.model.named_parameters() if name in frozen}
    products = [name for name in frozen if "_proj.base_layer.weight" in name and "action" not in name]
    assert products and all(held[name].dtype == torch.bfloat16 for name in products)
    assert all(factor.dtype == torch.float32 for factor in narrow.trained.live.values())
    for step in range(3):
        assert narrow.step(1.0) == wide.step(1.0), step
    for name, factors in narrow.trained.published().items():
        for factor, other in zip(factors, wide.trained.published()[name], strict=True):
            np.testing.assert_array_equal(factor, other)


@pytest.mark.parametrize(
    ("chosen", "knob"),
    [
        ({"r": 16}, "r=8"),
        ({}, "precision=bf16"),
        ({"precision": "bf16"}, "gradient_checkpointing=true"),
        ({"precision": "bf16", "profile": "expert"}, "batch=1 accumulation=8"),
        ({"precision": "bf16", "gradient_checkpointing": True, "batch": 1}, "load_in_8bit=true"),
        ({"precision": "bf16", "gradient_checkpointing": True, "batch": 1, "load_in_8bit": True}, "draws=1"),
        (
            {"precision": "bf16", "gradient_checkpointing": True, "batch": 1, "load_in_8bit": True, "draws": 1},
            "profile=expert",
        ),
    ],
)
def test_memory_is_saved_in_the_order_of_the_recipe(chosen: dict[str, Any], knob: str):
    found = next_knob(settings(**chosen))
    assert found is not None
    assert str(found).startswith(knob)
    assert next_knob(settings(**chosen | dict(found.changes))) != found
    assert next_knob(settings(precision="bf16", profile="expert", batch=1, load_in_8bit=True, draws=1)) is None


def test_out_of_memory_ends_with_the_setting_to_change(base: Bundle, changed: Path, tmp_path: Path):
    with pytest.raises(LearnerOutOfMemory, match=r"out of memory .*; set precision=bf16 \(it took up to 34%"):
        learn(base, changed, tmp_path / "out", settings(draws=10**12), QUIET)
