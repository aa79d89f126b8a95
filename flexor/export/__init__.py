"""Home of the exporters (ONNX, TorchScript, TensorRT); this version exports nothing yet."""

if __name__ != "flexor.export":
    raise ImportError(f"import flexor.export, not {__name__}")
