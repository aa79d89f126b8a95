"""Facts: what a file of a graph says about itself, in every format: it alone tells its tensors, units and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from flexor import __version__
from flexor.runtime.inference.bundle_config import BundleConfig
from flexor.runtime.inference.graphs import Ports


def graph_facts(config: BundleConfig, role: str, ports: Ports) -> Mapping[str, object]:
    """Ready for JSON.

    Args:
        config: of the bundle of graphs.
        role: prefix or expert.
        ports: inputs and outputs of that graph.
    """
    graphs = config.graphs
    assert graphs is not None
    return {
        "flexor": __version__,
        "schema_version": 1,
        "graph": role,
        "bundle": config.name,
        "source": graphs.source,
        "precision": getattr(graphs, role),
        "horizon": config.horizon,
        "flow_steps": config.flow_steps,
        "noise_scale": config.noise_scale,
        "one_step": graphs.one_step,
        "rank": graphs.rank,
        "cameras": config.cameras,
        "normalization": config.normalization_of_actions,
        "actions": config.action_space.to_dict(),
        "inputs": [asdict(port) for port in ports[0]],
        "outputs": [asdict(port) for port in ports[1]],
    }
