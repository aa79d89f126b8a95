"""LoRA, packed: a few tensors over all layers, as engines and graphs take them. Needs no torch.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685: W x becomes W x + (alpha / r) B A x.
The projections of a pair (flexor.pi05.lora_targets) have their A stacked and their B block-diagonal. An adapter packs
PAIRS, and DEEP_PAIRS beside them where it changes what sees and reads: then only merged weights can carry it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flexor.pi05.config import Pi05Config
from flexor.pi05.lora_targets import ALL_PAIRS, DEEP_PAIRS, PAIRS, Pairs, all_sizes, paths, stack_of, target_sizes

SLOTS = 4
"""Sets of weights that a program or an engine holds: slot 0 is the model's own for ever, each other one carries an
adapter."""

Factors = Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]


def check_slot(slot: int, first: int = 0) -> None:
    """Whether there is such a slot; with first 1, whether it is for adapters.

    Raises:
        ValueError: there is not.
    """
    if not first <= slot < SLOTS:
        reason = ": slot 0 is the model's own" if first else ""
        raise ValueError(f"slot is {slot}; expected {first} to {SLOTS - 1}{reason}")


def packed_shapes(config: Pi05Config, rank: int, pairs: Pairs = PAIRS) -> dict[str, tuple[int, ...]]:
    """Shapes of the packed tensors: `<pair>_a` [L, n r, in] and `<pair>_b` [L, out, n r], without L outside the layers.

    n is the number of projections in the pair, `in` what they read, `out` all they give.

    Args:
        pairs: PAIRS, ALL_PAIRS, or those of one program alone: PREFIX_PAIRS or EXPERT_PAIRS.
    """
    sizes, shapes = all_sizes(config, pairs), {}
    for pair, names in pairs.items():
        groups = paths(config, pair, names)
        lead = () if stack_of(pair) is None else (len(groups),)
        inputs, outputs = sizes[groups[0][0]][0], sum(sizes[path][1] for path in groups[0])
        shapes[f"{pair}_a"] = (*lead, len(names) * rank, inputs)
        shapes[f"{pair}_b"] = (*lead, outputs, len(names) * rank)
    return shapes


def pack(config: Pi05Config, factors: Factors, scale: float, rank: int) -> dict[str, NDArray[np.float32]]:
    """Pack an adapter's factors.

    Args:
        config: of the model that it belongs to.
        factors: A [r, in] and B [out, r] by the name of the projection; what is not named is not changed.
        scale: alpha / r, folded into B.
        rank: of the packed tensors, at least every r; what is more of it is zero.

    Returns:
        float32 tensors of `packed_shapes`, of ALL_PAIRS where a factor is of DEEP_PAIRS and of PAIRS else; rows and
        columns are in the order of the model's own weights.

    Raises:
        ValueError: a projection that there is not, factors of other shapes, or a rank above `rank`.
    """
    sizes = target_sizes(config, ALL_PAIRS)
    if unknown := sorted(set(factors) - set(sizes)):
        raise ValueError(f"factors for {unknown[:3]}; an adapter may change {', '.join(list(sizes)[-7:])}, ...")
    for path, (a, b) in factors.items():
        inputs, outputs = sizes[path]
        r = a.shape[0]
        if r > rank or a.shape != (r, inputs) or b.shape != (outputs, r):
            raise ValueError(
                f"{path}: A {list(a.shape)} and B {list(b.shape)}; expected [r, {inputs}] and [{outputs}, r] with r at "
                f"most {rank}"
            )
    pairs = ALL_PAIRS if set(factors) - set(target_sizes(config)) else PAIRS
    packed = {name: np.zeros(shape, np.float32) for name, shape in packed_shapes(config, rank, pairs).items()}
    for path, (pair, layer, place, rows) in packed_places(config, pairs).items():
        if path in factors:
            whole_a, whole_b = (packed[f"{pair}_{side}"][() if layer is None else layer] for side in "ab")
            a, b = factors[path]
            first = place * rank
            whole_a[first : first + len(a)] = a
            whole_b[rows, first : first + len(a)] = scale * b
    return packed


def is_deep(packed: Mapping[str, NDArray[np.float32]]) -> bool:
    """Whether a packed adapter has tensors of DEEP_PAIRS."""
    return any(f"{pair}_a" in packed or f"{pair}_b" in packed for pair in DEEP_PAIRS)


def random_adapter(
    config: Pi05Config, rank: int, size: float, seed: int, pairs: Pairs = PAIRS
) -> dict[str, NDArray[np.float32]]:
    """An adapter of all projections of `pairs`, packed, that moves actions: for measurements and tests.

    Args:
        rank: r.
        size: of each number of B A, beside one of a weight drawn from N(0, 1 / in); its square root of the mean square.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    factors = {
        name: (
            generator.normal(0.0, inputs**-0.5, (rank, inputs)),
            generator.normal(0.0, size * rank**-0.5, (outputs, rank)),
        )
        for name, (inputs, outputs) in target_sizes(config, pairs).items()
    }
    return pack(config, factors, 1.0, rank)


def check_packed(config: Pi05Config, packed: Mapping[str, NDArray[np.float32]]) -> int:
    """Whether tensors are an adapter of this model, packed: their rank, which they tell themselves.

    Raises:
        ValueError: a tensor that is missing, unknown, of another shape or dtype, or not finite.
    """
    rank = packed["o_a"].shape[-2] if "o_a" in packed and packed["o_a"].ndim == 3 else 0
    if rank < 1:
        found = list(packed["o_a"].shape) if "o_a" in packed else "missing"
        raise ValueError(f"o_a is {found}; expected {list(packed_shapes(config, 1)['o_a'])} with r, 1 or more, for 1")
    shapes = packed_shapes(config, rank, ALL_PAIRS if is_deep(packed) else PAIRS)
    if unknown := sorted(set(packed) - set(shapes)):
        raise ValueError(f"{unknown[0]} is unknown; an adapter has {', '.join(shapes)}")
    for name, shape in shapes.items():
        if name not in packed:
            raise ValueError(f"{name} is missing; expected float32 {list(shape)}")
        array = packed[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}; expected float32 {list(shape)}")
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(f"{name} is {array[tuple(where)]} at {where.tolist()}; expected finite numbers")
    return rank


def widen(packed: Mapping[str, NDArray[np.float32]], rank: int, larger: int) -> dict[str, NDArray[np.float32]]:
    """The same adapter of PAIRS packed for a larger rank; what is more of it is zero."""
    wide, more = {}, (0, larger - rank)
    for pair, names in PAIRS.items():
        a, b = packed[f"{pair}_a"], packed[f"{pair}_b"]
        rows = a.reshape(*a.shape[:-2], len(names), rank, a.shape[-1])
        columns = b.reshape(*b.shape[:-1], len(names), rank)
        rows = np.pad(rows, [(0, 0)] * (rows.ndim - 2) + [more, (0, 0)])
        columns = np.pad(columns, [(0, 0)] * (columns.ndim - 1) + [more])
        wide[f"{pair}_a"] = rows.reshape(*a.shape[:-2], len(names) * larger, a.shape[-1])
        wide[f"{pair}_b"] = columns.reshape(*b.shape[:-1], len(names) * larger)
    return wide


def tensor_names(pairs: Pairs) -> list[str]:
    """What the packed tensors of PREFIX_PAIRS or EXPERT_PAIRS are called: what one program reads of an adapter."""
    return [f"{pair}_{side}" for pair in pairs for side in "ab"]


def packed_places(config: Pi05Config, pairs: Pairs = ALL_PAIRS) -> dict[str, tuple[str, int | None, int, slice]]:
    """Where a projection is in the packed tensors: its pair, its layer (None outside of layers), which one of the pair
    it is, and its rows of B."""
    sizes, places = all_sizes(config, pairs), {}
    for pair, names in pairs.items():
        for layer, group in enumerate(paths(config, pair, names)):
            row = 0
            for place, path in enumerate(group):
                places[path] = (
                    pair,
                    None if stack_of(pair) is None else layer,
                    place,
                    slice(row, row + sizes[path][1]),
                )
                row += sizes[path][1]
    return places
