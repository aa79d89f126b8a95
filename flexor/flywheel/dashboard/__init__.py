"""A live page about one run, on loopback, read-only (docs/dashboard.md)."""
