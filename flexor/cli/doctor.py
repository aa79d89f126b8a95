"""`flexor doctor`: what this machine can run, and what is missing. Everything is tried, nothing is guessed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import typer

from flexor.cli.doctor_check import Check, probe
from flexor.cli.doctor_graphs import check_graph_runtimes
from flexor.cli.report import JsonFile, console, progress_console, table, write_json
from flexor.errors import FlexorError
from flexor.runtime.environment import cpu_model, gpu_name, package_version
from flexor.runtime.inference.bundle import Bundle, shipped_bundles
from flexor.runtime.system_libraries import apt_line, missing_libraries

EXTRAS = ("torch", "sim")
DEMO_BUNDLE = "pi05-nano"
FREE_GIB = 1.0

_RENDER_PROBE = """
import json, time
from flexor.sim.camera import CameraRig
import mujoco
from OpenGL.GL import GL_RENDERER, glGetString
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 2"/><camera name="eye" pos="0 0 2"/>'
    '<geom type="sphere" size=".3" rgba="1 0 0 1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
rig = CameraRig(model, 64)
rig.shoot(data, "eye")
start = time.perf_counter()
frame = rig.shoot(data, "eye")
milliseconds = 1000 * (time.perf_counter() - start)
device = glGetString(GL_RENDERER).decode()
rig.close()
print(json.dumps({"ok": bool(frame.std() > 1), "found": f"{device}, {milliseconds:.1f} ms a 64 px frame"}))
"""

_CUDA_PROBE = """
import json, torch
ok = torch.cuda.is_available()
print(json.dumps({"ok": ok, "found": torch.cuda.get_device_name(0) if ok else "none that torch can use"}))
"""


def doctor(
    json_file: JsonFile = None,
) -> None:
    """Tell what this machine can run, and what is missing.

    Exits with 3 when something is missing that `flexor demo` needs.

    Example: flexor doctor --json doctor.json
    """
    bundles = _open_shipped()
    checks: list[Check] = []
    with progress_console.status("looking around", spinner="line") as status:
        for check in _examine(bundles):
            checks.append(check)
            status.update(f"looked at {check.name}")
    passed = all(check.ok or not check.needed for check in checks)
    libraries = missing_libraries()
    table("flexor doctor", ("what", "state", "found"), ((c.name, c.state, c.found) for c in checks))
    for check in checks:
        if not check.ok and check.way_out:
            console.print(f"{check.name}: {check.way_out}", highlight=False, markup=False, soft_wrap=True)
    result = {
        "passed": passed,
        "checks": [{**asdict(check), "state": check.state} for check in checks],
        "bundles": {name: opened.hash if isinstance(opened, Bundle) else None for name, opened in bundles.items()},
        "apt": apt_line(libraries) if libraries else None,
    }
    write_json(json_file, result)
    if not passed:
        raise typer.Exit(3)


def _examine(bundles: Mapping[str, Bundle | FlexorError]) -> Iterator[Check]:
    """Look at one thing after another, the cheap ones first."""
    yield Check("python", sys.version_info >= (3, 11), platform.python_version(), way_out="install Python 3.11")
    yield Check("processor", True, f"{len(os.sched_getaffinity(0))} cores, {cpu_model()}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check("free disk", free >= FREE_GIB, f"{free:.1f} GiB here", way_out=f"free at least {FREE_GIB:g} GiB")
    yield from _packages()
    libraries = missing_libraries()
    if libraries:
        yield Check("system libraries", False, f"no {', '.join(libraries)}", way_out=f"type: {apt_line(libraries)}")
    else:
        yield Check("system libraries", True, "all that rendering needs")
    yield from _bundles(bundles)
    if package_version("mujoco") is not None:
        yield probe("rendering", _RENDER_PROBE, f"a camera frame could not be rendered; try {apt_line(['libGL.so.1'])}")
    yield from _libero()
    driver = gpu_name()
    if package_version("torch") is not None:
        way_out = f"the driver knows {driver}: install a CUDA build of torch" if driver else ""
        yield probe("cuda", _CUDA_PROBE, way_out, needed=False)
    yield from check_graph_runtimes(driver)


def _libero() -> Iterator[Check]:
    """What the LIBERO suites need besides: nothing else needs it."""
    from flexor.sim.libero.assets import glance
    from flexor.sim.libero.packages import missing_packages

    missing = missing_packages()
    found = f"no {', '.join(missing)}" if missing else f"hf-libero {package_version('hf-libero')}"
    yield Check("libero", not missing, found, needed=False, way_out="for the LIBERO suites type: make libero")
    try:
        yield Check("libero assets", True, glance(), needed=False)
    except FlexorError as error:
        yield Check("libero assets", False, "none that can be used", needed=False, way_out=str(error))


def _packages() -> Iterator[Check]:
    """What flexor's own metadata asks for: its base and the extras that the demo uses."""
    for requirement in importlib.metadata.requires("flexor") or []:
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
        if extra and extra[1] not in EXTRAS:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        version = package_version(name)
        source = f"flexor[{extra[1]}]" if extra else "flexor"
        yield Check(name, version is not None, version or "not installed", way_out=f"type: pip install '{source}'")


def _open_shipped() -> dict[str, Bundle | FlexorError]:
    """The bundles that ship with flexor, each opened, so that every file's hash is checked; or why one cannot be."""
    opened: dict[str, Bundle | FlexorError] = {}
    for name in shipped_bundles():
        try:
            opened[name] = Bundle.open(name)
        except FlexorError as error:
            opened[name] = error
    return opened


def _bundles(opened: Mapping[str, Bundle | FlexorError]) -> Iterator[Check]:
    if DEMO_BUNDLE not in opened:
        yield Check(f"bundle {DEMO_BUNDLE}", False, "does not ship with this copy", way_out="install flexor again")
    for name, bundle in opened.items():
        if isinstance(bundle, Bundle):
            yield Check(f"bundle {name}", True, f"{bundle.id}, every file as written")
        else:
            yield Check(f"bundle {name}", False, "damaged", way_out=str(bundle))
