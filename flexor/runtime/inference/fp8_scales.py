"""Scales of fp8: the largest activations that a bundle's products have seen, in gates/fp8.scales.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from flexor.errors import FlexorError
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.gates import FOLDER, replace_json

FILE = "fp8.scales.json"
SCHEMA_VERSION = 1


class ScalesError(FlexorError):
    """A bundle whose fp8 products have no scales, or scales that are not its own."""


def scales_path(bundle: Bundle) -> Path:
    """Where they lie: beside the gates, for they are about the bundle and not of it."""
    return bundle.path / FOLDER / FILE


def write_scales(bundle: Bundle, largest: Mapping[str, float], observations: int) -> Path:
    """Keep what was observed, by each product's place in the program, on so many observations.

    Raises:
        GateError: the bundle's folder cannot be written.
    """
    content = {"schema_version": SCHEMA_VERSION, "bundle_hash": bundle.hash, "observations": observations}
    return replace_json(scales_path(bundle), {**content, "largest": dict(largest)})


def read_scales(bundle: Bundle) -> dict[str, float]:
    """What `write_scales` kept of this very bundle.

    Raises:
        ScalesError: there is nothing, it is of another bundle, or it cannot be understood.
    """
    path = scales_path(bundle)
    way_out = f"find them: flexor verify {bundle.path} --precision fp8 --episodes DIR"
    try:
        content = json.loads(path.read_bytes())
        about, largest = content["bundle_hash"], {str(name): float(x) for name, x in content["largest"].items()}
    except FileNotFoundError as error:
        raise ScalesError(f"{bundle.id} has no scales of its activations, which fp8 needs; {way_out}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScalesError(f"{path} holds no scales ({error!r}); {way_out}") from error
    if about != bundle.hash:
        raise ScalesError(f"{path} holds the scales of bundle {str(about)[:12]}, and this is {bundle.id}; {way_out}")
    return largest
