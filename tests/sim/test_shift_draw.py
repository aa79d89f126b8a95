"""What a shift comes to in an episode: each axis by itself, within its spread, and in the sentence that is said."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from flexor.sim.layout import draw_layout
from flexor.sim.scenes import SCENES, Scene
from flexor.sim.sentences import instruction, split, spoken, wordings
from flexor.sim.shift import Shift
from flexor.sim.shift_draw import ShiftDraw, draw_shift
from flexor.sim.shift_table import AXES, DIALS
from flexor.sim.tasks import TASKS


def drawn(shift: Shift, scene: Scene, seed: int) -> ShiftDraw:
    return draw_shift(shift, scene, seed, draw_layout(scene, seed))


def test_every_dial_belongs_to_the_draw_and_is_at_rest_by_default() -> None:
    rest = ShiftDraw()
    for dial in DIALS:
        assert not np.any(getattr(rest, dial.name)), dial.name
    derived = {"places", "pick"}
    assert {field.name for field in fields(ShiftDraw)} == {dial.name for dial in DIALS} | derived


@pytest.mark.parametrize("name", SCENES)
def test_an_axis_alone_is_drawn_as_together_with_all_others(name: str) -> None:
    whole = drawn(Shift("medium"), SCENES[name], 7)
    for axis in AXES:
        alone = drawn(Shift("medium", (axis,)), SCENES[name], 7)
        for dial in DIALS:
            expected = whole if dial.axis == axis else ShiftDraw()
            assert getattr(alone, dial.name) == getattr(expected, dial.name)
        assert alone.places == (whole.places if axis == "distractors" else ())
        assert alone.pick == (whole.pick if axis == "paraphrase" else 0.0)


def test_draws_differ_by_seed_and_stay_within_the_spread_around_the_fixed_part() -> None:
    scene = SCENES["blocks"]
    draws = [drawn(Shift("high"), scene, seed) for seed in range(60)]
    for dial in DIALS:
        fixed, spread = (np.asarray(part) for part in dial.high)
        values = np.array([getattr(draw, dial.name) for draw in draws])
        assert np.all(np.abs(values - fixed) <= spread + 1e-12)
        if np.any(spread):
            assert np.all(np.ptp(values, axis=0) > 1.5 * spread)  # of at most 2, over 60 draws


@pytest.mark.parametrize("name", TASKS)
def test_every_wording_is_short_unambiguous_and_as_foreign_as_its_kind(name: str) -> None:
    task = TASKS[name]
    trained = {word for other in TASKS.values() for line in split(other)["train"] for word in line.split()}
    lines = wordings(task)
    for line in (line for kind in lines.values() for line in kind):
        assert len(line.split()) <= 20
        for item in (task.item, task.target):
            colour = item.split("_")[0]
            assert colour in ("plate", "box", "teal") or colour in line.split()  # there is one of each of these only
    others = [other for other in TASKS.values() if other.scene == task.scene and other != task]
    rivals = {line for other in others for kind in wordings(other).values() for line in kind}
    assert not rivals & {line for kind in lines.values() for line in kind}
    foreign = {kind: min(len(set(line.split()) - trained) for line in said) for kind, said in lines.items()}
    assert foreign["held_out"] == 0 < foreign["reworded"] < foreign["free"]


def test_the_share_of_each_wording_is_the_one_of_the_table() -> None:
    task = TASKS["red_block_in_box"]
    kinds = wordings(task)
    said = [spoken(task, ShiftDraw(wording=(0.2, 0.3, 0.1), pick=pick)) for pick in np.linspace(0, 0.999, 1000)]
    shares = {kind: np.mean([line in lines for line in said]) for kind, lines in kinds.items()}
    assert shares == pytest.approx({"held_out": 0.2, "reworded": 0.3, "free": 0.1}, abs=0.005)
    assert np.mean([line == instruction(task) for line in said]) == pytest.approx(0.4, abs=0.005)
    assert {line for line in said if line in kinds["reworded"]} == set(kinds["reworded"])
