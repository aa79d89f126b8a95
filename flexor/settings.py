"""Settings from three places: a model's defaults, YAML files, and `a.b=c` on the command line; the later wins.

Settings models are frozen pydantic models with `extra="forbid"` and live beside what they configure. A key that no
model knows is an error, never ignored: a typo in a limit must not leave the limit off.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from flexor.errors import FlexorError

Settings = TypeVar("Settings", bound=BaseModel)


class SettingsError(FlexorError):
    """A setting that cannot be used: unknown key, wrong value, or a file that cannot be read."""


def load_settings(
    model: type[Settings],
    file: Path | Sequence[Path] | None = None,
    overrides: Sequence[str] = (),
    section: str = "",
) -> Settings:
    """Build `model` from its defaults, then `file` (YAML, or several in turn), then `overrides` ("a.b=c").

    Args:
        section: a file that holds nothing but this key is read as what it holds there, so that a part of a larger model
            may be written as that model has it.

    Raises:
        SettingsError: naming the key, where it was written, and the closest known key or the accepted values.
    """
    files = [] if file is None else [file] if isinstance(file, Path) else list(file)
    from_files = {path: _within(section, _read_file(path)) for path in files}
    from_overrides = _parse_overrides(overrides)
    merged = OmegaConf.merge(*(OmegaConf.create(tree) for tree in (*from_files.values(), from_overrides)))
    try:
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingsError(f"settings of {model.__name__} cannot be resolved: {error}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_explain(model, dict(problem), from_overrides, from_files) for problem in error.errors()]
        raise SettingsError("\n".join(problems)) from error


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key that `model` accepts, dotted, in order of declaration."""
    keys = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys.extend(known_keys(info.annotation, f"{prefix}{name}."))
    return keys


def _read_file(file: Path) -> dict[str, Any]:
    try:
        loaded = OmegaConf.load(file)
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {file} does not exist; see configs/ for examples") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {file} cannot be read as YAML: {error}") from error
    if not OmegaConf.is_dict(loaded):
        raise SettingsError(f"settings file {file} must hold `key: value` lines at its top level, not a list")
    return cast("dict[str, Any]", OmegaConf.to_container(loaded, resolve=False))


def _within(section: str, tree: dict[str, Any]) -> dict[str, Any]:
    inner = tree[section] if list(tree) == [section] else tree
    return cast("dict[str, Any]", inner) if isinstance(inner, Mapping) else tree


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"setting {override!r} is not of the form key=value, for example a.b=c")
    try:
        parsed = OmegaConf.from_dotlist(list(overrides))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise SettingsError(f"settings {' '.join(overrides)!r} cannot be parsed as key=value: {error}") from error
    return cast("dict[str, Any]", OmegaConf.to_container(parsed, resolve=False))


def _explain(
    model: type[BaseModel], problem: dict[str, Any], from_overrides: dict[str, Any], from_files: Mapping[Path, Any]
) -> str:
    """One line for one pydantic problem: where it stands, which key, and the way out."""
    location: tuple[int | str, ...] = problem["loc"]
    if not location:
        return f"settings of {model.__name__} do not fit together: {problem['msg'].removeprefix('Value error, ')}"
    key = ".".join(str(part) for part in location)
    written = [path for path, tree in from_files.items() if _holds(tree, location)]
    place = "on the command line" if not written or _holds(from_overrides, location) else f"in {written[-1]}"
    if problem["type"] == "extra_forbidden":
        known = known_keys(model)
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        way_out = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown setting {key!r} {place}: {way_out}"
    if problem["type"] == "missing":
        return f"setting {key!r} is required and was given neither in a file nor as {key}=VALUE"
    return f"setting {key!r} {place} has the value {problem['input']!r}: {problem['msg']}"


def _holds(tree: object, location: Sequence[int | str]) -> bool:
    for part in location:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True
