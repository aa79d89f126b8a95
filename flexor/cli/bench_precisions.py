"""`flexor bench precisions`: what each precision costs here, products and whole calls, in turns."""

from __future__ import annotations

from typing import Annotated

import typer

from flexor.cli.report import JsonFile

PRECISIONS = "fp32,bf16,int8,int8+fp32,bf16+int8w,bnb8"


def precisions(
    bundle: Annotated[str, typer.Argument(help="Folder of a bundle, or the name of one that ships.")] = "pi05-nano",
    calls: Annotated[str, typer.Option(help="Precisions of its calls, comma-separated.")] = PRECISIONS,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="INxOUT", help="Of a product; by default two of pi05's MLPs.")
    ] = None,
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help="Tokens of a product; by default 10, 50 and 560.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    n: Annotated[int, typer.Option(min=1, help="Timed turns.")] = 15,
    json: JsonFile = None,
) -> None:
    """Time products of the model's sizes in every precision, and whole calls of a bundle.

    Everything that is compared is timed in turns, in one run. fp8 is among it where a GPU multiplies it. On a CPU the
    table of products is of processor time, which neighbours lengthen less.

    Example: flexor bench precisions pi05-nano --threads 1 --json precisions.json
    """
    import os

    import torch

    from flexor.cli.progress import Progress
    from flexor.cli.report import table, write_json
    from flexor.runtime.inference.bundle import Bundle
    from flexor.runtime.inference.torch_limits import torch_device
    from flexor.runtime.timing.torch_precisions import parse_shape, time_bundle, time_products

    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    opened = Bundle.open(bundle)
    shapes = [parse_shape(text) for text in shape or ("2048x16384", "1024x4096")]
    with Progress() as progress:
        called = time_bundle(opened, calls.split(","), threads, n, progress.update)
        products = time_products(shapes, rows or (10, 50, 560), n, progress.update)
    device = str(torch_device())
    kinds = list(products[0]["ms"])
    clock = "processor" if device == "cpu" else "best"
    table(
        f"products, ms ({clock}), on {device}, threads {threads}, load average before {load:.2f}",
        ("in x out", "rows", *kinds),
        [(f"{row['in']} x {row['out']}", row["rows"], *(row["ms"][kind][clock] for kind in kinds)) for row in products],
    )
    told = [(name, ms["p50"], ms["best"], ms["processor"]) for name, ms in called.items()]
    table(f"calls of {opened.id}, ms", ("precision", "p50", "best", "processor"), told)
    setting = {"bundle": opened.id, "hash": opened.hash, "provider": device, "threads": threads, "n": n}
    write_json(json, {**setting, "load_average": load, "products": products, "calls": called})
