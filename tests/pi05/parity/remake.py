"""Make what lies in `data` and the tables of docs/parity.md again; docs/parity.md says what has to be there.

python -m pi05.parity.remake reference CONFIG... --openpi CHECKOUT --out DIR
python -m pi05.parity.remake ours CONFIG... --out DIR
python -m pi05.parity.remake table CONFIG... --reference DIR --ours DIR
python -m pi05.parity.remake keep --openpi CHECKOUT --reference DIR
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from pi05.parity import ours
from pi05.parity.cases import CONFIGS, Case, find_cases
from pi05.parity.records import DATA, Record, cosine, kept_cases, largest, load, relative, save, thin


def run(configs: list[str], precisions: list[str], side: tuple[Callable, Callable], out: Path) -> None:
    """Run every case of some dimensions through one side, a model a precision."""
    build, record = side
    cases = [case for config in configs for case in find_cases(config) if case.precision in precisions]
    for _, group in itertools.groupby(cases, key=lambda case: (case.config, case.precision)):
        model = None
        for case in group:
            model = build(case) if model is None else model
            begun = time.perf_counter()
            save(record(case, model), case, out)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{case.name}: {time.perf_counter() - begun:.1f} s, peak {peak:.1f} GiB", flush=True)
        del model


def tables(config: str, reference: Path, mine: Path) -> Iterator[str]:
    """Markdown of one key of CONFIGS."""
    cases = find_cases(config)
    exact = [case for case in cases if case.precision == "fp32" and (mine / f"{case.name}.npz").exists()]
    yield from _exact(config, [(case, load(case, mine), load(case, reference)) for case in exact])
    yield ""
    yield "| case | what | flexor to fp32 | openpi to fp32 | bf16rope to fp32 | flexor to openpi | cosine |"
    yield "|---|---|---|---|---|---|---|"
    for case in cases:
        if case.precision != "bf16" or not (mine / f"{case.name}.npz").exists():
            continue
        a, b = load(case, mine), load(case, reference)
        truth = load(replace(case, precision="fp32"), reference)
        mended = replace(case, precision="bf16rope")
        rope = load(mended, reference) if (reference / f"{mended.name}.npz").exists() else None
        for what in ("keys", "values", "velocities", "actions"):
            pairs = ((a, truth), (b, truth), (rope, truth), (a, b))
            errors = " | ".join(f"{relative(x[what], y[what]):.1e}" if x else "not run" for x, y in pairs)
            yield f"| {case.name} | {what} | {errors} | {cosine(a[what], b[what]):.6f} |"


def _exact(config: str, records: list[tuple[Case, Record, Record]]) -> Iterator[str]:
    """float32: a row a layer and a step, a column a case, the largest difference to the largest number."""
    names = [case.name.removeprefix(f"{config}-fp32-") for case, _, _ in records]
    yield f"| float32 | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    parts = [("keys", CONFIGS[config].prefix.depth, "layer"), ("values", CONFIGS[config].prefix.depth, "layer")]
    for what, count, part in [*parts, ("velocities", 10, "step")]:
        for index in range(count):
            cells = [f"{largest(a[what][index], b[what][index]):.1e}" for _, a, b in records]
            yield f"| {what}, {part} {index + 1} | {' | '.join(cells)} |"
    cells = [f"{largest(a['actions'], b['actions']):.1e}" for _, a, b in records]
    yield f"| actions | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("reference", "ours", "table", "keep"))
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--openpi", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--ours", type=Path)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.what == "reference":
        from pi05.parity.reference import Openpi

        openpi = Openpi(asked.openpi)
        run(asked.configs, asked.precisions, (openpi.build, openpi.record), asked.out)
    elif asked.what == "ours":
        run(asked.configs, asked.precisions, (ours.build, ours.record), asked.out)
    elif asked.what == "table":
        for config in asked.configs:
            print(f"\n### {config}\n\n" + "\n".join(tables(config, asked.reference, asked.ours)))
    else:
        from pi05.parity.reference import Openpi
        from pi05.parity.reference_preprocessing import record_preprocessing

        for config, precision in itertools.product(("small", "wide"), ("fp32", "bf16")):
            for case in kept_cases(config, precision):
                save(thin(load(case, asked.reference), case), case, DATA)
        record_preprocessing(Openpi(asked.openpi), DATA / "preprocessing.npz")


if __name__ == "__main__":
    main()
