"""Fault tests: how often each is tried (`--tries`), and where what they lost is written down (`--fault-log`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_tally import Tally, read_tries, with_table

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--tries", type=int, default=1, help="how often each fault is tried, at other random moments")
    group.addoption(
        "--fault-log", type=Path, help="write the counts of every try here, and their table into docs/reliability.md"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tally" in metafunc.fixturenames:
        tries: int = metafunc.config.getoption("--tries")  # type: ignore[assignment]
        metafunc.parametrize("attempt", range(tries), ids="try{}".format)


def pytest_sessionstart(session: pytest.Session) -> None:
    log = session.config.getoption("--fault-log")
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    log = session.config.getoption("--fault-log")
    if log is not None and exitstatus == pytest.ExitCode.OK:
        PAGE.write_text(with_table(PAGE.read_text(), read_tries(log)))


@pytest.fixture
def tally(request: pytest.FixtureRequest, attempt: int) -> Iterator[Tally]:
    """The counts of this try, which must say at its end that nothing was lost."""
    marker = request.node.get_closest_marker("fault")
    test = f"{request.path.name}::{request.function.__name__}"
    made = Tally(*marker.args, test=test, attempt=attempt)
    yield made
    log = request.config.getoption("--fault-log")
    if log is not None:
        with log.open("a") as lines:
            lines.write(made.line())
    made.check()
