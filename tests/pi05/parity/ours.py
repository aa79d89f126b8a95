"""flexor's side: a Case through its preprocessing and its model, recorded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pi05.parity.cases import FLOW_STEPS, SENTENCE, Case, encode_bytes
from pi05.parity.records import Record
from pi05.parity.weights import fill
from torch import Tensor

from flexor.pi05.images import resize_with_pad, to_model
from flexor.pi05.model import Pi05
from flexor.pi05.precision import cast
from flexor.pi05.program import Program
from flexor.pi05.prompt import build_prompt, discretise

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build(config_of: Case) -> Pi05:
    """The model of a case, with its weights, in its precision."""
    with torch.device("meta"):
        model = Pi05(config_of.dimensions)
    cast(model, _DTYPES[config_of.precision]).to_empty(device="cpu")
    fill(model)
    return model.eval().requires_grad_(False)


def prepare(case: Case, encode: Callable[[str, int], list[int]] = encode_bytes) -> tuple[Tensor, Tensor]:
    """Images float32 [V, 3, S, S] of the cameras that are there, tokens int64 [T]; `encode` makes them of a prompt."""
    size = case.dimensions.vision.image_size
    frames = [frame for frame, used in zip(case.frames(), case.slots, strict=True) if used]
    state = case.state()
    prompt = build_prompt(SENTENCE, None if state is None else discretise(state))
    tokens = torch.tensor(encode(prompt, case.dimensions.vocab_size))
    return torch.from_numpy(to_model([resize_with_pad(frame, size) for frame in frames])), tokens


@torch.inference_mode()
def record(case: Case, model: Pi05) -> Record:
    """Run a case through the eager model."""
    images, tokens = prepare(case)
    prefix = model.encode(images[None], tokens[None])
    actions, velocities = model.denoise(prefix, case.noise(), FLOW_STEPS)
    return {
        "tokens": tokens.numpy(),
        "keys": torch.stack([key[0, 0].float() for key in prefix.keys]).numpy(),
        "values": torch.stack([value[0, 0].float() for value in prefix.values]).numpy(),
        "velocities": velocities[:, 0].numpy(),
        "actions": actions[0].numpy(),
    }


def record_program(case: Case, model: Pi05) -> Record:
    """Run a case through the prepared program, as the torch engine does in float32; its keys have an order of its own.

    Without keys.
    """
    images, tokens = prepare(case)
    program = Program(model, FLOW_STEPS)
    prefix = program.encode(images, tokens)
    actions, velocities = program.denoise(prefix, case.noise())
    return {
        "tokens": tokens.numpy(),
        "values": torch.stack(prefix.values).numpy(),
        "velocities": velocities[:, 0].numpy(),
        "actions": actions[0].numpy(),
    }
