"""A bundle opens when every byte is what bundle.json says, and is refused by name otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexor.pi05.config import PRESETS
from flexor.pi05.normalize import NormStats
from flexor.pi05.prompt import build_word_tokenizer
from flexor.runtime.inference.bundle import Bundle, find_bundle, shipped_bundles
from flexor.runtime.inference.bundle_config import BundleError
from flexor.runtime.inference.bundle_writer import write_bundle

BundleMaker = Callable[..., Bundle]
DUMMY = {"weight": np.ones((2, 3), np.float32)}


@pytest.fixture
def bundle(make_bundle: BundleMaker, tmp_path: Path) -> Bundle:
    """A bundle whose files a test may damage."""
    return make_bundle(weights=DUMMY, path=tmp_path / "robot")


def edit(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    """Change bundle.json in place."""
    path = bundle.path / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def replace_file(bundle: Bundle, name: str, content: bytes) -> None:
    """Change a file together with its hash, as someone who writes bundles by hand would."""
    (bundle.path / name).write_bytes(content)
    edit(bundle, lambda data: data["files"].update({name: hashlib.sha256(content).hexdigest()}))


def test_what_was_written_is_what_opens(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.path)
    assert opened == bundle
    assert opened.hash == hashlib.sha256((bundle.path / "bundle.json").read_bytes()).hexdigest()
    assert opened.id == f"pi05-micro-random@{opened.hash[:12]}"
    assert opened.model_config == PRESETS["pi05-micro"]
    assert opened.cameras == ("agentview", "wrist")
    assert opened.config.origin == {"weights": "random"}


def test_the_hash_changes_with_the_weights(make_bundle: BundleMaker) -> None:
    other = {"weight": np.full((2, 3), 2, np.float32)}
    assert make_bundle(weights=DUMMY).hash == make_bundle(weights=DUMMY).hash
    assert make_bundle(weights=DUMMY).hash != make_bundle(weights=other).hash


def test_bundle_json_holds_exactly_the_documented_keys(bundle: Bundle) -> None:
    assert set(json.loads((bundle.path / "bundle.json").read_text())) == {
        "schema_version",
        "name",
        "model",
        "cameras",
        "state_dim",
        "normalization",
        "prompt",
        "horizon",
        "replan",
        "rtc_max_delay",
        "flow_steps",
        "hz",
        "action_space",
        "files",
        "origin",
    }


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "norm_stats.json"])
def test_one_changed_bit_in_any_file_is_refused_by_name(bundle: Bundle, name: str) -> None:
    content = bytearray((bundle.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered: its sha256 is"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "norm_stats.json"])
def test_a_missing_file_is_refused_by_name(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is listed in bundle.json but cannot be read"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "norm_stats.json"])
def test_a_file_that_is_not_listed_is_refused_by_name(bundle: Bundle, name: str) -> None:
    edit(bundle, lambda data: data["files"].pop(name))
    with pytest.raises(BundleError, match=f"does not list {name}"):
        Bundle.open(bundle.path)


def test_a_report_added_later_does_not_disturb_a_bundle(bundle: Bundle) -> None:
    (bundle.path / "gates").mkdir()
    (bundle.path / "gates" / "eval.json").write_text("{}")
    assert Bundle.open(bundle.path).hash == bundle.hash


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "bundle.json", ""])
def test_a_listed_file_outside_the_bundle_is_refused(bundle: Bundle, name: str) -> None:
    edit(bundle, lambda data: data["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="'files' lists"):
        Bundle.open(bundle.path)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown key": (lambda d: d.update(learning_rate=1), "unknown keys \\['learning_rate'\\]"),
    "missing key": (lambda d: d.pop("cameras"), "missing keys \\['cameras'\\]"),
    "other schema": (lambda d: d.update(schema_version=2), "schema_version is 2; this flexor reads 1"),
    "no schema": (lambda d: d.pop("schema_version"), "schema_version is None"),
    "unknown model key": (lambda d: d["model"].update(layers=3), "layers"),
    "unknown prompt key": (lambda d: d["prompt"].update(style="x"), "unknown keys \\['style'\\]"),
    "unknown prompt format": (lambda d: d["prompt"].update(format="x"), "prompt.format is 'x'; expected one of"),
    "padding beyond the bins": (lambda d: d["prompt"].update(padding=[256]), "expected bins in -1..255"),
    "padding without a state": (lambda d: d.update(prompt={"state": False, "padding": [128]}), "expected no padding"),
    "unknown action key": (lambda d: d["action_space"].update(scale=1), "scale"),
    "prompt not boolean": (lambda d: d["prompt"].update(state="yes"), "prompt.state is 'yes'"),
    "normalisation": (lambda d: d.update(normalization="minmax"), "normalization is 'minmax'"),
    "camera twice": (lambda d: d.update(cameras=["a", "a"]), "each name once"),
    "no camera": (lambda d: d.update(cameras=[]), "at least one"),
    "cameras as text": (lambda d: d.update(cameras="agentview"), "expected a list of names"),
    "horizon": (lambda d: d.update(horizon=11), "horizon is 11 and model.horizon 10"),
    "replan beyond horizon": (lambda d: d.update(replan=11), "replan is 11; expected a whole number in 1..10"),
    "delay of a whole chunk": (lambda d: d.update(rtc_max_delay=10), "rtc_max_delay is 10; .* 0..9"),
    "no flow step": (lambda d: d.update(flow_steps=0), "flow_steps is 0"),
    "state_dim as text": (lambda d: d.update(state_dim="8"), "state_dim is '8'"),
    "noise beyond training": (lambda d: d.update(noise_scale=1.5), "noise_scale is 1.5; expected 0 to 1"),
    "noise as text": (lambda d: d.update(noise_scale="low"), "wrong form"),
    "rate": (lambda d: d.update(hz=0), "hz is 0.0"),
    "name": (lambda d: d.update(name="../x"), "bundle name '../x'"),
    "too many actions": (lambda d: d["action_space"].update(names=["a"] * 8, units=["m"] * 8), "has only 7"),
    "units": (lambda d: d["action_space"].update(units=["m"]), "7 names and 1 units"),
    "scale": (lambda d: d["action_space"].update(metres_per_unit=0), "metres_per_unit is 0.0"),
    "empty workspace": (lambda d: d["action_space"].update(workspace=[[0, 0, 0], [1, 1, 0]]), "low below high"),
    "files": (lambda d: d.update(files=[]), "'files'"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_bundle_json_that_cannot_be_is_refused_with_the_reason(bundle: Bundle, case: str) -> None:
    change, message = CHANGES[case]
    edit(bundle, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(bundle.path)
    assert str(bundle.path / "bundle.json") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_bundle_json_that_is_not_an_object_is_refused(bundle: Bundle, content: bytes) -> None:
    (bundle.path / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.open(bundle.path)


def test_a_folder_without_bundle_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle.json cannot be read"):
        Bundle.open(tmp_path)


def test_an_unknown_name_lists_what_ships(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle 'pi06-giga'.*the bundles that ship are: ") as caught:
        find_bundle("pi06-giga")
    for name in shipped_bundles():
        assert name in str(caught.value)


def test_statistics_of_another_length_are_refused(bundle: Bundle) -> None:
    stats = json.loads((bundle.path / "norm_stats.json").read_text())
    stats["state"] = {key: values[:-1] for key, values in stats["state"].items()}
    replace_file(bundle, "norm_stats.json", json.dumps(stats).encode())
    with pytest.raises(BundleError, match=r"statistics of state have 7 dimensions; bundle\.json says 8"):
        Bundle.open(bundle.path).normalizers()


def test_statistics_with_an_unknown_key_are_refused(bundle: Bundle) -> None:
    stats = json.loads((bundle.path / "norm_stats.json").read_text())
    stats["reward"] = stats["state"]
    replace_file(bundle, "norm_stats.json", json.dumps(stats).encode())
    with pytest.raises(BundleError, match="unknown keys \\['reward'\\]"):
        Bundle.open(bundle.path).normalizers()


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(bundle: Bundle) -> None:
    words = [first + second for first in string.ascii_lowercase for second in string.ascii_lowercase]
    replace_file(bundle, "tokenizer.json", build_word_tokenizer(words, 999).to_str().encode())
    with pytest.raises(BundleError, match=r"knows 9\d\d tokens and the model embeds 512; .* it was trained with"):
        Bundle.open(bundle.path).tokenizer()


def test_a_tokenizer_that_is_none_is_refused(bundle: Bundle) -> None:
    replace_file(bundle, "tokenizer.json", b"{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Bundle.open(bundle.path).tokenizer()


def parts(bundle: Bundle) -> dict[str, Any]:
    """Arguments that write this bundle again."""
    stats = json.loads((bundle.path / "norm_stats.json").read_text())
    return {
        "config": bundle.config,
        "weights": DUMMY,
        "tokenizer_json": (bundle.path / "tokenizer.json").read_text(),
        "norm_stats": {key: NormStats.from_dict(value) for key, value in stats.items()},
    }


def test_writing_the_same_parts_gives_the_same_hash(bundle: Bundle, tmp_path: Path) -> None:
    assert write_bundle(tmp_path / "again", **parts(bundle)).hash == bundle.hash


def test_a_write_that_fails_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path / "torn", **{**parts(bundle), "weights": fail})
    assert sorted(os.listdir(tmp_path)) == before


def test_a_writer_killed_half_way_leaves_no_bundle(tmp_path: Path, bundle: Bundle) -> None:
    program = f"""
import os, signal
from pathlib import Path
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_writer import write_bundle
def die(path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
bundle = Bundle.open({str(bundle.path)!r})
for path in ({str(bundle.path)!r}, {str(tmp_path / "new")!r}):
    if os.fork() == 0:
        write_bundle(path, config=bundle.config, weights=die, tokenizer_json="", norm_stats={{}}, replace=True)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert not (tmp_path / "new").exists()
    assert Bundle.open(bundle.path).hash == bundle.hash


def test_parts_that_do_not_fit_are_refused_and_leave_nothing(bundle: Bundle, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        write_bundle(tmp_path / "torn", **{**parts(bundle), "tokenizer_json": "{}"})
    assert sorted(os.listdir(tmp_path)) == before


def test_a_bundle_in_the_way_is_kept_unless_it_is_to_be_replaced(bundle: Bundle) -> None:
    changed = {**parts(bundle), "weights": {"weight": np.zeros(3, np.float32)}}
    with pytest.raises(BundleError, match="already exists"):
        write_bundle(bundle.path, **changed)
    assert Bundle.open(bundle.path).hash == bundle.hash
    replaced = write_bundle(bundle.path, **changed, replace=True)
    assert Bundle.open(bundle.path).hash == replaced.hash != bundle.hash
    assert os.listdir(bundle.path.parent) == [bundle.path.name]


def test_a_folder_that_is_no_bundle_is_never_replaced(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("one")
    with pytest.raises(BundleError, match="already exists"):
        write_bundle(tmp_path / "thesis", **parts(bundle), replace=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "one"
