"""LIBERO in a shift: what is drawn for an episode, and the words of it; no simulator is built."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import fields
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from libero_here import needs_libero
from libero_shifts import libero

from flexor.pi05.prompt import build_prompt
from flexor.runtime.inference.bundle import Bundle
from flexor.sim.libero.shift.draw import LiberoDraw, draw_libero_shift, wordings
from flexor.sim.libero.shift.table import BLURS, LIBERO_AXES, LIBERO_DIALS
from flexor.sim.libero.suites import SUITES, find_suite
from flexor.sim.shift import LIBERO, LIBERO_SHIFT_HASH, NONE, Shift, ShiftError, table_hash
from flexor.sim.shift_table import LEVELS, markdown

pytestmark = [needs_libero, pytest.mark.timeout(600)]

DOCS = Path(__file__).parents[3] / "docs" / "shift.md"
SHIFTED = LEVELS[1:]
DERIVED = {"distractors", "place_seed", "textures", "blur", "blur_seed", "pick", "sentence"}


def test_the_severities_and_the_table_in_the_docs_are_those_of_the_published_hash() -> None:
    assert table_hash(LIBERO) == LIBERO_SHIFT_HASH, "severities changed: write the new hash"
    assert markdown(LIBERO_DIALS) in DOCS.read_text(), f"docs/shift.md has another table\n{markdown(LIBERO_DIALS)}"
    assert LIBERO_SHIFT_HASH in DOCS.read_text()
    assert libero("low", "light").to_dict() == {"level": "low", "axes": ["light"], "hash": LIBERO_SHIFT_HASH}
    assert NONE.of(LIBERO).to_dict() == {"level": "none", "axes": [], "hash": LIBERO_SHIFT_HASH}


def test_a_shift_of_the_tabletop_means_the_same_axes_here_where_there_are_such() -> None:
    assert Shift("low").of(LIBERO) == libero("low")
    assert Shift("low", ("light",)).of(LIBERO) == libero("low", "light") == Shift.parse("low", "light", "libero_10")
    with pytest.raises(ShiftError, match=r"'object_size' of libero, expected some of: camera_pose, .*action_noise"):
        Shift("low", ("object_size",)).of(LIBERO)
    with pytest.raises(ShiftError, match=r"'mass' of tabletop"):
        Shift.parse("low", "mass")


def test_severity_grows_with_the_level() -> None:
    for dial in LIBERO_DIALS:
        if dial.name == "wording":
            continue
        reach = [np.abs(np.asarray(dial.amount(level)[0])) + np.asarray(dial.amount(level)[1]) for level in SHIFTED]
        assert all(np.all(less <= more) for less, more in pairwise(reach)), dial.name


def test_every_dial_belongs_to_the_draw_and_is_at_rest_by_default() -> None:
    task, rest = find_suite("libero_spatial").tasks[0], LiberoDraw()
    assert {field.name for field in fields(LiberoDraw)} == {dial.name for dial in LIBERO_DIALS} | DERIVED
    assert draw_libero_shift(NONE.of(LIBERO), task, 3) == draw_libero_shift(libero("none", "light"), task, 3) == rest


def test_an_axis_alone_is_drawn_as_together_with_all_others() -> None:
    task = find_suite("libero_10").tasks[2]
    whole = draw_libero_shift(libero("medium"), task, 7)
    for axis in LIBERO_AXES:
        alone = draw_libero_shift(libero("medium", axis), task, 7)
        for dial in LIBERO_DIALS:
            assert getattr(alone, dial.name) == getattr(whole if dial.axis == axis else LiberoDraw(), dial.name)
    assert draw_libero_shift(libero("medium", "texture"), task, 7).textures == whole.textures


def test_a_draw_follows_from_suite_task_and_seed_and_lies_within_the_spread() -> None:
    spatial, goal = find_suite("libero_spatial"), find_suite("libero_goal")
    first = draw_libero_shift(libero("high"), spatial.tasks[0], 5)
    assert first == draw_libero_shift(libero("high"), spatial.tasks[0], 5)
    others = [(spatial.tasks[0], 6), (spatial.tasks[1], 5), (goal.tasks[0], 5)]
    assert all(draw_libero_shift(libero("high"), task, seed).azimuth != first.azimuth for task, seed in others)
    draws = [draw_libero_shift(libero("high"), spatial.tasks[0], seed) for seed in range(60)]
    for dial in LIBERO_DIALS:
        fixed, spread = (np.asarray(part) for part in dial.high)
        drawn = [getattr(draw, dial.name) for draw in draws]
        values = np.array([list(value.values()) for value in drawn] if dial.each_item else drawn)
        assert np.all(np.abs(values - fixed) <= spread + 1e-12), dial.name
        if np.any(spread):
            assert np.all(np.ptp(values, axis=0) > 1.4 * spread), dial.name
    assert {draw.blur for draw in draws} == set(BLURS)


@pytest.mark.parametrize("suite", SUITES)
def test_other_wordings_keep_the_tasks_of_a_suite_apart(suite: str) -> None:
    said: dict[str, set[str]] = {}
    for task in find_suite(suite).tasks:
        kinds = wordings(task.sentence)
        lines = {line for kind in kinds.values() for line in kind}
        for sentence, theirs in said.items():
            assert sentence == task.sentence or not theirs & lines
        said[task.sentence] = lines
        assert task.sentence not in lines
        assert len(kinds["reworded"]) == len(kinds["free"]) >= 4


@pytest.mark.parametrize("suite", SUITES)
def test_every_way_to_say_a_task_fits_into_the_prompt_of_the_policy_that_ships(suite: str) -> None:
    tokenizer = Bundle.open("pi05-nano-libero").tokenizer()  # which refuses a longer one
    for task in find_suite(suite).tasks:
        for said in (task.sentence, *chain(*wordings(task.sentence).values())):
            tokenizer.encode(build_prompt(said, [255] * 8))


def test_a_dry_run_tells_what_the_episodes_will_be_and_builds_no_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    from flexor.cli.shift_view import preview
    from flexor.sim.libero.stage import Stage

    monkeypatch.setattr(Stage, "__init__", None)
    shift, tasks = libero("medium", "texture", "paraphrase"), find_suite("libero_goal").tasks
    rows = preview(shift, "sim:libero_goal", ["3", "0"], 2, 100, 1, each=True)
    drawn = [draw_libero_shift(shift, tasks[number], seed) for number, seed in ((3, 101), (0, 100), (0, 101))]
    assert [row["episode"] for row in rows] == [1, 2, 3]
    assert [row["sentence"] for row in rows] == [draw.sentence for draw in drawn]
    assert [row["drawn"] for row in rows] == [draw.to_dict() for draw in drawn]
    assert len(preview(shift, "sim:libero_goal", [], 13, 0, 0)) == 13
