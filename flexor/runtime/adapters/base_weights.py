"""BaseWeights: how large the weights are that an adapter changes, read from a bundle without torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from flexor.pi05.lora import Factors
from flexor.pi05.lora_targets import target_sizes
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class BaseWeights:
    """Frobenius norms of the projections of a bundle, each read when it is first asked for.

    A bundle of exported graphs has no weights that could be read; then a norm is that of a weight drawn from
    N(0, 1 / in), the square root of the number of outputs.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._path = None if bundle.config.graphs is not None else bundle.weights_path
        self._sizes = target_sizes(bundle.model_config, bundle.adapter_pairs)
        self._norms: dict[str, float] = {}

    def norm(self, name: str) -> float:
        """Of a projection.

        Raises:
            BundleError: a weight that cannot be read.
        """
        if name not in self._norms:
            outputs = self._sizes[name][1]
            self._norms[name] = outputs**0.5 if self._path is None else _norm(self._path, f"{name}.weight")
        return self._norms[name]

    def changes(self, factors: Factors, scale: float) -> dict[str, float]:
        """Norm of scale B A beside that of the weight, by projection.

        Raises:
            BundleError: a weight that cannot be read.
        """
        told = {}
        for name, (a, b) in factors.items():
            # |B A|^2 is the sum over B'B * AA', both [r, r]: B A itself is never made.
            wide_a, wide_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            square = float(((wide_b.T @ wide_b) * (wide_a @ wide_a.T)).sum())
            told[name] = scale * max(square, 0.0) ** 0.5 / self.norm(name)
        return told


def _norm(path: Path, name: str) -> float:
    """Frobenius norm of one tensor of a safetensors file, which numpy cannot read where it is bfloat16."""
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            entry = json.loads(stream.read(size))[name]
            first, last = entry["data_offsets"]
            stream.seek(8 + size + first)
            raw = np.frombuffer(stream.read(last - first), _DTYPES[entry["dtype"]])
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise BundleError(f"{path} has no readable {name} ({error!r}); restore the bundle") from error
    if entry["dtype"] == "BF16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return float(np.linalg.norm(raw.astype(np.float64)))
