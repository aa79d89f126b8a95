"""What flexor's Pi0.5 and openpi's are both asked: dimensions, cameras, prompts and noise, all from seeds."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flexor.pi05.config import PRESETS, GemmaConfig, Pi05Config, VisionConfig

PRECISIONS = ("fp32", "bf16", "bf16rope")
FLOW_STEPS = 10
PADDED_PROMPT = 200  # openpi pads every prompt to it; flexor never does
SENTENCE = "pick up the_black bowl on the stove\nand place it on the plate"

_FULL = replace(PRESETS["pi05"], horizon=10)
CONFIGS: dict[str, Pi05Config] = {
    "small": Pi05Config(
        vision=VisionConfig(image_size=56, patch_size=14, width=48, depth=3, mlp_dim=96, heads=3),
        prefix=GemmaConfig(width=64, depth=4, mlp_dim=160, heads=4, kv_heads=1, head_dim=16),
        expert=GemmaConfig(width=48, depth=4, mlp_dim=96, heads=4, kv_heads=1, head_dim=16),
        vocab_size=1024,
        action_dim=32,
        horizon=10,
        max_prompt_tokens=PADDED_PROMPT,
    ),
    # Every width of the real model, few layers, and few of the rows of its embedding.
    "wide": replace(
        _FULL,
        vision=replace(_FULL.vision, depth=2),
        prefix=replace(_FULL.prefix, depth=3),
        expert=replace(_FULL.expert, depth=3),
        vocab_size=4096,
    ),
    # Every layer, every token and every head of the real model, narrow in between.
    "deep": replace(
        _FULL,
        vision=replace(_FULL.vision, width=144, mlp_dim=576, heads=2),
        prefix=replace(_FULL.prefix, width=256, mlp_dim=1024),
        expert=replace(_FULL.expert, width=128, mlp_dim=512),
        vocab_size=4096,
    ),
    "full": _FULL,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question to both models.

    Attributes:
        config: key of CONFIGS.
        precision: fp32, bf16, or bf16rope: openpi's bf16 with the rotary frequencies that it rounds, in float32 again.
        slots: which of openpi's three camera slots hold a picture.
        with_state: whether the prompt tells the robot's state.
    """

    config: str
    precision: str
    slots: tuple[bool, bool, bool]
    with_state: bool

    @property
    def name(self) -> str:
        """What its files are called: small-fp32-110-state."""
        used = "".join(str(int(slot)) for slot in self.slots)
        return f"{self.config}-{self.precision}-{used}-{'state' if self.with_state else 'plain'}"

    @property
    def dimensions(self) -> Pi05Config:
        """Its model's."""
        return CONFIGS[self.config]

    def frames(self) -> list[NDArray[np.uint8]]:
        """A camera frame for each of the three slots, uint8 [h, w, 3], not square, sharp edges and noise."""
        size = self.dimensions.vision.image_size
        height, width = size * 8 // 7, size * 10 // 7
        made = []
        for slot in range(3):
            noise = torch.randint(0, 256, (height, width, 3), generator=_seeded(f"frame {slot}"))
            rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[None, :, None]
            board = 255 * ((rows // (size // 4) + columns // (size // 4) + slot) % 2)
            made.append(((noise + 2 * board) // 3).to(torch.uint8).numpy())
        return made

    def state(self) -> NDArray[np.float32] | None:
        """Normalised state of 8 channels, two of them out of range, where the prompt tells it."""
        if not self.with_state:
            return None
        drawn = torch.rand(8, generator=_seeded("state")) * 2 - 1
        drawn[3], drawn[6] = 1.5, -1.02
        return drawn.numpy()

    def noise(self) -> Tensor:
        """Where the flow begins, float32 [1, H, A]."""
        config = self.dimensions
        return torch.randn(1, config.horizon, config.action_dim, generator=_seeded("noise"))


def encode_bytes(text: str, vocab_size: int) -> list[int]:
    """Tokens of a text where no tokenizer is at hand: one a byte, spread over the vocabulary, 2 before them all."""
    return [2, *((byte * 997 + 13) % vocab_size for byte in text.encode())]


def encode_words(text: str, vocab_size: int) -> list[int]:
    """As encode_bytes, but cut about as Gemma's tokenizer cuts: a word with the blank before it, a digit, a sign."""
    pieces = re.findall(r" ?[^\W\d_]+|\s|\d|[^\w\s]|_", text)
    return [2, *(zlib.crc32(piece.encode()) % vocab_size for piece in pieces)]


def find_cases(config: str) -> list[Case]:
    """What is asked of a key of CONFIGS: every number of cameras, with and without state, in every precision."""
    if config == "small":
        slots = [(True, False, False), (True, True, False), (True, False, True), (True, True, True)]
        return [Case(config, p, used, state) for p in PRECISIONS for used in slots for state in (True, False)]
    pairs = [((True, True, False), True), ((True, True, False), False)]
    if config in ("deep", "full"):
        pairs += [((True, False, False), True), ((True, True, True), True)]
    return [Case(config, p, used, state) for p in PRECISIONS for used, state in pairs]


def _seeded(what: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(what.encode()))
