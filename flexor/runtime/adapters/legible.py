"""legible: text of strangers that every encoder takes."""

from __future__ import annotations


def legible(text: str) -> str:
    r"""`text` with what UTF-8 has no bytes for written as \udcff: names of files are bytes, and need not be text."""
    return text.encode("utf-8", "backslashreplace").decode()
