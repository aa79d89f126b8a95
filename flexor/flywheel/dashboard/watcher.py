"""Watcher: the thread behind the page. It reads the run every so often, so that many browsers cost as much as none."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.alerts import Alerts, AlertSettings, Reading
from flexor.flywheel.dashboard.live_state import finite, run_state
from flexor.flywheel.dashboard.server_watch import ServerWatch
from flexor.flywheel.run_record import RunFolders, RunReader
from flexor.runtime.adapters.audit_log import now


class Watcher(threading.Thread):
    """Use it as a thread: start(), stop(). What `state` holds is replaced whole, so that any thread may take it.

    Args:
        folders: of the run.
        server: its policy server; None where nobody asks one. It is this thread's from start() to stop().
        alerts: when somebody is told, and where it is logged.
        every_s: time between two looks.

    Attributes:
        state: JSON of the last look; None before the first one.
        failure: what ended the thread; None as long as it runs.
    """

    def __init__(
        self,
        folders: RunFolders,
        server: ServerWatch | None,
        settings: AlertSettings,
        alert_log: Path | None = None,
        every_s: float = 2.0,
    ) -> None:
        super().__init__(name="flexor-dashboard", daemon=True)
        self._folders, self._server, self._settings = folders, server, settings
        self._alerts, self._every_s = Alerts(settings, alert_log), every_s
        self._reader = RunReader(folders)
        self._stop_asked = threading.Event()
        self.state: bytes | None = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Look again and again, until it is stopped."""
        try:
            while not self._stop_asked.is_set():
                self.state = json.dumps(finite(self._look()), allow_nan=False).encode()
                if self._server is None:
                    self._stop_asked.wait(self._every_s)
                else:
                    self._server.listen(self._every_s)
        except BaseException as failure:  # told to whoever asks for the state
            self.failure = failure

    def told(self) -> bytes | str:
        """The state as JSON, or why there is none."""
        if self.failure is not None:
            return f"the run is not read any more: {type(self.failure).__name__}: {self.failure}"
        return self.state or "the run has not been read yet"

    def stop(self) -> None:
        """End the thread, after a look under way."""
        self._stop_asked.set()
        self.join()

    def _look(self) -> dict[str, Any]:
        if self._server is not None:
            self._server.ask()
        record, disk = self._reader.read(), self._disk()
        troubles = list(record.troubles)
        try:
            free = None if disk is None else disk["free"]
            self._alerts.look(Reading(record.rows, record.curves[-1].rows if record.curves else (), free))
        except FlexorError as error:
            troubles.append(str(error))
        state = run_state(record, self._settings.window)
        if self._server is not None and self._server.trouble is None and self._server.adapters is not None:
            state["adapters"] = self._server.adapters  # it knows more than the disk: how the trial stands
        return {
            **state,
            "at": now(),
            "every_s": self._every_s,
            "folders": {name: str(getattr(self._folders, name) or "") for name in ("episodes", "adapters", "learner")},
            "server": None if self._server is None else self._server.to_dict(),
            "disk": disk,
            "alerts": list(self._alerts.active.values()),
            "troubles": troubles,
        }

    def _disk(self) -> dict[str, int] | None:
        folder = self._folders.episodes
        if folder is None or not folder.is_dir():
            return None
        told = shutil.disk_usage(folder)
        return {"total": told.total, "used": told.used, "free": told.free}
