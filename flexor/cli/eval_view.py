"""What `flexor eval` settles for a LIBERO suite before it plays, and how it tells its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexor.flywheel.lockstep import Manner
    from flexor.sim.libero.protocol import LiberoSettings


@dataclass(frozen=True, slots=True)
class LiberoTerms:
    """The terms of an evaluation: the suite by its own name, its tasks, episodes of each, the robot's, the policy's."""

    suite: str
    tasks: list[str]
    trials: int
    settings: LiberoSettings
    manner: Manner


def libero_terms(
    sim: str, bundles: Sequence[str], tasks: Sequence[str], protocol: str | None, render: str | None, *, sampled: bool
) -> LiberoTerms:
    """
    Args:
        tasks: names or numbers; none at all means every task of the suite.
        render: None takes what the bundles' origins say under "render": what their training has seen.
        sampled: placements by seed in place of the official initial states.

    Raises:
        FlexorError: an unknown protocol, way to render or task, a bundle that cannot be opened, or bundles that were
            trained on different frames.
    """
    from flexor.flywheel.lockstep import Manner
    from flexor.runtime.driving.guard import GuardSettings
    from flexor.sim.libero.protocol import LiberoSettings, find_protocol
    from flexor.sim.libero.suites import find_suite

    chosen = find_protocol(protocol or "openpi")
    settings = LiberoSettings(chosen.name, render or _trained_on(bundles), "sampled" if sampled else "official")
    # The protocols play every action as it is: no limit but the controller's own.
    manner = Manner(chosen.replan, GuardSettings(max_speed=float("inf")))
    suite = find_suite(sim)
    named = [suite.find(task) for task in tasks] or suite.tasks
    return LiberoTerms(suite.name, [task.name for task in named], chosen.trials, settings, manner)


def _trained_on(bundles: Sequence[str]) -> str:
    from flexor.errors import FlexorError
    from flexor.runtime.inference.bundle import Bundle

    frames = {bundle: str(Bundle.open(bundle).config.origin.get("render") or "official") for bundle in bundles}
    if len(set(frames.values())) > 1:
        told = ", ".join(f"{bundle} on {name} ones" for bundle, name in frames.items())
        raise FlexorError(f"the bundles were trained on different frames: {told}; choose one with --render")
    return frames[bundles[0]]


def print_evaluation(result: Mapping[str, Any]) -> None:
    """A row a task and one for all, then what went wrong."""
    from flexor.cli.report import console, table

    rows = [(row["task"], *_cells(row)) for row in result["tasks"]] + [("all", *_cells(result))]
    terms = [result["precision"]] + ([f"shift {result['shift']['level']}"] if "shift" in result else [])
    if "protocol" in result:
        terms += [f"{result['protocol']}'s protocol", f"{result['starts']} starts", f"{result['render']} frames"]
    if result.get("reduced_assets"):
        terms.append("reduced assets")
    title = f"{result['bundle']} in {result['sim'].removeprefix('sim:')}, {', '.join(terms)}"
    table(title, ("task", "success", "rate", "95 %", "entropy, bits"), rows)
    if result["failure_labels"]:
        failures = ", ".join(f"{label} {count}" for label, count in result["failure_labels"].items())
        console.print(f"failures by label: {failures}")
    for row in result["rows"]:
        if row["fault"] is not None:
            console.print(f"failed by a fault, seed {row['seed']}: {row['fault']}", highlight=False, markup=False)
    for death in result["worker_deaths"]:
        console.print(f"played again: {death}", highlight=False, markup=False)
    if "original" in result:
        original = result["original"]
        low, high = original["ci95"]
        console.print(
            f"the original task, not asked for, was solved in {original['successes']} of {original['episodes']}"
            f" episodes ({low:.3f}-{high:.3f})"
        )
    if result["rows_file"] is not None:
        console.print(f"episodes kept in {result['rows_file']}", highlight=False, markup=False, soft_wrap=True)


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    low, high = row["ci95"]
    interval = "" if low is None else f"{low:.3f}-{high:.3f}"
    return f"{row['successes']} of {row['episodes']}", row["success_rate"], interval, row["entropy_bits_mean"]
