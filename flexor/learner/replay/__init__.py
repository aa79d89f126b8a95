"""Replay: which episodes are learned from next, out of the robot's own and the base's demonstrations."""
