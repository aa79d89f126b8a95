"""What `flexor doctor` says of exported graphs: which libraries are here, and on what they really run. Needed by none.

onnxruntime computes a graph of one operation on each provider; TensorRT makes a builder, and names the GPUs that it
builds for.
"""

from __future__ import annotations

from collections.abc import Iterator

from flexor.cli.doctor_check import Check, probe
from flexor.runtime.environment import package_version

ONNX_GRAPH = (
    "08093a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a0808011204"
    "0a02080142040a001014"
)
"""y = Identity(x), float32 [1], opset 20."""

_ONNX_PROBE = """
import json, tempfile
from pathlib import Path
import numpy as np, onnxruntime
from flexor.errors import FlexorError
from flexor.runtime.inference.onnx_session import PROVIDERS, open_session
has = [name for name, theirs in PROVIDERS.items() if theirs in onnxruntime.get_available_providers()]
found = f"onnxruntime {onnxruntime.__version__}, built for {' and '.join(has)}"
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "one.onnx")
    path.write_bytes(bytes.fromhex("GRAPH"))
    try:
        ok = open_session(path, 1, "WANTED").run(None, {"x": np.ones(1, np.float32)})[0][0] == 1.0
    except FlexorError as error:
        ok, found = False, found if "WANTED" not in has else str(error)
print(json.dumps({"ok": bool(ok), "found": found}))
"""

_TENSORRT_PROBE = """
import json
from flexor.runtime.inference.tensorrt_library import TensorrtLibrary, last_error
library = TensorrtLibrary.load("LIBRARY")
messages = library.messages()
try:
    ok, found = library.module.Builder(messages) is not None, library.version
except Exception:
    ok, found = False, f"{library.version}, and it makes no builder: {last_error(messages)}"
where = f", builds for {', '.join(library.targets)}" if library.targets else ""
print(json.dumps({"ok": ok, "found": found + where}))
"""

_GPU_PROBE = """
import json
from flexor.runtime.inference.cuda_device import CudaError, capability, count_devices
try:
    ok, found = True, ", ".join(capability(place) for place in range(count_devices()))
except CudaError as error:
    ok, found = False, str(error)
print(json.dumps({"ok": ok, "found": found}))
"""


def check_graph_runtimes(driver: str | None) -> Iterator[Check]:
    """One check for each thing that exported graphs need somewhere.

    Args:
        driver: name of the GPU that a driver knows here, None where there is none.
    """
    version = package_version("onnx")
    yield Check(
        "onnx export",
        version is not None,
        f"onnx {version}" if version else "onnx is not installed",
        needed=False,
        way_out="to export to ONNX or TensorRT type: pip install 'flexor[torch,onnx]'",
    )
    ways_out = {
        "cpu": "to serve ONNX graphs type: pip install 'flexor[onnx]'",
        "cuda": f"for the {driver} type: pip uninstall onnxruntime; pip install 'flexor[onnx-gpu]'" if driver else "",
    }
    for provider, way_out in ways_out.items():
        name = f"onnxruntime on {provider}"
        if any(package_version(package) for package in ("onnxruntime", "onnxruntime-gpu")):
            program = _ONNX_PROBE.replace("GRAPH", ONNX_GRAPH).replace("WANTED", provider)
            yield probe(name, program, way_out, needed=False)
        else:
            yield Check(name, False, "onnxruntime is not installed", needed=False, way_out=way_out)
    yield from _tensorrt()


def _tensorrt() -> Iterator[Check]:
    """The two libraries that build engines, and the package and the GPU that run them."""
    ways_out = {
        "tensorrt_rtx": ("tensorrt-rtx", "to build and run TensorRT engines type: pip install 'flexor[tensorrt]'"),
        "tensorrt": ("tensorrt", "the full TensorRT comes from NVIDIA's own index: pip install tensorrt"),
    }
    for module, (package, way_out) in ways_out.items():
        if package_version(package) is None:
            yield Check(package, False, "not installed", needed=False, way_out=way_out)
        else:
            yield probe(package, _TENSORRT_PROBE.replace("LIBRARY", module), way_out, needed=False)
    way_out = "engines run on an NVIDIA GPU with its driver; they are built without one"
    if package_version("cuda-bindings") is None:
        way_out = "type: pip install 'flexor[tensorrt]'"
        yield Check("tensorrt on a GPU", False, "cuda-bindings is not installed", needed=False, way_out=way_out)
    else:
        yield probe("tensorrt on a GPU", _GPU_PROBE, way_out, needed=False)
