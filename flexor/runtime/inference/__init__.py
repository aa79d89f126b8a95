"""What computes a chunk: bundle, engine, policy, and how unsure it is."""
