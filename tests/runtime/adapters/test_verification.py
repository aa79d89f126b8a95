"""Adapters that must not be served are refused, each with its reason; the good one is taken as it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from random_adapters import ALPHA, RANK, draw_factors
from safetensors.numpy import load_file, save_file

from flexor.pi05.lora import is_deep, pack
from flexor.pi05.lora_targets import ALL_PAIRS, PAIRS
from flexor.runtime.adapters.adapter_error import AdapterError
from flexor.runtime.adapters.adapter_folder import AdapterFolder
from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.manifest import MANIFEST, SIGNATURE, Manifest, adapter_id
from flexor.runtime.adapters.peft_files import CONFIG, MODEL
from flexor.runtime.adapters.signing import key_id, signature_bytes
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import Bundle, file_sha256

Write = Callable[..., Path]


def renamed(path: Path) -> Path:
    """The folder under the name that its manifest has now, the hashes in it put right: a careful forger's work."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    for name in (CONFIG, MODEL):
        manifest["files"][name] = {"sha256": file_sha256(path / name), "size": (path / name).stat().st_size}
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path.rename(path.with_name(adapter_id(manifest["version"], (path / MANIFEST).read_bytes())))


def with_manifest(path: Path, **changes: object) -> Path:
    manifest = json.loads((path / MANIFEST).read_bytes()) | changes
    (path / MANIFEST).write_text(json.dumps(manifest))
    return renamed(path)


def with_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    tensors = load_file(path / MODEL)
    change(tensors)
    save_file(tensors, path / MODEL)
    return renamed(path)


def reason(verifier: Verifier, path: Path, told: str | None = None) -> str:
    with pytest.raises(AdapterError, match=told) as caught:
        verifier.verify(path)
    return caught.value.reason


def test_what_was_written_is_what_is_packed(micro_bundle: Bundle, verifier: Verifier, write: Write) -> None:
    path = write(seed=1, episodes=["e1", "e2"])
    found = verifier.verify(path)
    factors = draw_factors(micro_bundle.model_config, 1)
    expected = pack(micro_bundle.model_config, factors, ALPHA / RANK, RANK)
    assert all(np.array_equal(found.packed[name], array) for name, array in expected.items())
    a, b = factors["action_in_proj"]
    weight = load_file(micro_bundle.weights_path)["action_in_proj.weight"]
    change = ALPHA / RANK * np.linalg.norm(b @ a) / np.linalg.norm(weight)
    assert found.changes["action_in_proj"] == pytest.approx(change, rel=1e-4)
    assert found.folder.manifest.episodes == ("e1", "e2")
    assert found.folder.manifest.version == 1
    assert write(seed=2).name.startswith("2-")


def test_a_file_that_is_missing_or_cut_short_is_torn(verifier: Verifier, write: Write) -> None:
    path = write()
    raw = (path / MODEL).read_bytes()
    (path / MODEL).write_bytes(raw[: len(raw) // 2])
    assert reason(verifier, path, "write the adapter again") == "torn"
    (path / MODEL).unlink()
    assert reason(verifier, path) == "torn"
    (path / MODEL).write_bytes(raw)
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:100])
    assert reason(verifier, path) == "torn"


def test_a_flipped_bit_is_told_apart_from_a_torn_file(verifier: Verifier, write: Write) -> None:
    path = write()
    raw = bytearray((path / MODEL).read_bytes())
    raw[-1] ^= 1
    (path / MODEL).write_bytes(raw)
    assert reason(verifier, path, "sha256") == "altered"


def test_a_manifest_under_another_adapters_name_is_altered(verifier: Verifier, write: Write) -> None:
    path, other = write(seed=1), write(seed=2)
    shutil.copy(other / MANIFEST, path / MANIFEST)
    assert reason(verifier, path, "folder's name") == "altered"


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "extra.pkl"])
def test_what_can_run_code_is_refused_by_name(verifier: Verifier, write: Write, name: str) -> None:
    path = write()
    (path / name).write_bytes(b"\x80\x04N.")
    assert reason(verifier, path, name) == "pickled"


def test_a_pickle_under_the_name_of_safetensors_is_refused(verifier: Verifier, write: Write) -> None:
    path = write()
    (path / MODEL).write_bytes(b"\x80\x04N.")
    assert reason(verifier, renamed(path)) == "pickled"


def test_a_file_that_no_adapter_has_is_refused(verifier: Verifier, write: Write) -> None:
    path = write()
    (path / "notes.txt").write_text("x")
    assert reason(verifier, path, "notes.txt") == "altered"


def test_a_link_out_of_the_folder_is_not_followed(verifier: Verifier, write: Write, tmp_path: Path) -> None:
    path = write()
    (path / MODEL).rename(tmp_path / "elsewhere")
    (path / MODEL).symlink_to(tmp_path / "elsewhere")
    assert reason(verifier, path) == "torn"


def test_numbers_that_are_not_finite_are_named(verifier: Verifier, write: Write) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["base_model.model.action_in_proj.lora_A.weight"][1, 2] = np.nan

    told = r"action_in_proj.lora_A.weight is nan at \[1, 2\]"
    assert reason(verifier, with_tensors(write(), spoil), told) == "not_finite"


def test_another_base_and_other_statistics_are_refused(verifier: Verifier, write: Write) -> None:
    assert reason(verifier, with_manifest(write(), base="0" * 64)) == "wrong_base"
    assert reason(verifier, with_manifest(write(), norm_stats="0" * 64)) == "wrong_statistics"


def test_another_rank_alpha_or_target_is_told(verifier: Verifier, write: Write) -> None:
    assert reason(verifier, write(rank=2), "rank 2; expected 4") == "wrong_schema"
    assert reason(verifier, write(alpha=16.0), "alpha 16; expected 8") == "wrong_schema"


def test_an_adapter_of_the_expert_alone_is_taken_and_changes_no_projector(
    verifier: Verifier, micro_bundle: Bundle, root: Path
) -> None:
    factors = draw_factors(micro_bundle.model_config)
    del factors["projector"]
    packed = verifier.verify(write_adapter(root, factors, micro_bundle, rank=RANK, alpha=ALPHA)).packed
    assert not packed["projector_a"].any() and not packed["projector_b"].any() and packed["action_out_b"].any()


def test_a_server_of_fewer_projections_refuses_an_adapter_that_changes_another(
    verifier: Verifier, write: Write
) -> None:
    fewer = tuple(name for name in verifier.schema.targets if name != "projector")
    strict = replace(verifier, schema=verifier.schema.model_copy(update={"targets": fewer}))
    assert reason(strict, write(), "changes projector, which are none of those") == "wrong_schema"


def test_what_reaches_the_image_tower_is_for_weights_and_not_for_graphs(
    micro_bundle: Bundle, verifier: Verifier, tmp_path: Path
) -> None:
    factors = draw_factors(micro_bundle.model_config, pairs=ALL_PAIRS)
    path = write_adapter(tmp_path / "deep", factors, micro_bundle, rank=RANK, alpha=ALPHA)
    schemas = {
        pairs: AdapterSchema.of(micro_bundle.model_config, RANK, ALPHA, kind)
        for pairs, kind in {"weights": micro_bundle.adapter_pairs, "graphs": PAIRS}.items()
    }
    found = replace(verifier, schema=schemas["weights"]).verify(path)
    assert is_deep(found.packed) and "vision.layers.0.fc1" in found.changes
    graphs = replace(verifier, schema=schemas["graphs"])
    assert path.joinpath(MODEL).stat().st_size > graphs.max_model_bytes
    assert reason(graphs, path) == "oversized"
    few = {name: pair for name, pair in factors.items() if name.startswith("vision.layers.0.fc1")}
    path = write_adapter(tmp_path / "few", few, micro_bundle, rank=RANK, alpha=ALPHA)
    assert reason(graphs, path, "changes vision.layers.0.fc1, which are none of those") == "wrong_schema"


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}, {"r": 2}]
)
def test_a_config_that_means_something_else_is_refused(
    verifier: Verifier, write: Write, change: dict[str, object]
) -> None:
    path = write()
    (path / CONFIG).write_text(json.dumps(json.loads((path / CONFIG).read_bytes()) | change))
    assert reason(verifier, renamed(path)) == "wrong_schema"


def test_a_tensor_of_another_shape_than_the_manifest_says_is_refused(verifier: Verifier, write: Write) -> None:
    def widen(tensors: dict[str, np.ndarray]) -> None:
        name = "base_model.model.action_in_proj.lora_A.weight"
        tensors[name] = np.pad(tensors[name], ((0, 0), (0, 1)))

    assert reason(verifier, with_tensors(write(), widen), "action_in_proj") == "wrong_schema"


def test_too_large_a_change_and_too_large_a_file_are_oversized(verifier: Verifier, write: Write) -> None:
    assert reason(verifier, write(size=100.0), "of its norm") == "oversized"
    path = write()
    with (path / MODEL).open("ab") as stream:
        stream.truncate(verifier.max_model_bytes + 1)
    assert reason(verifier, path, "bytes") == "oversized"


def test_with_keys_an_adapter_must_be_signed_by_one_of_them(verifier: Verifier, write: Write) -> None:
    ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    keys = {key_id(ours.public_key()): ours.public_key()}
    strict = Verifier(verifier.bundle, verifier.schema, verifier.weights, keys, verifier.max_change)
    assert strict.verify(write(seed=1, key=ours)).signed_by in keys
    assert reason(strict, write(seed=2), "no signature") == "unsigned"
    assert reason(strict, write(seed=3, key=theirs), "trusted") == "unsigned"
    path = write(seed=4)
    (path / SIGNATURE).write_bytes(signature_bytes((path / MANIFEST).read_bytes(), ours))
    assert strict.verify(path).signed_by in keys
    (path / SIGNATURE).write_bytes(signature_bytes(b"something else", ours))
    assert reason(strict, path, "does not fit") == "altered"
    (path / SIGNATURE).write_text("{}")
    assert reason(strict, path) == "unsigned"


def test_a_folder_that_changed_since_it_was_read_is_noticed(verifier: Verifier, write: Write) -> None:
    path = write()
    folder = verifier.verify(path).folder
    folder.check_unchanged(path)
    with (path / MODEL).open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\0\0\0\1")
    with pytest.raises(AdapterError) as caught:
        folder.check_unchanged(path)
    assert caught.value.reason == "changed"


@pytest.mark.parametrize("name", ["../outside", "1-0123456789ab/..", "", "1-XYZ", "01-0123456789ab", "/etc"])
def test_only_the_name_of_an_adapter_leads_to_a_folder(verifier: Verifier, root: Path, name: str) -> None:
    with pytest.raises(AdapterError) as caught:
        AdapterFolder.read(root / name, 1000)
    assert caught.value.reason == "unknown"


def test_any_bytes_in_the_place_of_a_manifest_are_refused_in_words() -> None:
    for raw in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"schema_version": 2}'):
        with pytest.raises(AdapterError) as caught:
            Manifest.from_bytes(raw, "manifest.json")
        assert caught.value.reason == "torn"
