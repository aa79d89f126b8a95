"""What the tries of a fault lost: one JSON line a try, and the table of docs/reliability.md made from them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: made by `make reliability` -->", "<!-- end of faults -->"
HEADER = (
    "| fault | what happens | tried | requests: unanswered / answered twice of | finished episodes: lost of "
    "| arm commands: unsafe of | test |"
)


@dataclass(slots=True)
class Tally:
    """The counts of one try. The random moments of the try come from `chance`.

    Attributes:
        fault, happens: as the marker of the test says them.
        test: its file and name.
        attempt: which try it is; with the name of the test the seed of `chance`.
        requests, unanswered, twice: replies are counted by request; one that the client made (timeout) counts too.
        episodes, episodes_lost: finished ones, and those of them that are not whole on disk.
        commands, unsafe: what the arm was told to do, and what of that it should not have been told.
    """

    fault: str
    happens: str
    test: str
    attempt: int
    requests: int = 0
    unanswered: int = 0
    twice: int = 0
    episodes: int = 0
    episodes_lost: int = 0
    commands: int = 0
    unsafe: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.test} {self.attempt}")

    def count_replies(self, asked: Iterable[object], ended: Iterable[object]) -> None:
        """Every request once in `asked`; in `ended` as often as it was answered."""
        ends = Counter(ended)
        for request in asked:
            self.requests += 1
            self.unanswered += ends[request] == 0
            self.twice += ends[request] > 1

    def count_episodes(self, finished: Iterable[object], whole: Iterable[object]) -> None:
        """Episodes that their recorder called finished, and those that can be read from the disk."""
        named = set(finished)
        self.episodes += len(named)
        self.episodes_lost += len(named - set(whole))

    def count_commands(self, commands: int, unsafe: int) -> None:
        self.commands += commands
        self.unsafe += unsafe

    def line(self) -> str:
        counts = asdict(self)
        del counts["chance"]
        return json.dumps(counts) + "\n"

    def check(self) -> None:
        """Fail when anything was lost."""
        lost = {name: getattr(self, name) for name in ("unanswered", "twice", "episodes_lost", "unsafe")}
        assert not any(lost.values()), lost


def read_tries(path: Path) -> list[dict[str, Any]]:
    """The tries in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(tries: Sequence[Mapping[str, Any]]) -> str:
    """The tries by fault, as Markdown."""
    rows = [HEADER, "|" + "---|" * HEADER.count(" |")]
    for fault in dict.fromkeys(entry["fault"] for entry in tries):
        of = [entry for entry in tries if entry["fault"] == fault]

        def total(name: str, of: Sequence[Mapping[str, Any]] = of) -> int:
            return sum(entry[name] for entry in of)

        def share(whole: str, *lost: str, total: Any = total) -> str:
            return " / ".join(f"{total(name):,}" for name in lost) + f" of {total(whole):,}" if total(whole) else "-"

        tests = " ".join(dict.fromkeys(f"`{entry['test']}`" for entry in of))
        counts = [
            share("requests", "unanswered", "twice"),
            share("episodes", "episodes_lost"),
            share("commands", "unsafe"),
        ]
        rows.append("| " + " | ".join([fault, of[0]["happens"], str(len(of)), *counts, tests]) + " |")
    return "\n".join(rows)


def with_table(page: str, tries: Sequence[Mapping[str, Any]]) -> str:
    """`page` with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(tries)}\n{END}{after}"
