"""`flexor bench swap`: what carrying and swapping an adapter costs an engine, and what a server's robots notice."""

from __future__ import annotations

from typing import Annotated

import typer

from flexor.cli.report import JsonFile
from flexor.runtime.inference.precisions import CHOICES


def swap(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships with flexor.")],
    engine: Annotated[str | None, typer.Option(help="torch, or the format of graphs; the one that fits.")] = None,
    precision: Annotated[str | None, typer.Option(help=CHOICES)] = None,
    samples: Annotated[int, typer.Option(min=1, help="Chunks on one prefix, as the entropy draws them.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine.")] = 1,
    n: Annotated[int, typer.Option(min=1, help="Swaps of the engine alone.")] = 100,
    swaps: Annotated[int, typer.Option(min=1, help="Swaps of a server that is asked meanwhile.")] = 20,
    hz: Annotated[float, typer.Option(min=0.1, help="Requests a second that the server is asked.")] = 10.0,
    json: JsonFile = None,
) -> None:
    """Swap random adapters: in an engine, then in a server process that another process asks all the time.

    In the engine a chunk counts as lost when, while another thread loads, it is neither the old adapter's nor the new
    one's, bit for bit. To the server each adapter is pushed as a learner does it: verified, loaded, shadowed on live
    requests, then active at the next chunk. There a request without a chunk is lost, and every chunk is compared with
    that of an engine which loaded its adapter cold.

    Example: flexor bench swap pi05-nano --json swap.json
    """
    import os

    # Before torch is imported: two spinning OpenMP threads on two busy cores make every layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from flexor.cli.progress import Progress
    from flexor.cli.report import console, table, write_json
    from flexor.flywheel.timing.swap_traffic import measure_swap_traffic
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.engine import Engine, open_engine
    from flexor.runtime.inference.policy import Policy
    from flexor.runtime.timing.swap import measure_swap
    from flexor.runtime.timing.swap_engine import AskedEngine

    load = os.getloadavg()[0]
    opened = Bundle.open(bundle)

    def fresh() -> Engine:
        return open_engine(opened, engine, precision, threads, force=True)

    carried = AskedEngine(fresh(), opened, samples)
    measured = carried.engine
    arguments = ["--engine", measured.name, "--precision", measured.precision, "--threads", str(threads), "--force"]
    with Progress() as progress:
        alone = measure_swap(
            carried,
            lambda: AskedEngine(fresh(), opened, samples),
            opened.model_config,
            opened.adapter_pairs,
            n,
            progress.update,
        )
        served = measure_swap_traffic(opened, arguments, lambda: Policy(opened, fresh()), swaps, hz, progress.update)
    ran = f"{measured.name} {measured.precision} on {measured.provider}"
    title = f"{opened.id}: {ran}, N {samples}, load average {load:.2f}"
    rows = [
        ("a chunk, no adapter, p50, ms", alone["base_p50_ms"]),
        ("a chunk with one, p50, ms", alone["carry_p50_ms"]),
        ("ratio", alone["carry_ratio"]),
        ("a swap takes of the engine, ms", alone["engine_ms"]),
        ("loading a slot, on any thread, p50, ms", alone["load_ms"]),
        ("server: from push to verified and loaded, p50, ms", served["load_ms"]),
        ("server: from push to active, p50, ms", served["active_ms"]),
        (f"reply, the {served['around_n']} around swaps, p50, ms", served["around_p50_ms"]),
        ("the same, p99, ms", served["around_p99_ms"]),
        (f"reply, the {served['elsewhere_n']} others, p50, ms", served["elsewhere_p50_ms"]),
        ("the same, p99, ms", served["elsewhere_p99_ms"]),
        ("ratio of the p99", served["p99_ratio"]),
        ("largest difference to a cold load", max(alone["max_diff_cold"], served["max_diff_cold"])),
    ]
    table(title, ("what", "measured"), rows)
    console.print(
        f"{alone['lost']} of {alone['chunks']} chunks lost while another thread swapped {n} times, "
        f"{alone['recaptures']} graphs recorded; {served['lost']} of {served['requests']} requests lost while a server "
        f"took {swaps} adapters"
    )
    setting = {"bundle": opened.id, "hash": opened.hash, "engine": measured.name, "precision": measured.precision}
    setting |= {"provider": measured.provider, "samples": samples, "threads": threads, "load_average": load}
    both = {
        "lost": alone["lost"] + served["lost"],
        "max_diff_cold": max(alone["max_diff_cold"], served["max_diff_cold"]),
    }
    write_json(json, {**setting, **alone, **both, "p99_ratio": served["p99_ratio"], "alone": alone, "server": served})
