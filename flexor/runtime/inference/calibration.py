"""Calibration: what a policy's scores come to in good episodes, as a small JSON file that says what it is good for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flexor.runtime.inference.conformal import SIGNED, CalibrationError, Threshold, threshold

SCHEMA_VERSION = 1
PRIMARY = "ace_bits"  # the score whose alarm counts; the others are logged beside it


@dataclass(frozen=True, slots=True)
class Scoring:
    """What scores depend on beside the world: thresholds of one scoring say nothing about another.

    Attributes:
        bundle, hash: name of the policy's bundle, and its sha256, which covers weights and normalisation.
        adapter: adapter id.
        precision, flow_steps: of the engine.
        noise_scale: of the noise that chunks start from; the score accel is of their flow.
        samples, cell, estimator: N, cell and version of the estimators (flexor.runtime.inference.entropy).
        robot: name of the robot.
        driving: how chunks follow each other, for the steps that count depend on it.
    """

    bundle: str
    hash: str
    adapter: str
    precision: str
    flow_steps: int
    noise_scale: float
    samples: int
    cell: float
    estimator: int
    robot: str
    driving: str

    @classmethod
    def of(cls, policy: Mapping[str, Any], adapter: str, robot: str, driving: str) -> Scoring:
        """The scoring of a policy that describes itself as Policy.describe does.

        Raises:
            CalibrationError: it does not say how it scores.
        """
        try:
            entropy = policy["entropy"]
            return cls(
                bundle=policy["bundle"],
                hash=policy["hash"],
                adapter=adapter,
                precision=policy["precision"],
                flow_steps=policy["flow_steps"],
                noise_scale=policy["noise_scale"],
                samples=entropy["samples"],
                cell=entropy["cell"],
                estimator=entropy["version"],
                robot=robot,
                driving=driving,
            )
        except (KeyError, TypeError) as error:
            raise CalibrationError(
                f"policy {policy.get('bundle')!r} does not say how it scores ({error}); serve it with this flexor, or "
                "record its episodes anew"
            ) from error

    def differences(self, other: Scoring) -> list[str]:
        """Every field in which `other` is different, in words."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{key} is {theirs[key]!r}, not {mine[key]!r}" for key in mine if mine[key] != theirs[key]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds of one scoring at level alpha.

    Attributes:
        scoring: what it was measured on and is good for.
        alpha: share of good episodes that may raise a false alarm.
        tasks: names of the tasks of its episodes, each once.
        episodes: ids of the M good episodes.
        thresholds: by score; PRIMARY is always among them.
        refused: why a further score has no threshold, by score.
        created: UTC, ISO 8601.
    """

    scoring: Scoring
    alpha: float
    tasks: tuple[str, ...]
    episodes: tuple[str, ...]
    thresholds: Mapping[str, Threshold]
    refused: Mapping[str, str]
    created: str

    @property
    def id(self) -> str:
        """12 hex digits that name it in logs: of the sha256 of everything it says."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def measure(
        cls,
        scoring: Scoring,
        maxima: Mapping[str, Sequence[float]],
        alpha: float,
        tasks: Sequence[str],
        episodes: Sequence[str],
    ) -> Calibration:
        """From the largest value of each score in each good episode.

        Args:
            maxima: by score, M values, in the order of `episodes`.

        Raises:
            CalibrationError: PRIMARY is missing or has no threshold; a score with another number of values.
        """
        if wrong := {score: len(values) for score, values in maxima.items() if len(values) != len(episodes)}:
            raise CalibrationError(f"{len(episodes)} episodes have maxima of {wrong}; expected one an episode")
        if PRIMARY not in maxima:
            raise CalibrationError(
                f"the episodes hold no score {PRIMARY}; record them with a policy whose chunks are scored (serve with "
                "entropy=slack, eval with --entropy)"
            )
        thresholds, refused = {}, {}
        for score, values in maxima.items():
            try:
                thresholds[score] = threshold(score, values, alpha, scoring.samples)
            except CalibrationError as error:
                if score == PRIMARY:
                    raise
                refused[score] = str(error)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(scoring, alpha, tuple(sorted(set(tasks))), tuple(episodes), thresholds, refused, created)

    def check(self, scoring: Scoring) -> None:
        """Refuse another scoring than its own, another adapter included: one's thresholds bound nothing for the other.

        Raises:
            CalibrationError: names every difference.
        """
        if differences := self.scoring.differences(scoring):
            raise CalibrationError(
                f"calibration {self.id} does not fit: {'; '.join(differences)}; measure one with "
                "`flexor run --calibrate` or `flexor episodes calibrate`, or go without"
            )

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Refuse tasks of which it has seen no episode.

        Raises:
            CalibrationError: names them.
        """
        if unknown := sorted(set(tasks) - set(self.tasks)):
            raise CalibrationError(
                f"calibration {self.id} has seen no episode of {', '.join(unknown)}, only of {', '.join(self.tasks)}; "
                "calibrate with those tasks too, or go without"
            )

    def calibrated(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Those of `scores` that have a threshold, on the scale where more than 2.0 is an alarm.

        Raises:
            CalibrationError: one that is not finite.
        """
        return {name: self.thresholds[name].calibrated(raw) for name, raw in scores.items() if name in self.thresholds}

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "primary": PRIMARY}

    def save(self, path: Path) -> None:
        """Write it to `path`, whole or not at all; a calibration that lay there is replaced.

        Raises:
            CalibrationError: the file cannot be written.
        """
        temporary = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as stream:
                stream.write(json.dumps(self.to_dict(), indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            raise CalibrationError(f"cannot write the calibration to {path}: {error}; choose another file") from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what save() wrote.

        Raises:
            CalibrationError: no such file, no JSON, another schema version, missing or unknown keys, or a threshold
                that measure() would have refused.
        """
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise CalibrationError(
                f"calibration {path} cannot be read ({error.strerror}); measure one with `flexor run --calibrate`"
            ) from error
        except ValueError as error:
            raise CalibrationError(f"calibration {path} is not JSON: {error}; measure it again") from error
        try:
            return _from_dict(data)
        except (CalibrationError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CalibrationError(f"calibration {path} cannot be used: {error}; measure it again") from error


def _from_dict(data: Mapping[str, Any]) -> Calibration:
    known = ["schema_version", *(entry.name for entry in fields(Calibration)), "primary"]
    if data.get("schema_version") != SCHEMA_VERSION:
        raise CalibrationError(f"its schema_version is {data.get('schema_version')!r}, this flexor reads 1")
    if data.get("primary") != PRIMARY or set(data) != set(known):
        raise CalibrationError(f"its keys are {sorted(data)} with primary {data.get('primary')!r}; expected {known}")
    thresholds = {score: _threshold(score, entry) for score, entry in data["thresholds"].items()}
    if PRIMARY not in thresholds:
        raise CalibrationError(f"it has no threshold of {PRIMARY}")
    return Calibration(
        Scoring(**data["scoring"]),
        float(data["alpha"]),
        tuple(data["tasks"]),
        tuple(data["episodes"]),
        thresholds,
        dict(data["refused"]),
        str(data["created"]),
    )


def _threshold(score: str, entry: Mapping[str, Any]) -> Threshold:
    found = Threshold(**entry)
    positive = found.sigma if SIGNED[score] else found.tau
    if not isinstance(positive, float) or not positive > 0.0 or (found.sigma is None) is SIGNED[score]:
        raise CalibrationError(f"the threshold of {score} is {dict(entry)}, which no good episodes give")
    return found
