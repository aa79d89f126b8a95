"""Latency, measured as the robot would see it."""
