"""What each message may carry: tables of keys and arrays, and the check of a decoded message against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flexor.runtime.serving.wire import DTYPES, MAX_ID, Message, WireError, short

OUTCOMES = ("success", "failure", "abort", "unknown")
SOURCES = ("sim", "operator", "classifier")
MAX_BUDGET_MS = 600_000.0
MAX_SLACK_WAIT_MS = 60_000.0
IMAGE_PREFIX = "image/"


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a header: the test its value must pass, and the words for it in an error."""

    fits: Callable[[object], bool]
    expected: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Array:
    """One array: dtype name and shape, None where an extent is free. A name that ends in / stands for a family."""

    dtype: str
    shape: tuple[int | None, ...]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Schema:
    """Keys and arrays of one message type; anything else in such a message is refused."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def _text(limit: int, required: bool = True) -> Field:
    def fits(value: object) -> bool:
        return (value is None and not required) or (isinstance(value, str) and len(value) <= limit)

    return Field(fits, f"text of at most {limit} characters", required)


def _name(limit: int) -> Field:
    return Field(lambda v: isinstance(v, str) and 0 < len(v) <= limit, f"text of 1 to {limit} characters")


def _integer(low: int, high: int, required: bool = True) -> Field:
    def fits(value: object) -> bool:
        return (value is None and not required) or (type(value) is int and low <= value <= high)

    return Field(fits, f"an integer from {low} to {high}", required)


def _number(low: float, high: float, required: bool = True) -> Field:
    def fits(value: object) -> bool:
        if value is None and not required:
            return True
        return isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high

    return Field(fits, f"a number above {low:g}, at most {high:g}", required)


def _word(*words: str, required: bool = True) -> Field:
    def fits(value: object) -> bool:
        return (value is None and not required) or (isinstance(value, str) and value in words)

    return Field(fits, "one of " + ", ".join(words), required)


def _numbers() -> Field:
    def fits(value: object) -> bool:
        return isinstance(value, dict) and set(map(type, value.values())) <= {int, float}

    return Field(fits, "a map of numbers")


_MAP = Field(lambda v: isinstance(v, dict), "a map")
_FLAG = Field(lambda v: isinstance(v, bool), "true or false")
_SESSION = _name(128)
_ADAPTER = _name(64)
_REASON = {"message": _text(16_384)}

DATA_REQUESTS: Mapping[str, Schema] = {
    "hello": Schema(),
    "infer": Schema(
        {
            "session": _SESSION,
            "prompt": _text(16_384),
            "step": _integer(0, MAX_ID),
            "budget_ms": _number(0.0, MAX_BUDGET_MS),
            "delay_steps": _integer(0, 10_000),
            "noise_seed": _integer(0, MAX_ID, required=False),
        },
        {
            IMAGE_PREFIX: Array("uint8", (None, None, 3), required=False),
            "state": Array("float32", (None,)),
            "action_prefix": Array("float32", (None, None), required=False),
        },
    ),
    "episode.begin": Schema({"session": _SESSION, "task": _name(256), "seed": _integer(0, MAX_ID, required=False)}),
    "episode.end": Schema(
        {
            "session": _SESSION,
            "outcome": _word(*OUTCOMES),
            "label": _text(256, required=False),
            "source": _word(*SOURCES),
        }
    ),
}

LANE_REQUESTS: Mapping[str, Schema] = {"infer": DATA_REQUESTS["infer"], "memory": Schema()}

CONTROL_REQUESTS: Mapping[str, Schema] = {
    "stats": Schema(),
    "shutdown": Schema(),
    "adapter.list": Schema(),
    "adapter.push": Schema({"adapter": _ADAPTER}),
    "adapter.swap": Schema({"adapter": _ADAPTER, "at": _word("episode", "chunk", required=False)}),
    "adapter.rollback": Schema(),
    "adapter.remove": Schema({"adapter": _ADAPTER}),
    "learner.slack": Schema({"wait_ms": _number(0.0, MAX_SLACK_WAIT_MS)}),
}

REPLIES: Mapping[str, Schema] = {
    "chunk": Schema(
        {
            "provenance": _MAP,
            "timing_ms": _numbers(),
            "scores": _numbers(),
            "scored_step": _integer(0, MAX_ID, required=False),
        },
        {"actions": Array("float32", (None, None))},
    ),
    "superseded": Schema(_REASON),
    "expired": Schema(_REASON),
    "busy": Schema(_REASON),
    "error": Schema({"code": _name(64), **_REASON}),
    "hello": Schema({"ready": _FLAG, "policy": _MAP, "server": _MAP}),
    "ok": Schema({"adapter": _text(256, required=False), "velocity_scale": _number(0.0, 1.0, required=False)}),
    "adapter": Schema({"told": _MAP}),
    "slack": Schema({"granted": _FLAG, "ms": _integer(0, 600_000)}),
    "stats": Schema({"stats": _MAP}),
}


def check(message: Message, schemas: Mapping[str, Schema], where: str) -> None:
    """Refuse what `schemas` does not allow; `where` names the socket in the error.

    Raises:
        WireError: unknown_type, unknown_key, missing_key, bad_value or bad_array, with the message's id.
    """
    schema = schemas.get(message.type)
    if schema is None:
        raise _refusal(
            message, "unknown_type", f"{message.type!r} is not taken by {where}, which takes {_list(schemas)}"
        )
    fields = message.fields
    if not fields.keys() <= schema.fields.keys():
        unknown = next(key for key in fields if key not in schema.fields)
        known = _list(schema.fields) or "none"
        raise _refusal(message, "unknown_key", f"unknown key {unknown[:64]!r} in {message.type}; its keys are {known}")
    for key, rule in schema.fields.items():
        if key not in fields:
            if rule.required:
                raise _refusal(message, "missing_key", f"{message.type} without {key!r}; expected {rule.expected}")
        elif not rule.fits(fields[key]):
            shown = short(fields[key])
            raise _refusal(message, "bad_value", f"{key} of {message.type} is {shown}; expected {rule.expected}")
    _check_arrays(message, schema)


def _check_arrays(message: Message, schema: Schema) -> None:
    for name, array in message.arrays.items():
        family = name[: name.find("/") + 1]
        rule = schema.arrays.get(family or name)
        if rule is None or name == family:
            known = _list(schema.arrays) or "none"
            raise _refusal(message, "bad_array", f"unknown array {name!r} in {message.type}; its arrays are {known}")
        if array.dtype != DTYPES[rule.dtype] or not _shape_fits(array.shape, rule.shape):
            want = "[" + ", ".join("n" if n is None else str(n) for n in rule.shape) + "]"
            have = f"{array.dtype.name} {list(array.shape)}"
            raise _refusal(message, "bad_array", f"array {name!r} is {have}; expected {rule.dtype} {want}")
    for name, rule in schema.arrays.items():
        if rule.required and name not in message.arrays:
            raise _refusal(message, "bad_array", f"{message.type} without array {name!r}")


def _shape_fits(have: tuple[int, ...], want: tuple[int | None, ...]) -> bool:
    fits = len(have) == len(want)
    for extent, expected in zip(have, want, strict=False):
        fits = fits and expected in (None, extent)
    return fits


def _refusal(message: Message, code: str, text: str) -> WireError:
    return WireError(code, text, message.id)


def _list(table: Mapping[str, object]) -> str:
    return ", ".join(table)
