"""Runner: a model of any size with random weights, ready to be called again and again with the same question."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from flexor.pi05.config import PRESETS, Pi05Config
from flexor.pi05.fp8 import calibrate, observed
from flexor.pi05.init import randomise
from flexor.pi05.merged_weights import Packed
from flexor.pi05.model import Pi05
from flexor.pi05.program import Program
from flexor.runtime.inference.engine import EngineError
from flexor.runtime.inference.torch_graph import CudaRecorder, GraphProgram

MODES = ("eager", "graph", "compiled")
"""How a program is run: kernel by kernel, by CUDA graphs, by CUDA graphs of an expert that torch.compile made."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is timed.

    Attributes:
        preset: name of the sizes; weights are random.
        prefix, expert: precisions of the programs.
        views: cameras.
        tokens: of the prompt.
        horizon: actions of a chunk.
        steps: of the flow.
        samples: chunks on one prefix.
        mode: of MODES.
        adapter: whether a random adapter of all projections, rank 8, is carried.
    """

    preset: str
    prefix: str
    expert: str
    views: int
    tokens: int
    horizon: int
    steps: int
    samples: int
    mode: str = "eager"
    adapter: bool = False

    @property
    def config(self) -> Pi05Config:
        """The sizes.

        Raises:
            EngineError: no such preset, or a prompt that is longer than its longest.
        """
        if self.preset not in PRESETS:
            raise EngineError(f"preset {self.preset!r} is unknown; there are {', '.join(PRESETS)}")
        config = replace(PRESETS[self.preset], horizon=self.horizon)
        if not 1 <= self.tokens <= config.max_prompt_tokens:
            raise EngineError(f"tokens is {self.tokens}; {self.preset} takes 1 to {config.max_prompt_tokens}")
        return config

    @property
    def narrow(self) -> bool:
        """Whether weights may be drawn in bfloat16, so that they fit where the programs fit."""
        return "fp32" not in (self.prefix, self.expert)


def draw_model(question: Question, device: torch.device) -> Pi05:
    """A model with random weights, always the same ones, on the device."""
    with torch.device("meta"):
        model = Pi05(question.config)
    model = model.to(torch.bfloat16 if question.narrow else torch.float32).to_empty(device=device)
    randomise(model, 0)
    return model.eval().requires_grad_(False)


class Runner:
    """One question to one model. fp8 takes its scales from this very question.

    Args:
        question: what is computed.
        model: from `draw_model` for a question of the same preset.

    Attributes:
        prefix: what the last `encode` left.

    Raises:
        EngineError: a mode that does not exist, or that needs a GPU where there is none.
    """

    def __init__(self, question: Question, model: Pi05) -> None:
        device = model.action_in_proj.weight.device
        if question.mode not in MODES:
            raise EngineError(f"mode is {question.mode!r}; expected one of {', '.join(MODES)}")
        if question.mode != "eager" and device.type == "cpu":
            raise EngineError(f"mode {question.mode} records CUDA graphs, and this machine has no GPU; use eager")
        model.config = config = question.config
        generator = torch.Generator().manual_seed(0)
        size = config.vision.image_size
        images = torch.rand(question.views, 3, size, size, generator=generator) * 2 - 1
        tokens = torch.randint(0, config.vocab_size, (question.tokens,), generator=generator)
        noise = torch.randn(question.samples, question.horizon, config.action_dim, generator=generator)
        self._images, self._tokens, self._noise, self._device = images, tokens, noise, device
        self._threads = torch.get_num_threads()
        program = Program(model, question.steps, question.prefix, question.expert)
        self._program: Program | GraphProgram = program
        if "fp8" in (question.prefix, question.expert):
            self.chunk(0)
            calibrate(program, observed(program))
        self._recorder = CudaRecorder(device) if question.mode != "eager" else None
        if self._recorder is not None:
            compiled = question.mode == "compiled"
            self._program = GraphProgram(program, question.views, (question.samples,), self._recorder, compiled)

    @property
    def captures(self) -> int:
        """See Engine."""
        return 0 if self._recorder is None else self._recorder.captures

    def load_slot(self, slot: int, tensors: Packed | None) -> None:
        """See Engine."""
        torch.set_num_threads(self._threads)  # a new thread has another number, and sums differ in their last bit
        self._program.load_slot(slot, tensors)

    def encode(self, slot: int) -> None:
        """Read images and prompt."""
        self.prefix = self._program.encode(self._images.to(self._device), self._tokens.to(self._device), slot)

    def denoise(self, slot: int) -> NDArray[np.float32]:
        """Sample the chunks [N, H, A] on the last prefix."""
        return self._program.denoise(self.prefix, self._noise.to(self._device), None, slot)[0].cpu().numpy()  # type: ignore[arg-type]

    def chunk(self, slot: int) -> NDArray[np.float32]:
        """Both."""
        self.encode(slot)
        return self.denoise(slot)
