"""Brings checkpoints over from where they are published, whole and verified (docs/download.md)."""
