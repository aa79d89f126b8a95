"""ONNX: graphs as files that explain themselves, in float32, float16 or with 8-bit products (docs/export.md)."""
