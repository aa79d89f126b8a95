"""Episodes on disk: recorded while they happen, read back, recovered, indexed."""
