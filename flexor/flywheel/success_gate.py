"""The success part of a gate: episodes in a precision, or of exported graphs, beside the same ones in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flexor.errors import FlexorError
from flexor.flywheel.row_file import row_key
from flexor.runtime.inference.gates import LEAST_DIFFERENCE, LEAST_OF_GRAPHS, succeeds_enough
from flexor.runtime.metrics import mcnemar, paired_difference


@dataclass(frozen=True, slots=True)
class SuccessPair:
    """Two arms on the same episodes, the reference first.

    Attributes:
        both, reference_only, other_only, neither: episodes in which these succeeded.
        difference, low, high: of the success rates, the other less the reference, and Newcombe's 95 % interval.
        p: of McNemar's exact test.
        least: what `low` must exceed.
    """

    both: int
    reference_only: int
    other_only: int
    neither: int
    difference: float
    low: float
    high: float
    p: float
    least: float = LEAST_DIFFERENCE

    @classmethod
    def of(cls, reference: Mapping[str, Any], other: Mapping[str, Any], source: str | None = None) -> SuccessPair:
        """From two results of flexor.flywheel.evaluate.evaluate, paired by task and seed.

        Args:
            source: of exported graphs, hash of the bundle that they are of, which is the reference.

        Raises:
            FlexorError: they are of other bundles or of other episodes.
        """
        if reference["bundle_hash"] != (source or other["bundle_hash"]):
            raise FlexorError(
                "the two arms played different bundles; was the bundle written anew meanwhile? Start again"
            )
        first, second = ({row_key(row): bool(row["success"]) for row in arm["rows"]} for arm in (reference, other))
        if first.keys() != second.keys():
            raise FlexorError("the two arms played different episodes; start again with --fresh")
        pairs = [(first[key], second[key]) for key in first]
        both, neither = pairs.count((True, True)), pairs.count((False, False))
        reference_only, other_only = pairs.count((True, False)), pairs.count((False, True))
        found = paired_difference(both, reference_only, other_only, neither)
        least = LEAST_DIFFERENCE if source is None else LEAST_OF_GRAPHS
        return cls(both, reference_only, other_only, neither, *found, mcnemar(reference_only, other_only), least)

    @property
    def episodes(self) -> int:
        """Pairs."""
        return self.both + self.reference_only + self.other_only + self.neither

    @property
    def passed(self) -> bool | None:
        """Whether that is good enough to be served; None where too few episodes were played to tell."""
        return succeeds_enough(self.difference, self.low, self.high, self.least)

    @property
    def told(self) -> str:
        """The figures that decide, in words."""
        n, reference, other = self.episodes, self.both + self.reference_only, self.both + self.other_only
        return (
            f"{other} of {n} episodes beside {reference} in fp32, {100 * self.difference:+.1f} points"
            f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}] (the lower end above {100 * self.least:+.0f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        counts = asdict(self)
        interval = [counts.pop("low"), counts.pop("high")]
        return {"episodes": self.episodes, **counts, "ci95": interval}
