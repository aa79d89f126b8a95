"""What a policy server's robots notice of adapters and learners beside them, with every part a process of its own."""
