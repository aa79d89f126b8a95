"""Time openpi's PyTorch model and flexor's in one run: same machine, threads, weights, frames, prompt and noise.

python -m pi05.parity.timing fp32|bf16 CONFIG --openpi CHECKOUT --reference PYTHON --keep DIR [--json FILE]

Each side lives in a process of its own, since each needs an environment of its own. In bf16 (and 8 bits) both hold
their models at once and take turns call by call. In fp32 two full models do not fit in 24 GiB: a side is built,
answers, ends and makes room for the other, twice over. `--keep` holds what each sitting measured: a run that was cut
off goes on after it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pi05.parity.records import cosine, largest

from flexor.cli.report import write_json

Calls = list[dict[str, Any]]
"""Of one name, each timed call: at (Unix time), ms, cpu_ms (of all threads), actions [H][A], peak_gib so far."""

SITTINGS = {"fp32": [["reference"], ["ours"]] * 2, "bf16": [["reference", "ours"]]}
"""Who is in memory together, one sitting after another."""


class Side:
    """A process of `timed`; `built` waits until its models stand."""

    def __init__(self, python: Path, side: str, asked: argparse.Namespace) -> None:
        settings = [side, asked.config, asked.precision, str(asked.threads)]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(asked.threads)}
        self._process = subprocess.Popen(
            [str(python), "-m", "pi05.parity.timed", *settings, str(asked.openpi), *["compiled"] * asked.compiled],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.name = side

    def built(self) -> dict[str, Any]:
        """names, built_s, tokens, peak_gib."""
        return self._read()

    def call(self, name: str) -> dict[str, Any]:
        """One call, see Calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """Close its standard input and wait until it has left memory."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early with status {self._process.wait()}")
        return json.loads(line)


def sit(together: list[str], asked: argparse.Namespace) -> dict[str, Any]:
    """Build some sides, and have each of their names answer in turn: one call to warm up, then those that count."""
    pythons = {"reference": asked.reference, "ours": Path(sys.executable)}
    load = os.getloadavg()[0]
    sides = [Side(pythons[name], name, asked) for name in together]
    built = {side.name: side.built() for side in sides}
    for name, what in built.items():
        say(f"{name} built in {what['built_s']} s, {what['tokens']} tokens, peak {what['peak_gib']} GiB")
    calls: dict[str, Calls] = {}
    for turn in range(-1, asked.calls):
        for side in sides:
            for name in built[side.name]["names"]:
                answer = side.call(name)
                count = "warm-up" if turn < 0 else turn + 1
                took = f"{answer['ms']:.0f} ms, processors {answer['cpu_ms']:.0f} ms"
                say(f"{side.name} {name} {count}: {took}")
                if turn >= 0:
                    calls.setdefault(name, []).append(answer)
    for side in sides:
        side.end()
    return {"load_average": load, "built": built, "calls": calls}


def summarise(sittings: list[dict[str, Any]], exact: np.ndarray | None) -> dict[str, Any]:
    """Medians, ratios to both ways of asking openpi, and how far apart the actions are.

    Args:
        exact: openpi's actions in float32, where those were measured before.
    """
    calls: dict[str, Calls] = {}
    for sitting in sittings:
        for name, some in sitting["calls"].items():
            calls.setdefault(name, []).extend(some)
    p50 = {name: statistics.median(call["ms"] for call in some) for name, some in calls.items()}
    actions = {name: np.array(some[0]["actions"]) for name, some in calls.items()}
    rows = {}
    for name, found in actions.items():
        row: dict[str, Any] = {
            "p50_ms": p50[name],
            "all_ms": [call["ms"] for call in calls[name]],
            "all_cpu_ms": [call["cpu_ms"] for call in calls[name]],
            "faster_than_published": p50["published"] / p50[name],
            "faster_than_trimmed": p50["trimmed"] / p50[name],
            "largest_to_published": largest(found, actions["published"]),
            "cosine_to_published": cosine(found, actions["published"]),
        }
        if exact is not None:
            row |= {"largest_to_fp32": largest(found, exact), "cosine_to_fp32": cosine(found, exact)}
        rows[name] = row
    peaks = {side: built["peak_gib"] for sitting in sittings for side, built in sitting["built"].items()}
    for sitting in sittings:
        for side, built in sitting["built"].items():
            peaks[side] = max([peaks[side], *(c["peak_gib"] for n in built["names"] for c in sitting["calls"][n])])
    return {
        "calls": rows,
        "peak_gib": peaks,
        "tokens": sittings[0]["built"]["ours" if "ours" in sittings[0]["built"] else "reference"]["tokens"],
        "load_averages": [sitting["load_average"] for sitting in sittings],
    }


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=tuple(SITTINGS))
    parser.add_argument("config")
    parser.add_argument("--openpi", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True, help="Python of the reference's environment")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--calls", type=int, default=3, help="that count, of each name, a sitting")
    parser.add_argument("--compiled", action="store_true", help="openpi compiled, too: takes minutes")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    sittings = []
    for number, together in enumerate(SITTINGS[asked.precision], 1):
        path = asked.keep / f"{asked.config}-{asked.precision}{'-compiled' * asked.compiled}-{number}.json"
        if not path.exists():
            say(f"sitting {number}: {' and '.join(together)}, load average {os.getloadavg()[0]:.2f}")
            path.write_text(json.dumps(sit(together, asked)))
        sittings.append(json.loads(path.read_text()))
    truth = asked.keep / f"{asked.config}-fp32-1.json"
    exact = np.array(json.loads(truth.read_text())["calls"]["published"][0]["actions"]) if truth.exists() else None
    found = summarise(sittings, exact)
    for name, row in found["calls"].items():
        say(
            f"{name}: p50 {row['p50_ms']:.0f} ms, {row['faster_than_published']:.2f} times as fast as published, "
            f"{row['faster_than_trimmed']:.2f} as trimmed, largest {row['largest_to_published']:.1e}, cosine "
            f"{row['cosine_to_published']:.6f}"
        )
    setting = {"config": asked.config, "precision": asked.precision, "threads": asked.threads, "cameras": 2}
    write_json(asked.json, {**setting, "horizon": 10, "flow_steps": 10, **found})


if __name__ == "__main__":
    main()
