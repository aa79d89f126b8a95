"""Fields of a checkpoint's config.json, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexor.export.checkpoints.checkpoint_error import CheckpointError


def whole_number(path: Path, config: Mapping[str, Any], key: str, default: int | None = None, lowest: int = 1) -> int:
    """A whole number of a config; `default` where it has no such key.

    Raises:
        CheckpointError: the key is missing without a default, or holds something else.
    """
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise CheckpointError(f"{path}: {key} is {value!r}; expected a whole number of at least {lowest}")
    return value


def choose_keys(path: Path, config: Mapping[str, Any], key: str, kind: str, prefix: str) -> tuple[str, ...]:
    """Names of the features of a kind in their order, without a prefix.

    Raises:
        CheckpointError: the config has none.
    """
    features = config.get(key)
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise CheckpointError(f"{path}: {key} is {features!r}; expected features by name")
    found = tuple(name.removeprefix(prefix) for name, feature in features.items() if feature.get("type") == kind)
    if not found:
        raise CheckpointError(f"{path}: {key} has no feature of type {kind}; expected at least one")
    return found
