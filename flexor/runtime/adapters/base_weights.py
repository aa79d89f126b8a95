"""BaseWeights: how large the weights are that an adapter changes, read from a bundle without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexor.pi05.lora import Factors, target_sizes
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Frobenius norms of the projections of a bundle's expert, by their name.

    A bundle of exported graphs has no weights that could be read; then a norm is that of a weight drawn from
    N(0, 1 / in), the square root of the number of outputs.
    """

    norms: Mapping[str, float]

    @classmethod
    def of(cls, bundle: Bundle) -> BaseWeights:
        """Read them; a few seconds for a model of full size.

        Raises:
            BundleError: weights that are not those of the bundle's model.
        """
        sizes = target_sizes(bundle.model_config)
        if bundle.config.graphs is not None:
            return cls({name: outputs**0.5 for name, (_, outputs) in sizes.items()})
        return cls({name: _norm(bundle.weights_path, f"{name}.weight") for name in sizes})

    def changes(self, factors: Factors, scale: float) -> dict[str, float]:
        """Norm of scale B A beside that of the weight, by projection."""
        told = {}
        for name, (a, b) in factors.items():
            # |B A|^2 is the sum over B'B * AA', both [r, r]: B A itself is never made.
            wide_a, wide_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            square = float(((wide_b.T @ wide_b) * (wide_a @ wide_a.T)).sum())
            told[name] = scale * max(square, 0.0) ** 0.5 / self.norms[name]
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
