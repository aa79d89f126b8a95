"""Alerts: what an operator should be told of a run; a table of pure rules, and who hears of what has just begun.

A rule looks at the whole of what there is and says what is wrong now, or None. It knows no clock and no alert before.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from flexor.errors import FlexorError
from flexor.flywheel.cycles import judged, success
from flexor.runtime.adapters.audit_log import now
from flexor.runtime.episodes.index_row import EpisodeRow

logger = logging.getLogger(__name__)
GIB = 2**30
LOSS = "train/loss"
BEGUN, ENDED = "alert", "alert.ended"


class AlertSettings(BaseModel):
    """When an operator is told, and how (docs/dashboard.md).

    Attributes:
        window: judged episodes that success is counted over, and episodes that alarms are counted over.
        min_episodes: fewer say nothing about success or alarms.
        success_below: success over the window below this.
        collapse: no success in so many judged episodes, the last ones; 0 leaves it out.
        loss_ratio: a loss so many times its running mean; loss_span: rows that the mean reaches back, of which it
            needs half; loss_recent: a spike counts as going on for so many rows.
        alarm_rate: more than this part of the scored episodes of the window raised an entropy alarm.
        disk_free_gib: less is free where the episodes lie, GiB.
        command: a program and its arguments, run once for each alert that begins, never through a shell; it gets
            the alert as JSON on its standard input.
        command_timeout_s: then it is killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(default=50, gt=0)
    min_episodes: int = Field(default=20, gt=0)
    success_below: float = Field(default=0.9, ge=0, le=1)
    collapse: int = Field(default=10, ge=0)
    loss_ratio: float = Field(default=10.0, gt=1)
    loss_span: int = Field(default=20, gt=1)
    loss_recent: int = Field(default=20, gt=0)
    alarm_rate: float = Field(default=0.5, ge=0, le=1)
    disk_free_gib: float = Field(default=2.0, ge=0)
    command: tuple[str, ...] = ()
    command_timeout_s: float = Field(default=10.0, gt=0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A run as it stands.

    Attributes:
        rows: of the index, in the order in which the episodes began.
        curve: rows of the learner's present run.
        disk_free: bytes where the episodes lie; None when nobody knows.
    """

    rows: Sequence[EpisodeRow] = ()
    curve: Sequence[Mapping[str, float]] = ()
    disk_free: int | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What is wrong: its name in RULES, a sentence, and the numbers that it was judged by."""

    name: str
    told: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


Rule = Callable[[Reading, AlertSettings], Alert | None]


def collapse(reading: Reading, settings: AlertSettings) -> Alert | None:
    """No success at all in the last episodes."""
    told = [outcome for row in reading.rows if (outcome := judged(row)) is not None][-settings.collapse :]
    if not settings.collapse or len(told) < settings.collapse or any(told):
        return None
    return Alert("collapse", f"no success in the last {len(told)} episodes", {"episodes": len(told)})


def success_low(reading: Reading, settings: AlertSettings) -> Alert | None:
    """Success over the window below its threshold."""
    counted = success([row for row in reading.rows if judged(row) is not None][-settings.window :])
    if counted["judged"] < settings.min_episodes or counted["success_rate"] >= settings.success_below:
        return None
    told = f"{counted['successes']} of {counted['judged']} episodes succeeded, less than {settings.success_below:.0%}"
    return Alert("success_low", told, counted)


def alarm_rate(reading: Reading, settings: AlertSettings) -> Alert | None:
    """Many episodes of which the policy was unsure. Only those with calibrated scores can raise an alarm."""
    scored = [row for row in reading.rows if row.calibrated_max is not None][-settings.window :]
    alarms = sum(row.alarm_step is not None for row in scored)
    if len(scored) < settings.min_episodes or alarms <= settings.alarm_rate * len(scored):
        return None
    told = f"{alarms} of {len(scored)} episodes raised an entropy alarm, more than {settings.alarm_rate:.0%}"
    return Alert("alarm_rate", told, {"alarms": alarms, "episodes": len(scored)})


def loss_spike(reading: Reading, settings: AlertSettings) -> Alert | None:
    """A loss far above its running mean, or one that is no number, among the last rows."""
    losses = [(row["step"], row[LOSS]) for row in reading.curve if LOSS in row]
    mean, seen, found = math.nan, 0, None
    for at, (step, loss) in enumerate(losses):
        high = seen >= settings.loss_span // 2 and loss > settings.loss_ratio * mean
        if (high or not math.isfinite(loss)) and at >= len(losses) - settings.loss_recent:
            found = (step, loss, mean)
        if math.isfinite(loss):
            mean = mean + (loss - mean) * 2.0 / (settings.loss_span + 1) if seen else loss
            seen += 1
    if found is None:
        return None
    step, loss, mean = found
    numbers = {"step": step, "loss": loss, "mean": mean}
    told = f"the loss of step {step} is {loss:.4g}, its running mean was {mean:.4g}"
    return Alert("loss_spike", told, {name: value if math.isfinite(value) else None for name, value in numbers.items()})


def disk_low(reading: Reading, settings: AlertSettings) -> Alert | None:
    """Little room where the episodes lie."""
    if reading.disk_free is None or reading.disk_free >= settings.disk_free_gib * GIB:
        return None
    free = reading.disk_free / GIB
    told = f"{free:.2f} GiB are free, less than {settings.disk_free_gib:g}: flexor episodes evict"
    return Alert("disk_low", told, {"free_bytes": reading.disk_free})


RULES: dict[str, Rule] = {
    "collapse": collapse,
    "success_low": success_low,
    "alarm_rate": alarm_rate,
    "loss_spike": loss_spike,
    "disk_low": disk_low,
}


class Alerts:
    """Follows one run: tells each alert once when it begins, and again only when it had ended in between.

    What is in the log counts: an alert that a process before this one told, and that still stands, is not told again.

    Args:
        settings: of the rules, and the command.
        log: JSON lines go here, one an alert that begins, and one that ends; None writes none and runs no command.

    Raises:
        FlexorError: the log cannot be read.
    """

    def __init__(self, settings: AlertSettings, log: Path | None = None) -> None:
        self._settings, self._log = settings, log
        self.active: dict[str, dict[str, Any]] = {} if log is None else _standing(log)

    def look(self, reading: Reading) -> list[dict[str, Any]]:
        """The alerts that began with this reading, as they are logged: at, event, alert, told and numbers.

        Raises:
            FlexorError: the log cannot be written.
        """
        found = [alert for rule in RULES.values() if (alert := rule(reading, self._settings)) is not None]
        begun, ended = [], sorted(self.active.keys() - {alert.name for alert in found})
        for alert in found:
            entry = {"at": now(), "event": BEGUN, "alert": alert.name, "told": alert.told, **alert.numbers}
            if alert.name in self.active:
                entry["at"] = self.active[alert.name]["at"]
            else:
                begun.append(entry)
            self.active[alert.name] = entry
        unwritten: list[FlexorError] = []
        for name in ended:
            del self.active[name]
        for tell, entry in [
            *((self._write, {"at": now(), "event": ENDED, "alert": name}) for name in ended),
            *((self._tell, entry) for entry in begun),
        ]:
            try:
                tell(entry)
            except FlexorError as error:  # the others are told all the same
                unwritten.append(error)
        if unwritten:
            raise unwritten[0]
        return begun

    def _tell(self, entry: dict[str, Any]) -> None:
        if self._log is None:
            return
        logger.warning("alert %s: %s", entry["alert"], entry["told"])
        try:
            self._write(entry)
        finally:  # a disk that is full is what the command may be about
            if self._settings.command:
                self._run(json.dumps(entry))

    def _write(self, entry: dict[str, Any]) -> None:
        if self._log is None:
            return
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab+") as stream:
                cut = _ends_in_the_middle(stream)  # what a killed process left of its last line
                stream.write(b"\n" * cut + json.dumps(entry).encode() + b"\n")
        except OSError as error:
            raise FlexorError(f"an alert cannot be written to {self._log}: {error}; choose another file") from error

    def _run(self, line: str) -> None:
        command, limit = self._settings.command, self._settings.command_timeout_s
        try:
            done = subprocess.run(command, input=line.encode(), timeout=limit, stdout=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            logger.error("alert command %s took more than %g s and was killed", command[0], limit)
        except OSError as error:
            logger.error("alert command %s cannot be run: %s", command[0], error)
        else:
            if done.returncode:
                logger.error("alert command %s ended with %d", command[0], done.returncode)


def _standing(log: Path) -> dict[str, dict[str, Any]]:
    """The alerts of a log that began and have not ended, by name; a line that a killed writer cut says nothing."""
    standing: dict[str, dict[str, Any]] = {}
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return standing
    except OSError as error:
        raise FlexorError(f"alerts cannot be read from {log}: {error}; choose another file") from error
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if entry["event"] == BEGUN:
                standing[entry["alert"]] = {"at": entry["at"], "told": entry["told"], **entry}
            elif entry["event"] == ENDED:
                standing.pop(entry["alert"], None)
    return standing


def _ends_in_the_middle(stream: BinaryIO) -> bool:
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        return False
    stream.seek(size - 1)
    return stream.read(1) != b"\n"
