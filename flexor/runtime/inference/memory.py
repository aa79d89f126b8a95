"""Memory: what a bundle takes in a precision, what is free, and a refusal before it is loaded. Needs no torch."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flexor.errors import FlexorError
from flexor.pi05.footprint import measure_footprint
from flexor.runtime.inference.bundle import Bundle

SMALLER = ("bf16", "int8+bf16", "int8", "bnb8")
"""Precisions that are offered where one does not fit, widest first."""

_CGROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By the controller that /proc/self/cgroup names (none: version 2): files of limit and use, and in memory.stat what is
only kept of files and given back at once."""


class NotEnoughMemory(FlexorError):
    """A bundle that does not fit into what is free."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that is free: bytes, and what sets the limit."""

    bytes: int
    where: str


def host_room(mapped: int, root: Path = Path("/")) -> Room | None:
    """What this process may still take: of the machine, of its cgroups, of its own limit, whichever is least.

    Args:
        mapped: bytes of files that it will look into in place; they count for the limit of addresses alone.
        root: of /proc and /sys.

    Returns:
        None where the system does not tell.
    """
    rooms = [*_machine_room(root), *_cgroup_rooms(root), *_address_room(root, mapped)]
    return min(rooms, key=lambda room: room.bytes, default=None)


def needed_memory(bundle: Bundle, prefix: str, expert: str, flow_steps: int, mapped: bool = True, sets: int = 1) -> int:
    """Bytes at the most, beside libraries; see flexor.pi05.footprint for `mapped` and `sets`."""
    stored = bundle.weights_path.stat().st_size
    views = len(bundle.cameras)
    return int(measure_footprint(bundle.model_config, prefix, expert, views, flow_steps, stored, mapped, sets).peak)


def check_memory(
    bundle: Bundle, prefix: str, expert: str, flow_steps: int, room: Room | None, mapped: bool = True, sets: int = 1
) -> None:
    """Refuse what does not fit into a room; everything fits where nobody knows how much there is.

    Raises:
        NotEnoughMemory: how much is missing, and what would fit.
    """
    needed = needed_memory(bundle, prefix, expert, flow_steps, mapped, sets)
    if room is None or needed <= room.bytes:
        return
    asked = prefix if prefix == expert else f"{prefix}+{expert}"
    smaller = {pair: needed_memory(bundle, *pair, flow_steps, mapped, sets) for pair in _smaller(bundle)}
    fits = [f"{_flag(*pair)} ({_amount(size)})" for pair, size in smaller.items() if size <= room.bytes]
    least = min([needed, *smaller.values()])
    way_out = (
        f"what would fit: {', '.join(fits)}"
        if fits
        else f"no precision fits, the least takes {_amount(least)}: free some"
    )
    raise NotEnoughMemory(
        f"{bundle.id} in {asked} takes {_amount(needed)} and {_amount(room.bytes)} are free ({room.where}):"
        f" {_amount(needed - room.bytes)} are missing; {way_out}; or try anyway with --force"
    )


def _smaller(bundle: Bundle) -> Iterator[tuple[str, str]]:
    if bundle.model_config.prefix.kv_heads != 1:  # what is computed by the model itself, in no 8 bits
        yield "bf16", "bf16"
        return
    for name in SMALLER:
        prefix, _, expert = name.partition("+")
        yield prefix, expert or prefix


def _flag(prefix: str, expert: str) -> str:
    if prefix == expert == "bnb8":
        return "--8bit"
    return f"--precision {prefix}" if prefix == expert == "bf16" else f"--precision {prefix}+{expert}"


def _amount(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _machine_room(root: Path) -> Iterator[Room]:
    for key, value in _table(root / "proc" / "meminfo"):
        if key == "MemAvailable:":
            yield Room(1024 * value, "memory of this machine")


def _cgroup_rooms(root: Path) -> Iterator[Room]:
    """Of this process's cgroup and of those around it."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller, names in _CGROUPS.items():
            if controller not in controllers.split(","):
                continue
            mount = root / "sys" / "fs" / "cgroup" / controller
            inner = mount / path.lstrip("/")
            for folder in (inner, *inner.parents):
                yield from _cgroup_room(folder, *names)
                if folder == mount:
                    break


def _cgroup_room(folder: Path, limit: str, used: str, kept: str) -> Iterator[Room]:
    most, now = _text(folder / limit).strip(), _text(folder / used).strip()
    if most.isdecimal() and now.isdecimal():  # "max" is no limit
        files = sum(value for key, value in _table(folder / "memory.stat") if key == kept)
        yield Room(max(0, int(most) - int(now) + files), "memory limit of its cgroup")


def _address_room(root: Path, mapped: int) -> Iterator[Room]:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        for key, value in _table(root / "proc" / "self" / "status"):
            if key == "VmSize:":  # safetensors maps a file, and PyTorch maps it again
                yield Room(max(0, most - 1024 * value - 2 * mapped), "address space by ulimit -v")


def _table(path: Path) -> Iterator[tuple[str, int]]:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdecimal():
            yield words[0], int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
