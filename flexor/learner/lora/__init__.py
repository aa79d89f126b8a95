"""Adapters: LoRA that is learned from episodes, on prefixes that are encoded once."""
