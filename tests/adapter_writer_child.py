"""A process that writes one adapter after the other into a directory until it is killed, and tells each."""

from __future__ import annotations

import sys
from pathlib import Path

from random_adapters import ALPHA, RANK, draw_factors
from telling_process import tell

from flexor.runtime.adapters.adapter_writer import write_adapter
from flexor.runtime.inference.bundle import Bundle


def main(bundle: str, root: str) -> None:
    opened, seed = Bundle.open(bundle), 0
    tell("ready")
    while True:
        factors = draw_factors(opened.model_config, seed)
        tell("written", name=write_adapter(Path(root), factors, opened, rank=RANK, alpha=ALPHA, seed=seed).name)
        seed += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
