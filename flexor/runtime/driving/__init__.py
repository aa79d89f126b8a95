"""The robot-side daemon: asks early, splices, guards, holds."""
