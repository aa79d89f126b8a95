"""Distractors stand clear of everything that a task needs, and are gone when they are not asked for."""

# mujoco's compiled module has no stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pytest

from flexor.sim.distractors import PREFIX, THINGS, height
from flexor.sim.layout import LANE_BEHIND, LANE_HALF, distance_to_way, draw_layout
from flexor.sim.scenes import SCENES
from flexor.sim.shift import Shift
from flexor.sim.shift_draw import draw_shift
from flexor.sim.shift_table import DIALS
from flexor.sim.world import World


@pytest.mark.parametrize("name", SCENES)
def test_distractors_stand_clear_of_items_and_lanes_and_below_what_is_carried(name: str) -> None:
    scene = SCENES[name]
    counts = []
    for seed in range(40):
        layout = draw_layout(scene, seed)
        places = draw_shift(Shift("high"), scene, seed, layout).places
        counts.append(len(places))
        assert len({place.thing for place in places}) == len(places)
        for place in places:
            spot, thing = np.array([place.x, place.y]), THINGS[place.thing]
            assert 2 * height(thing) < 0.05
            for item in scene.items:
                room = np.linalg.norm(spot - layout.poses[item.name][:2]) - item.footprint - thing.radius
                assert room > 0.03
            for pushed, goal in scene.lanes:
                start, end = (np.array(layout.poses[item][:2]) for item in (pushed, goal))
                behind = start - LANE_BEHIND * (end - start) / np.linalg.norm(end - start)
                assert distance_to_way(spot, behind, end) >= LANE_HALF + thing.radius
    asked = dict((dial.name, dial.high) for dial in DIALS)["things"][0]
    assert np.mean(counts) > 0.8 * float(np.asarray(asked))


def test_distractors_that_are_not_there_are_neither_seen_nor_felt() -> None:
    world = World(SCENES["blocks"], Shift("low", ("distractors",)))
    world.reset(1)
    (place,) = world.drawn.places
    shown = [i for i in range(len(THINGS)) if world.model.geom(f"{PREFIX}{i}").rgba[3] > 0]
    assert shown == [place.thing]
    for index in set(range(len(THINGS))) - {place.thing}:
        assert world.data.body(f"{PREFIX}{index}").xpos[2] < -1.0
