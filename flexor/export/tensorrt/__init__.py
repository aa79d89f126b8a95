"""TensorRT engines of the two graphs, built through its Python API: by TensorRT-RTX on any machine, no GPU needed."""
