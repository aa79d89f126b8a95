"""The built wheel in a clean environment; `make build` runs it outside the checkout.

Only this catches files that did not travel into the sdist or the wheel.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import flexor
from flexor.runtime.inference.bundle import Bundle, shipped_bundles
from flexor.runtime.observation import Observation
from flexor.runtime.serving.client import PolicyClient

EMBEDDED = "pi05-nano"
"""The policy without which the wheel is not whole."""
LARGEST = 9 * 2**20
"""Bytes a shipped bundle may have."""
COMMAND = [str(Path(sys.executable).with_name("flexor"))]


def run(*arguments: str) -> str:
    """Run the installed command and return its standard output."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=180)
    if done.returncode != 0:
        raise SystemExit(f"flexor {' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def serve_and_infer(name: str, folder: Path) -> None:
    """Start a server of a bundle, by name or folder, ask it for one chunk, and stop it."""
    bundle = Bundle.open(name)
    address = f"ipc://{folder}/policy.sock"
    server = subprocess.Popen([*COMMAND, "serve", name, "--bind", address])
    try:
        client = PolicyClient(address, timeout_s=60.0)
        client.wait_ready(60.0)
        images = {camera: np.zeros((96, 96, 3), np.uint8) for camera in bundle.cameras}
        state = np.zeros(bundle.config.state_dim, np.float32)
        chunk = client.infer(Observation(images, state, "pick up the red block"))
        client.close()
        expected = (bundle.config.horizon, bundle.config.action_dim)
        if chunk.actions.shape != expected or not np.isfinite(chunk.actions).all():
            raise SystemExit(f"{name} answered {chunk.actions.shape} (finite expected), not {expected}")
        server.send_signal(signal.SIGINT)
        if server.wait(timeout=30) != 130:
            raise SystemExit(f"flexor serve {name} exited with {server.returncode} after Ctrl-C, not 130")
    finally:
        server.kill()
        server.wait(timeout=30)


def check_graph_runtimes(report: Mapping[str, Any]) -> None:
    """The wheel was installed with what makes and runs graphs on a CPU, and builds engines without a GPU."""
    states = {check["name"]: (check["state"], check["found"]) for check in report["checks"]}
    for name in ("onnx export", "onnxruntime on cpu", "tensorrt-rtx"):
        if states[name][0] != "ok":
            raise SystemExit(f"flexor doctor says of {name}: {states[name][0]}, {states[name][1]}")


def export(name: str, folder: Path) -> Path:
    """Make ONNX graphs of a bundle; few flow steps, which are quickly traced."""
    run("export", name, "--format", "onnx", "--flow-steps", "2", "--out", str(folder / "onnx"))
    return folder / "onnx"


def main() -> None:
    """Import everything, open what ships, and use the command."""
    if "site-packages" not in str(flexor.__file__):
        raise SystemExit(f"flexor was imported from {flexor.__file__}, not from an installed wheel")
    modules = [module.name for module in pkgutil.walk_packages(flexor.__path__, "flexor.")]
    for module in modules:
        importlib.import_module(module)
    if not (Path(flexor.__file__).parent / "py.typed").is_file():
        raise SystemExit("py.typed did not travel into the wheel")
    shipped = shipped_bundles()
    if EMBEDDED not in shipped:
        raise SystemExit(f"{EMBEDDED} did not travel into the wheel; bundles in it: {list(shipped)}")
    for name, folder in shipped.items():
        if (size := sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())) > LARGEST:
            raise SystemExit(f"the bundle {name} has {size} bytes; at most {LARGEST} may ship")
    if "doctor" not in run("--help"):
        raise SystemExit("flexor --help does not list its commands")
    report = json.loads(run("doctor", "--json", "-"))
    check_graph_runtimes(report)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="flexor-smoke-") as folder:
        for name in shipped:
            serve_and_infer(name, Path(folder))
        serve_and_infer(str(export(EMBEDDED, Path(folder))), Path(folder))
    print(f"smoke: flexor {flexor.__version__}, {len(modules)} modules, bundles {report['bundles']}: all good")


if __name__ == "__main__":
    main()
