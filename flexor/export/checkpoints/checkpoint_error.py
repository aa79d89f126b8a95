"""CheckpointError: a checkpoint that cannot become a bundle."""

from __future__ import annotations

from flexor.errors import FlexorError


class CheckpointError(FlexorError):
    """A file missing, damaged, of another model or of another robot; the message tells the way out."""
