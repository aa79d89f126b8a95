"""flexor: serve a Pi0.5 policy on the robot, and keep teaching it there."""

__version__ = "0.1.0"
