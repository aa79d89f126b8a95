"""What went wrong in an episode, told from the simulator's state (docs/failures.md)."""
