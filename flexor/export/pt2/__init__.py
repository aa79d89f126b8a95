"""PT2: graphs from torch.export, compiled by AOTInductor to native code of one kind of processor (docs/export.md)."""
