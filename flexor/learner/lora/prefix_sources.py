"""Where the prefixes of a learner's samples come from: what no adapter of its profile changes is encoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from flexor.learner.lora.live_prefixes import LivePrefixes
from flexor.learner.lora.prefix_cache import PrefixCache
from flexor.learner.lora.prefix_store import PrefixStore
from flexor.learner.lora.sample_pool import SamplePool
from flexor.learner.lora.settings import LoraSettings
from flexor.learner.lora.sight_cache import SightCache
from flexor.pi05.model import Pi05
from flexor.pi05.prefix import Prefix


class Prefixes(Protocol):
    """The prefixes of one pool's samples, each in one of its encodings."""

    def prefixes(self, rows: Sequence[int], encodings: Sequence[int]) -> Prefix: ...


KEPT: Mapping[str, type[PrefixCache] | type[SightCache]] = {
    "expert": PrefixCache,
    "projector": SightCache,
    "keys": SightCache,
}
"""By profile: what is encoded once. Nothing is where the image tower is trained, too."""


def prefix_sources(
    model: Pi05, base: str, pools: Sequence[SamplePool], settings: LoraSettings, cache: Path
) -> Sequence[Prefixes]:
    """One source a pool; those that keep what they encode share a store, and with it its budget.

    Args:
        model: that is trained.
        base: hash of the bundle that it is of.
        cache: folder of what is kept.
    """
    if (kind := KEPT.get(settings.profile)) is None:
        return [LivePrefixes(model, pool) for pool in pools]
    store = PrefixStore(cache, settings.cache_mb * 1_000_000)
    held = f"{base} in 8 bits" if settings.load_in_8bit else base
    return [kind(model, held, settings.precision, pool, store) for pool in pools]
