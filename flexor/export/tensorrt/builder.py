"""From a parsed network to the bytes of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flexor.errors import FlexorError
from flexor.export.tensorrt.network import TensorrtNetwork
from flexor.runtime.inference.tensorrt_library import RTX, last_error


def build_engine(
    network: TensorrtNetwork,
    targets: Sequence[str],
    most_samples: int,
    exact: bool = False,
    timing_cache: Path | None = None,
) -> memoryview:
    """Build an engine. It cannot be refitted: adapters are inputs, and a refittable engine is slower.

    Args:
        network: its free axes are the number of samples.
        targets: GPUs, as choose_targets gave them; one engine serves all of them.
        most_samples: it takes 1 to so many, and is tuned for 1.
        exact: products of float32 numbers are computed in float32; else they may round their factors to TF32.
        timing_cache: of the full TensorRT: what it timed in earlier builds; read where it exists, and written.

    Raises:
        FlexorError: the library cannot build it, or cannot use this timing cache.
    """
    library, module = network.library, network.library.module
    config = network.builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if exact:
        config.clear_flag(module.BuilderFlag.TF32)
    _add_profile(network, config, most_samples)
    if library.name == RTX:
        config.num_compute_capabilities = len(targets)
        for place, target in enumerate(targets):
            config.set_compute_capability(module.ComputeCapability.__members__[target.upper()], place)
    cache = _load_timings(network, config, timing_cache)
    made = network.builder.build_serialized_network(network.network, config)
    if made is None:
        raise FlexorError(
            f"{library.name} {library.version} cannot build {network.path.name} for {', '.join(targets)}:"
            f" {last_error(network.messages)}; choose another --precision or other --targets"
        )
    if timing_cache is not None:
        timing_cache.write_bytes(memoryview(cache.serialize()))
    return memoryview(made)


def _add_profile(network: TensorrtNetwork, config: Any, most_samples: int) -> None:
    profile, free = network.builder.create_optimization_profile(), False
    for tensor in network.inputs():
        if -1 in tuple(tensor.shape):
            sizes = (tuple(count if size == -1 else size for size in tensor.shape) for count in (1, 1, most_samples))
            profile.set_shape(tensor.name, *sizes)
            free = True
    if free and config.add_optimization_profile(profile) < 0:
        raise FlexorError(f"{network.path.name} takes no 1 to {most_samples} samples: {last_error(network.messages)}")


def _load_timings(network: TensorrtNetwork, config: Any, path: Path | None) -> Any:
    """Attach the timing cache of the full library. TensorRT-RTX has none: asked for one it would look for a GPU."""
    if path is None:
        return None
    if network.library.name == RTX:
        raise FlexorError(
            "a timing cache is of no use to TensorRT-RTX, which times nothing here: it compiles kernels where engines"
            " run, and those are kept in the bundle; leave --timing-cache out"
        )
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if not config.set_timing_cache(cache, False):
        raise FlexorError(f"{path} is the timing cache of another GPU or TensorRT; name another file, or remove it")
    return cache
