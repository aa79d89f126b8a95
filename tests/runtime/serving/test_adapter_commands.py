"""`flexor adapter`: what a robot engineer types, against a real server in another process, and without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adapter_server
import numpy as np
import pytest
from random_adapters import ALPHA, RANK, draw_factors
from telling_process import TellingProcess
from typer.testing import CliRunner, Result

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.runtime.adapters.adapter_schema import AdapterSchema
from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.adapters.base_weights import BaseWeights
from flexor.runtime.adapters.verification import Verifier
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import open_engine
from flexor.runtime.serving.channel import ServerRefused
from flexor.runtime.serving.client import PolicyClient

PATIENCE_S = 60.0


def flexor(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["adapter", *map(str, arguments)])


def done(*arguments: object) -> dict[str, Any]:
    """What a command that must end well writes as JSON."""
    result = flexor(*arguments, "--json", "-")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


@pytest.fixture
def write(micro_bundle: Bundle, folder: Path) -> Callable[..., Path]:
    def make(seed: int, **more: Any) -> Path:
        factors = draw_factors(micro_bundle.model_config, seed)
        return write_adapter(folder / "adapters", factors, micro_bundle, rank=RANK, alpha=ALPHA, **more)

    return make


@pytest.fixture
def server(micro_bundle: Bundle, folder: Path, address: str) -> Iterator[Callable[..., None]]:
    """server(**settings): a server's process at `address`, killed at the end."""
    processes: list[TellingProcess] = []

    def begin(**settings: Any) -> None:
        command = [sys.executable, adapter_server.__file__, micro_bundle.path, address, folder / "adapters"]
        processes.append(TellingProcess([*command, json.dumps(settings)]))
        processes[-1].wait_for("ready")

    yield begin
    for process in processes:
        process.__exit__()


def test_push_list_swap_roll_back_and_remove(
    server: Callable[..., None], write: Callable[..., Path], address: str
) -> None:
    first, second = write(1, episodes=["e1"]), write(2)
    server(canary_episodes=0, shadow_requests=0)
    told = done("push", first, "--server", address)
    assert (told["adapter"], told["state"], told["active"]) == (first.name, "ACTIVE", first.name)
    assert done("push", second.name, "--server", address)["active"] == second.name
    rows = {row["id"]: row["state"] for row in done("list", "--server", address)["adapters"]}
    assert rows == {"base": "BASE", first.name: "RETIRED", second.name: "ACTIVE"}
    assert done("rollback", "--server", address)["active"] == first.name
    assert done("swap", "base", "--server", address, "--at", "chunk")["active"] == "base"
    result = flexor("push", second.name, "--server", address)
    assert isinstance(result.exception, ServerRefused)
    assert result.exception.code == "replayed"
    done("remove", second.name, "--server", address)
    assert not second.exists()
    with PolicyClient(address, PATIENCE_S) as client:
        assert client.hello()["adapter"] == "base"
    told = done("show", first)
    assert (told["episodes"], told["rank"], told["signed"]) == (["e1"], RANK, False)
    assert "adapter.active" in [entry["event"] for entry in told["audit"]]


def test_a_trial_is_told_and_without_a_server_the_directory_is(
    server: Callable[..., None], write: Callable[..., Path], address: str, folder: Path
) -> None:
    name = write(1).name
    assert done("list", "--dir", folder / "adapters")["adapters"][1]["state"] == "UNANNOUNCED"
    server(shadow_requests=0)
    assert done("push", name, "--server", address)["state"] == "CANARY"
    shown = flexor("list", "--server", address)
    assert f"trial of {name}: 0 pairs" in " ".join(shown.output.split())
    assert done("list", "--dir", folder / "adapters")["candidate"] == name


def test_a_signed_adapter_is_taken_where_keys_are_configured(
    server: Callable[..., None], write: Callable[..., Path], address: str, folder: Path
) -> None:
    made = done("sign", "--new-key", folder / "keys" / "learner.pem")
    assert (folder / "keys" / "learner.pem").stat().st_mode & 0o777 == 0o600
    path = write(1)
    server(canary_episodes=0, shadow_requests=0, keys=str(folder / "keys"))
    result = flexor("push", path.name, "--server", address)
    assert isinstance(result.exception, ServerRefused) and result.exception.code == "unsigned"
    assert done("sign", path, "--key", folder / "keys" / "learner.pem")["key"] == made["key"]
    assert done("push", path.name, "--server", address)["state"] == "ACTIVE"
    assert done("show", path)["signed"]
    again = flexor("sign", "--new-key", folder / "keys" / "learner.pem")
    assert isinstance(again.exception, FlexorError), "a key is never overwritten"


def test_a_merged_bundle_computes_what_the_adapter_does(
    micro_bundle: Bundle, write: Callable[..., Path], verifier: Verifier, folder: Path
) -> None:
    path = write(1)
    told = done("merge", path, "--bundle", micro_bundle.path, "--out", folder / "merged")
    merged = Bundle.open(folder / "merged")
    assert (told["hash"], merged.config.origin["merged"]) == (merged.hash, path.name)
    rng, config = np.random.default_rng(0), micro_bundle.model_config
    size = config.vision.image_size
    images = rng.uniform(-1, 1, (2, 3, size, size)).astype(np.float32)
    tokens, noise = np.arange(5), rng.standard_normal((1, config.horizon, config.action_dim), np.float32)
    adapted, plain = open_engine(micro_bundle, flow_steps=2), open_engine(merged, flow_steps=2)
    adapted.load_slot(1, verifier.verify(path).packed)
    expected = adapted.denoise(adapted.encode(images, tokens, 1), noise, None, 1)[0]
    np.testing.assert_allclose(plain.denoise(plain.encode(images, tokens), noise, None)[0], expected, atol=1e-6)


@pytest.fixture
def verifier(micro_bundle: Bundle) -> Verifier:
    schema = AdapterSchema.of(micro_bundle.model_config, RANK, ALPHA)
    return Verifier(micro_bundle, schema, BaseWeights(micro_bundle), max_change=1e6)
