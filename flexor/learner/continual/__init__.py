"""Learning that never ends: a daemon beside the robot, from what it recorded to the adapters that it plays."""
