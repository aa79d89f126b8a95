"""TorchScript: traced graphs that libtorch loads, in C++ and in Python, without flexor (docs/export.md)."""
