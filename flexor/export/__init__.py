"""Models of others into bundles (checkpoints/), and home of the exporters (ONNX, TorchScript, TensorRT)."""

if __name__ != "flexor.export":
    raise ImportError(f"import flexor.export, not {__name__}")
