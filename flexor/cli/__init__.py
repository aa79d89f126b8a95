"""The flexor command: one small file a command group."""
