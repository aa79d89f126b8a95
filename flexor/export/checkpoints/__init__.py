"""Checkpoints of others (openpi, LeRobot, OpenTau) -> bundles. Needs no torch."""
