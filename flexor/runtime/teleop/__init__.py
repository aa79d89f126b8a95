"""A person at keys or a gamepad: takes the arm, and says how an episode ended."""
