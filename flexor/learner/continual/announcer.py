"""Announcer: tells a policy server of new adapters, and hears what became of earlier ones."""

from __future__ import annotations

from typing import Any, Literal

from flexor.errors import FlexorError
from flexor.runtime.serving.channel import ServerRefused, ServerTimeout
from flexor.runtime.serving.control import ServerControl

LOOK_TIMEOUT_S, ORDER_TIMEOUT_S = 3.0, 60.0  # an order ends when the adapter is verified and loaded
TRY_AGAIN = ("busy", "disk", "stopping")  # what a server may say of itself, and not of the adapter
TAKEN_BACK = ("REJECTED", "ROLLED_BACK")

Answer = Literal["taken", "refused", "later"]


class Announcer:
    """Asks a server that may be away; each question is a connection of its own and ends in time.

    Args:
        address: the server's data address.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def announce(self, adapter: str) -> tuple[Answer, str]:
        """Push an adapter, unless the server knows it already, and tell what it said.

        A server that is away, or tries another adapter, is to be told later.
        """
        try:
            row = _row(self._listing(), adapter)
            if row is None or row["state"] == "UNANNOUNCED":
                with ServerControl(self._address, ORDER_TIMEOUT_S) as control:
                    row = control.order("push", adapter)
        except ServerTimeout as error:
            return "later", str(error)
        except ServerRefused as error:
            return "later" if error.code in TRY_AGAIN else "refused", str(error)
        return "refused" if row["state"] == "REJECTED" else "taken", f"it is {row['state']}"

    def standing(self, adapter: str) -> str:
        """The adapter to go on from: this one, or what the server plays if it took this one back."""
        try:
            listing = self._listing()
        except FlexorError:  # then nobody has taken it back
            return adapter
        row = _row(listing, adapter)
        return listing["active"] if row is not None and row["state"] in TAKEN_BACK else adapter

    def _listing(self) -> dict[str, Any]:
        with ServerControl(self._address, LOOK_TIMEOUT_S) as control:
            return control.adapters()


def _row(listing: dict[str, Any], adapter: str) -> dict[str, Any] | None:
    return next((row for row in listing["adapters"] if row["id"] == adapter), None)
