"""A part of a model: some parameters of a bundle in float32, the others on the meta device, where they take no memory.

A graph of flexor.export.graphs made of such a part has numbers wherever they follow from these parameters alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import torch
from safetensors import SafetensorError, safe_open

from flexor.pi05.config import Pi05Config
from flexor.pi05.model import Pi05
from flexor.runtime.inference.bundle import Bundle
from flexor.runtime.inference.bundle_config import BundleError

_EXPERT = re.compile(r"expert\.|action_(in|out)_proj\.|time_mlp_(in|out)\.")
_LAYER = re.compile(r"\w+(\.layers)?\.\d+(?=\.)")


def parameter_groups(config: Pi05Config) -> dict[str, dict[str, list[str]]]:
    """Names of all parameters, by role and then by group: "expert" as one group, "prefix" layer by layer.

    No tensor of the prefix graph is made of two groups. Those of the expert's that tell what flow time does are made of
    all its layers' and of the time MLP.
    """
    found: dict[str, dict[str, list[str]]] = {"prefix": {}, "expert": {}}
    for name in _empty(config).state_dict():
        if _EXPERT.match(name):
            found["expert"].setdefault("expert", []).append(name)
        else:
            layer = _LAYER.match(name)
            group = layer[0] if layer else name.rpartition(".")[0]
            found["prefix"].setdefault(group, []).append(name)
    return found


def check_names(bundle: Bundle) -> None:
    """Refuse a file of weights that is not of the model that bundle.json tells of; looks at no number.

    Raises:
        BundleError: names the first tensor that is missing, unknown or of another shape.
    """
    expected = {name: list(tensor.shape) for name, tensor in _empty(bundle.model_config).state_dict().items()}
    with _opened(bundle) as file:
        names = file.keys()
        found = {name: list(file.get_slice(name).get_shape()) for name in names}
    for name in (*expected, *found):
        if found.get(name) != expected.get(name):
            raise BundleError(
                f"{bundle.weights_path}: {name} is {found.get(name, 'missing')}; expected"
                f" {expected.get(name, 'no such tensor')}: the weights are of another model than bundle.json says"
            )


def load_part(bundle: Bundle, names: Collection[str]) -> Pi05:
    """The model of a bundle whose parameters of these names are float32 on the CPU, and all others on "meta".

    Raises:
        BundleError: the file lacks one of them, or holds numbers in it that are not finite.
    """
    model = _empty(bundle.model_config)
    model.load_state_dict(dict(_read(bundle, names)), strict=False, assign=True)
    return model.eval().requires_grad_(False)


def _read(bundle: Bundle, names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    with _opened(bundle) as file:
        for name in names:
            try:
                stored = file.get_tensor(name)
            except SafetensorError as error:
                raise BundleError(f"{bundle.weights_path}: {name} cannot be read: {error}") from error
            if not stored.isfinite().all():
                raise BundleError(
                    f"{bundle.weights_path}: {name} holds numbers that are not finite; restore the bundle"
                )
            yield name, stored.float()


def _opened(bundle: Bundle) -> safe_open:
    try:
        return safe_open(bundle.weights_path, "pt")
    except SafetensorError as error:
        raise BundleError(
            f"{bundle.weights_path} is not a safetensors file: {error}; write the bundle again"
        ) from error


def _empty(config: Pi05Config) -> Pi05:
    with torch.device("meta"):
        return Pi05(config)
