"""What PyTorch on this machine can run: precisions that need a certain GPU, and the memory that there is."""

from __future__ import annotations

import torch

from flexor.pi05.config import Pi05Config
from flexor.pi05.footprint import prefix_bytes
from flexor.pi05.fp8 import LEAST_CAPABILITY, multiplies_e4m3
from flexor.pi05.lora import SLOTS
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.memory import NotEnoughMemory, Room, check_memory, host_room
from flexor.runtime.inference.precisions import parts


def torch_device() -> torch.device:
    """Where the engine runs: the first GPU, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def check_deep_slot(config: Pi05Config, prefix: str) -> None:
    """Refuse an adapter of image tower and prefix layers whose merged weights do not fit beside what is served.

    Raises:
        NotEnoughMemory: says how much they take, and how much is free.
    """
    device, needed = torch_device(), prefix_bytes(config, prefix)
    room = host_room(0) if device.type == "cpu" else Room(torch.cuda.mem_get_info(device)[0], f"memory of {device}")
    if room is not None and needed > room.bytes:
        raise NotEnoughMemory(
            f"image tower and prefix layers with an adapter take {needed / 2**20:.0f} MiB more and"
            f" {room.bytes / 2**20:.0f} MiB are free ({room.where}); learn it with profile=projector, or merge it into"
            " a bundle and serve that"
        )


def check_limits(bundle: Bundle, precision: str, flow_steps: int) -> None:
    """Refuse what this machine cannot run, or only by emulating it, before anything is loaded.

    Raises:
        EngineError: an unknown precision, or fp8 on a device that does not multiply it.
        NotEnoughMemory: it does not fit; on a GPU, into that GPU's memory.
    """
    prefix, expert = parts(precision)
    device = torch_device()
    if "fp8" in (prefix, expert) and not multiplies_e4m3(device):
        least = ".".join(map(str, LEAST_CAPABILITY))
        instead = "int8, or bf16" if device.type == "cpu" else "bf16, or int8"
        raise EngineError(
            f"precision {precision!r} needs a GPU of compute capability {least} or later (Ada, Hopper, Blackwell), and"
            f" the engine runs on {device}: use {instead}; --force computes the same numbers here, slowly"
        )
    if device.type == "cpu":
        check_memory(bundle, prefix, expert, flow_steps, host_room(bundle.weights_path.stat().st_size))
    else:
        room = Room(torch.cuda.mem_get_info(device)[0], f"memory of {device}")
        check_memory(bundle, prefix, expert, flow_steps, room, mapped=False, sets=SLOTS)
