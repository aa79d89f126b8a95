"""Adapters: on disk, verified, tried and taken back. Knows no socket and no thread."""
