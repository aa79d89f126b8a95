"""Recorded episodes as a LeRobotDataset v3.0 (docs/episodes.md)."""
