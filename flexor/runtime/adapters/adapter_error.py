"""AdapterError: an adapter that is refused, or an order about one that cannot be followed, and why, in a word."""

from __future__ import annotations

from collections.abc import Mapping

from flexor.errors import FlexorError
from flexor.runtime.adapters.legible import legible

REASONS: Mapping[str, str] = {
    "torn": "a file is missing, cut short or unreadable",
    "pickled": "it holds a file that runs code when it is loaded",
    "altered": "a file is not the one that the manifest names",
    "changed": "the folder changed after it was announced",
    "oversized": "a file is larger than such an adapter can be, or the change to a weight is",
    "unsigned": "keys are configured, and no signature by one of them is there",
    "wrong_base": "it was trained on another bundle",
    "wrong_statistics": "it was trained with other normalisation statistics",
    "wrong_schema": "rank, alpha or targets are not those of this server",
    "not_finite": "it holds numbers that are not finite, or gave such actions",
    "replayed": "its version, or a later one, was seen before",
    "blacklisted": "it was taken back or rejected before",
    "unknown": "there is no such adapter",
    "in_use": "it is active or being tried",
    "busy": "another adapter is being tried",
    "no_slot": "this engine carries no adapter",
    "shadow": "its actions are too far from the parent's",
    "canary": "it was shown to be worse than its parent",
    "no_evidence": "its trial ended without showing that it is as good as its parent",
    "latency": "chunks take too long with it",
    "alarms": "it raises too many alarms",
    "success": "it succeeds less often than its parent did",
    "order": "somebody ordered it",
    "internal": "the server's own fault, see its log",
}
"""Why an adapter is refused, rejected or rolled back: the word for programs, and what it means."""


class AdapterError(FlexorError):
    """Raised with the thing, what was found, what was expected and the way out.

    Attributes:
        reason: key of REASONS.
    """

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS, reason
        super().__init__(legible(message))  # it may name a file of a stranger
        self.reason = reason
