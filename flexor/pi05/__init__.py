"""The Pi0.5 model: what it computes. Imports nothing else of flexor."""
