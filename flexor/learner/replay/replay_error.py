"""ReplayError: episodes cannot be drawn, or what was kept of the drawing does not fit."""

from __future__ import annotations

from flexor.errors import FlexorError


class ReplayError(FlexorError):
    """Episodes cannot be drawn, or what is kept of the drawing does not fit."""
