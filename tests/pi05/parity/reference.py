"""openpi's side: its PyTorch model, imported from a checkout without JAX, on the weights and the inputs of a Case.

Needs transformers 4.53.2 with the checkout's transformers_replace copied over it (docs/parity.md). Of files that cannot
be imported without JAX the wanted definitions alone are executed.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import logging
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from pi05.parity.cases import FLOW_STEPS, PADDED_PROMPT, SENTENCE, Case, encode_bytes
from pi05.parity.weights import draw_for_openpi
from torch import nn

from flexor.pi05.config import GemmaConfig, Pi05Config

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


class Openpi:
    """A checkout of openpi.

    Args:
        checkout: its root.
    """

    def __init__(self, checkout: Path) -> None:
        self.source = checkout / "src" / "openpi"
        client = checkout / "packages" / "openpi-client" / "src"
        if not self.source.is_dir():
            raise ValueError(f"{checkout} is no checkout of openpi: it has no src/openpi")
        sys.path[:0] = [str(client), str(checkout / "src")]
        self.gemma = self._stub("openpi.models.gemma")
        images = self._stub("openpi.shared.image_tools")
        images.resize_with_pad_torch = self.lift("shared/image_tools.py", "resize_with_pad_torch")  # type: ignore[attr-defined]

    def lift(self, file: str, name: str, **names: Any) -> Any:
        """One class or function of a file, without its decorators and bases, `names` being its globals."""
        tree = ast.parse((self.source / file).read_text())
        found = next(node for node in tree.body if getattr(node, "name", None) == name)
        assert isinstance(found, ast.ClassDef | ast.FunctionDef)
        found.decorator_list = []
        if isinstance(found, ast.ClassDef):
            found.bases = []
        flags = __future__.annotations.compiler_flag  # JAX's array types in signatures stay strings
        code = compile(ast.Module([found], []), file, "exec", flags=flags, dont_inherit=True)
        scope = {"np": np, "torch": torch, "F": nn.functional, "logging": logging, **names}
        exec(code, scope)
        return scope[name]

    def build(self, case: Case) -> Any:
        """Its PI0Pytorch with the case's dimensions, weights and precision."""
        from openpi.models_pytorch import gemma_pytorch, pi0_pytorch, preprocessing_pytorch  # type: ignore

        config = case.dimensions
        sizes = {"prefix": _sizes(config.prefix), "expert": _sizes(config.expert)}
        self.gemma.get_config = sizes.__getitem__  # type: ignore[attr-defined]
        defaults = preprocessing_pytorch.preprocess_observation_pytorch.__kwdefaults__
        defaults["image_resolution"] = (config.vision.image_size, config.vision.image_size)
        asked = types.SimpleNamespace(
            pi05=True,
            paligemma_variant="prefix",
            action_expert_variant="expert",
            dtype="float32" if case.precision == "fp32" else "bfloat16",
            action_dim=config.action_dim,
            action_horizon=config.horizon,
            pytorch_compile_mode=None,
        )
        with _undrawn(), _dimensions(gemma_pytorch, config):
            model = pi0_pytorch.PI0Pytorch(asked).eval().requires_grad_(False)
        torch.set_float32_matmul_precision("highest")  # its constructor allows less
        if case.precision == "bf16rope":
            stacks = model.paligemma_with_expert
            for rotary in (stacks.paligemma.model.language_model.rotary_emb, stacks.gemma_expert.model.rotary_emb):
                assert rotary.inv_freq.dtype == torch.bfloat16
                rotary.inv_freq = rotary.original_inv_freq.float()
        # No head of words is ever read. In a checkpoint the first is the token embedding, which is read where it is
        # embedded.
        missing = {name: parameter for name, parameter in model.named_parameters() if "lm_head" not in name}
        for name, tensor in draw_for_openpi(config):
            parameter = missing.pop(name)
            assert parameter.shape == tensor.shape, name
            parameter.copy_(tensor)
        assert not missing, f"not drawn: {sorted(missing)}"
        return model

    def ask(
        self, case: Case, encode: Callable[[str, int], list[int]] = encode_bytes, whole: bool = True
    ) -> tuple[Any, Any]:
        """A case through openpi's preprocessing: its Observation, and which tokens of the prompt are real, bool [200].

        Args:
            encode: makes tokens of a prompt.
            whole: with the empty camera slots and the padding of the prompt, as openpi has it; else without both.
        """
        from openpi_client.image_tools import resize_with_pad  # type: ignore

        size, state = case.dimensions.vision.image_size, case.state()
        tokens, real = self.tokenize(SENTENCE, state, case.dimensions.vocab_size, encode)
        frames = dict(zip(SLOTS, zip(case.frames(), case.slots, strict=True), strict=True))
        if not whole:
            tokens, real = tokens[real], real[real]
            frames = {slot: pair for slot, pair in frames.items() if pair[1]}
        self.use_cameras(tuple(frames))
        data = {
            "image": {
                slot: torch.from_numpy(resize_with_pad(frame * used, size, size))[None]
                for slot, (frame, used) in frames.items()
            },
            "image_mask": {slot: torch.tensor([used]) for slot, (_, used) in frames.items()},
            "state": torch.zeros(1, case.dimensions.action_dim),
            "tokenized_prompt": torch.from_numpy(tokens)[None],
            "tokenized_prompt_mask": torch.from_numpy(real)[None],
        }
        return self.observation(data), real

    def use_cameras(self, slots: tuple[str, ...]) -> None:
        """Have the next calls of any model expect these camera slots."""
        from openpi.models_pytorch import preprocessing_pytorch  # type: ignore

        preprocessing_pytorch.preprocess_observation_pytorch.__kwdefaults__["image_keys"] = slots

    def record(self, case: Case, model: Any) -> dict[str, Any]:
        """Run a case through openpi's preprocessing and model; see `ours.Record`."""
        observation, token_mask = self.ask(case)
        tokens = observation.tokenized_prompt[0].numpy()
        caches, velocities = [], []
        prefix_forward, denoise_step = model.paligemma_with_expert.forward, model.denoise_step

        def keep_cache(**arguments: Any) -> Any:
            outputs, cache = prefix_forward(**arguments)
            if cache is not None:
                caches.append(cache)
            return outputs, cache

        def keep_velocity(*arguments: Any) -> Any:
            velocities.append(denoise_step(*arguments))
            return velocities[-1]

        with (
            mock.patch.object(model.paligemma_with_expert, "forward", keep_cache),
            mock.patch.object(model, "denoise_step", keep_velocity),
        ):
            actions = model.sample_actions("cpu", observation, noise=case.noise(), num_steps=FLOW_STEPS)
        assert len(caches) == 1 and len(velocities) == FLOW_STEPS
        images = np.repeat(case.slots, case.dimensions.vision.tokens)
        real = torch.from_numpy(np.concatenate((images, token_mask)))
        pairs = [caches[0][layer] for layer in range(case.dimensions.prefix.depth)]
        return {
            "tokens": tokens[token_mask].astype(np.int64),
            "keys": torch.stack([key[0, 0, real].float() for key, _ in pairs]).numpy(),
            "values": torch.stack([value[0, 0, real].float() for _, value in pairs]).numpy(),
            "velocities": torch.stack(velocities)[:, 0].numpy(),
            "actions": actions[0].numpy(),
        }

    def tokenize(
        self, sentence: str, state: Any, vocab_size: int, encode_text: Callable[[str, int], list[int]]
    ) -> tuple[Any, Any]:
        """Tokens and mask, padded, by its own PaligemmaTokenizer over `encode_text`."""
        tokenizer = self.lift("models/tokenizer.py", "PaligemmaTokenizer")
        made = tokenizer.__new__(tokenizer)
        made._max_len = PADDED_PROMPT
        encode = lambda text, add_bos=False: encode_text(text, vocab_size)[0 if add_bos else 1 :]  # noqa: E731
        made._tokenizer = types.SimpleNamespace(encode=encode)
        return made.tokenize(sentence, state)

    def observation(self, data: dict[str, Any]) -> Any:
        """Its Observation of a dictionary."""
        return dataclass(self.lift("models/model.py", "Observation")).from_dict(data)

    def _stub(self, name: str) -> types.ModuleType:
        """An empty module in place of one that imports JAX, and of the package that it stands in."""
        package = name.rpartition(".")[0]
        sys.modules.setdefault(package, types.ModuleType(package))
        return sys.modules.setdefault(name, types.ModuleType(name))


def _sizes(config: GemmaConfig) -> types.SimpleNamespace:
    """A stack's dimensions as openpi calls them."""
    return types.SimpleNamespace(
        width=config.width,
        depth=config.depth,
        mlp_dim=config.mlp_dim,
        num_heads=config.heads,
        num_kv_heads=config.kv_heads,
        head_dim=config.head_dim,
    )


@contextlib.contextmanager
def _dimensions(module: Any, config: Pi05Config) -> Iterator[None]:
    """Give the models that openpi builds the dimensions that it writes down itself: vocabulary and image tower."""
    paligemma, expert = module.PaliGemmaForConditionalGeneration, module.GemmaForCausalLM

    def build_paligemma(config: Any) -> Any:
        config.text_config.vocab_size = ours.vocab_size
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = ours.vision.width, ours.vision.mlp_dim
        vision.num_hidden_layers, vision.num_attention_heads = ours.vision.depth, ours.vision.heads
        vision.image_size, vision.patch_size = ours.vision.image_size, ours.vision.patch_size
        vision.projection_dim = config.projection_dim = ours.prefix.width
        return paligemma(config=config)

    def build_expert(config: Any) -> Any:
        config.vocab_size = ours.vocab_size
        return expert(config=config)

    ours = config
    with (
        mock.patch.object(module, "PaliGemmaForConditionalGeneration", build_paligemma),
        mock.patch.object(module, "GemmaForCausalLM", build_expert),
    ):
        yield


@contextlib.contextmanager
def _undrawn() -> Iterator[None]:
    """Leave the parameters of new modules untouched: memory that nobody writes is not taken."""
    from transformers.modeling_utils import no_init_weights  # type: ignore

    with contextlib.ExitStack() as stack:
        stack.enter_context(no_init_weights())
        for kind in (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd):
            stack.enter_context(mock.patch.object(kind, "reset_parameters"))
        yield
