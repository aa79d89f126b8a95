"""Configs: presets have the published sizes, and a wrong config is refused where it is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from flexor.pi05.config import PRESETS, GemmaConfig, Pi05Config, VisionConfig
from flexor.pi05.model import Pi05


def test_pi05_has_exactly_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Pi05(PRESETS["pi05"])
    assert sum(p.numel() for p in model.parameters()) == 3_353_433_872


@pytest.mark.parametrize("name", PRESETS)
def test_the_closed_form_counts_what_the_model_holds(name: str) -> None:
    with torch.device("meta"):
        model = Pi05(PRESETS[name])
    assert PRESETS[name].parameter_count() == sum(p.numel() for p in model.parameters())


def test_a_model_on_the_meta_device_holds_no_memory_and_no_buffers() -> None:
    with torch.device("meta"):
        model = Pi05(PRESETS["pi05"])
    assert all(p.is_meta for p in model.parameters())
    assert list(model.buffers()) == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    config = PRESETS[name]
    assert Pi05Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match="Pi05Config has no key 'horizn'"):
        Pi05Config.from_dict({**PRESETS["pi05-micro"].to_dict(), "horizn": 5})


def test_an_unknown_nested_key_is_named() -> None:
    values = PRESETS["pi05-micro"].to_dict()
    values["vision"] = {**values["vision"], "pool": 1}
    with pytest.raises(ValueError, match="VisionConfig has no key 'pool'"):
        Pi05Config.from_dict(values)


def test_a_missing_key_is_named() -> None:
    values = PRESETS["pi05-micro"].to_dict()
    del values["horizon"]
    with pytest.raises(ValueError, match="needs the key 'horizon'"):
        Pi05Config.from_dict(values)


def test_a_part_that_is_no_mapping_is_named() -> None:
    with pytest.raises(ValueError, match="vision is 5; expected a mapping"):
        Pi05Config.from_dict({**PRESETS["pi05-micro"].to_dict(), "vision": 5})


def test_sizes_that_do_not_fit_are_refused() -> None:
    micro = PRESETS["pi05-micro"]
    with pytest.raises(ValueError, match="image_size 30 is not a multiple of patch_size 16"):
        replace(micro.vision, image_size=30)
    with pytest.raises(ValueError, match=r"GemmaConfig\.depth is 0"):
        replace(micro.prefix, depth=0)
    with pytest.raises(ValueError, match="heads 4 is not a multiple of kv_heads 3"):
        GemmaConfig(width=32, depth=1, mlp_dim=8, heads=4, kv_heads=3, head_dim=8)
    with pytest.raises(ValueError, match="vision width 10 is not a multiple of heads 4"):
        VisionConfig(image_size=32, patch_size=16, width=10, depth=1, mlp_dim=8, heads=4)
    with pytest.raises(ValueError, match=r"prefix.depth 2 differs from expert.depth 3"):
        replace(micro, expert=replace(micro.expert, depth=3))
    with pytest.raises(ValueError, match="rope_theta"):
        replace(micro, rope_theta=float("nan"))
