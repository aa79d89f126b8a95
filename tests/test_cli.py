"""The command line: help without heavy libraries, errors in one line, exit codes that mean something."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flexor import __version__
from flexor.cli.doctor_graphs import ONNX_GRAPH, check_graph_runtimes
from flexor.cli.main import COMMANDS, app
from flexor.cli.run_view import RunView
from flexor.runtime.driving.run_report import EpisodeResult, RunReport

FLEXOR = [sys.executable, "-m", "flexor.cli.main"]
GROUPS = {
    "adapter": ("list", "show", "push", "swap", "rollback", "remove", "merge", "sign"),
    "campaign": ("run", "table"),
    "cl": ("metrics",),
    "episodes": ("list", "show", "label", "verify", "export", "evict", "calibrate", "alarms"),
    "bench": ("engines", "latency", "precisions", "roofline", "sim", "wire"),
    "plot": ("engines", "episode", "run", "shift"),
}
GRAPH_CHECKS = (
    "onnx export",
    "onnxruntime on cpu",
    "onnxruntime on cuda",
    "tensorrt-rtx",
    "tensorrt",
    "tensorrt on a GPU",
)
CALLS = [(name,) for name in COMMANDS if name not in GROUPS] + [
    (group, sub) for group, subs in GROUPS.items() for sub in subs
]

HELP_OF_ALL = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'mujoco', 'gymnasium', 'matplotlib', 'transformers', 'tensorboard'):
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
from typer.testing import CliRunner
from flexor.cli.main import app

for call in CALLS:
    result = CliRunner().invoke(app, [*call, "--help"])
    if result.exit_code != 0 or "Example: flexor " + " ".join(call) not in " ".join(result.output.split()):
        print(" ".join(call), "->", result.exit_code, repr(result.exception), result.output, sep="\\n")
        sys.exit(1)
"""


def flexor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLEXOR, *arguments], capture_output=True, text=True, timeout=100, env={**os.environ, **environment}
    )


def alive(pid: str) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_help_lists_every_command_and_imports_none_of_them():
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom flexor.cli.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nprint(result.output)\n"
        "print(sorted(name for name in sys.modules if name.startswith('flexor.cli.') or name in ('torch', 'mujoco')))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    *listed, imported = run.stdout.strip().splitlines()
    assert imported == "['flexor.cli.main']"
    for name, (_, summary) in COMMANDS.items():
        assert any(line.split() == [name, *summary.split()] for line in listed), name


def test_the_help_of_every_command_ends_with_an_example_and_needs_no_heavy_library():
    program = f"CALLS = {CALLS!r}\n{HELP_OF_ALL}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_command_can_write_its_result_as_json(call: tuple[str, ...]):
    told = " ".join(CliRunner().invoke(app, [*call, "--help"]).output.split())
    assert "--json FILE Also write the result as JSON; - is standard output" in told


def test_a_mistyped_command_is_wrong_usage_and_the_right_one_is_offered():
    run = flexor("serv")
    assert run.returncode == 2
    assert "Did you mean 'serve'?" in run.stderr


def test_an_unknown_option_is_wrong_usage():
    run = flexor("doctor", "--no-such-option")
    assert run.returncode == 2
    assert "--no-such-option" in run.stderr


def test_a_failure_is_one_line_on_standard_error_and_exit_code_1(tmp_path: Path):
    run = flexor("serve", str(tmp_path / "nowhere"))
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "nowhere" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_unknown_simulator_is_refused_with_the_names_that_sim_takes():
    run = flexor("eval", "pi05-nano", "--sim", "nowhere")
    assert run.returncode == 1
    assert "unknown simulator 'nowhere', expected one of: tabletop" in run.stderr


def test_ctrl_c_before_the_command_has_begun_ends_with_130_and_no_traceback():
    program = (
        "import typer.main\ndef ctrl_c(app):\n    raise KeyboardInterrupt\ntyper.main.get_command = ctrl_c\n"
        "from flexor.cli.main import main\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (130, "")


def test_ctrl_c_while_python_still_imports_the_command_ends_with_130_and_no_traceback():
    program = (
        "import os, signal, sys\nclass CtrlC:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\nsys.meta_path.insert(0, CtrlC())\n"
        "from flexor.__main__ import main\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


def test_the_command_can_be_called_as_a_module():
    run = subprocess.run([sys.executable, "-m", "flexor", "--version"], capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"flexor {__version__}\n", "")


def test_the_reason_of_an_aborted_episode_keeps_its_square_brackets(tmp_path: Path):
    reason = "camera 'wrist' has shape (4, 4); expected RGB [height, width, 3] [/x]"
    report = RunReport(results=[EpisodeResult(0, "left", 0, "abort", reason, 3, 3, None, tmp_path)])
    printed = io.StringIO()
    with RunView(report, 1, Console(file=printed)):
        pass
    assert reason in printed.getvalue()


@pytest.mark.parametrize(
    "call",
    [
        ("serve", "pi05-nano"),
        ("run", "--server", "ipc:///nowhere.sock", "--robot", "sim:tabletop"),
        ("collect", "--sim", "tabletop", "--episodes", "1", "--out", "OUT"),
        ("pretrain", "--data", "OUT", "--preset", "pi05-micro", "--minutes", "1", "--out", "OUT"),
    ],
    ids=lambda call: call[0],
)
def test_an_unknown_setting_is_named_before_anything_starts(call: tuple[str, ...], tmp_path: Path):
    run = flexor(*(str(tmp_path / "out") if word == "OUT" else word for word in call), "no_such_setting=1")
    assert run.returncode == 1, run.stderr
    assert "no_such_setting" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_tasks_of_libero_are_recorded_by_name_or_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []
    monkeypatch.setattr("flexor.sim.collect.collect", lambda *given: asked.append(given[8]))
    call = ["collect", "--sim", "libero_goal", "--out", str(tmp_path / "out"), "--tasks"]
    assert CliRunner().invoke(app, [*call, "7, put_the_bowl_on_the_plate"]).exit_code == 0
    assert asked == [["turn_on_the_stove", "put_the_bowl_on_the_plate"]]
    unknown = CliRunner().invoke(app, [*call, "99"])
    assert "libero_goal has no task '99'; expected 0 to 9" in str(unknown.exception)


def test_doctor_writes_what_it_found_as_json():
    run = flexor("doctor", "--json", "-")
    result = json.loads(run.stdout)
    checks = {check["name"]: check for check in result["checks"]}
    assert {"python", "processor", "free disk", "numpy", "torch", "mujoco", "rendering", "cuda"} <= set(checks)
    assert checks["rendering"]["state"] == "ok", checks["rendering"]
    assert result["passed"] == all(check["ok"] or not check["needed"] for check in checks.values())
    assert run.returncode == (0 if result["passed"] else 3)
    assert result["env"]["packages"]["torch"] == checks["torch"]["found"]
    assert not any(checks[name]["needed"] for name in GRAPH_CHECKS)
    assert {checks[name]["state"] for name in ("onnx export", "onnxruntime on cpu", "tensorrt-rtx")} == {"ok"}
    assert f"onnxruntime {version('onnxruntime')}" in checks["onnxruntime on cpu"]["found"]
    assert (
        checks["tensorrt-rtx"]["found"].startswith(version("tensorrt_rtx"))
        and "sm89" in checks["tensorrt-rtx"]["found"]
    )
    assert "pip install" in checks["tensorrt"]["way_out"]


def test_the_graph_that_doctor_computes_is_the_identity():
    graph = onnx.load_model_from_string(bytes.fromhex(ONNX_GRAPH))
    onnx.checker.check_model(graph)
    assert [node.op_type for node in graph.graph.node] == ["Identity"]


def test_doctor_tells_what_is_not_installed_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flexor.cli.doctor_graphs.package_version", lambda name: None)
    checks = {check.name: check for check in check_graph_runtimes("NVIDIA H100")}
    assert tuple(checks) == GRAPH_CHECKS
    assert {check.state for check in checks.values()} == {"absent"}
    assert all("pip install" in check.way_out for check in checks.values())
    assert (
        "NVIDIA H100" in checks["onnxruntime on cuda"].way_out
        and "flexor[onnx-gpu]" in checks["onnxruntime on cuda"].way_out
    )


def test_doctor_exits_with_3_when_rendering_does_not_work():
    run = flexor("doctor", "--json", "-", MUJOCO_GL="no-such-way")
    assert run.returncode == 3
    rendering = next(check for check in json.loads(run.stdout)["checks"] if check["name"] == "rendering")
    assert rendering["state"] == "missing"
    assert "no-such-way" in rendering["found"]
    assert "apt-get install" in rendering["way_out"]


def test_a_result_that_cannot_be_written_is_an_error_that_names_the_file():
    run = flexor("doctor", "--json", "/proc/no-such-folder/result.json")
    assert run.returncode == 1
    assert "/proc/no-such-folder/result.json" in run.stderr
    assert "--json" in run.stderr


def test_ctrl_c_ends_with_130_and_leaves_no_process_behind():
    process = subprocess.Popen([*FLEXOR, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (started := children.read_text().split()):
        assert process.poll() is None, "doctor ended before it tried anything"
        assert time.monotonic() < deadline, "doctor tried nothing"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    while any(alive(child) for child in started):
        assert time.monotonic() < deadline, f"of {started} some live on"
        time.sleep(0.01)
