"""A campaign file becomes cells, commands and pairs; what cannot be is refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from flexor.cli.main import app
from flexor.errors import FlexorError
from flexor.flywheel.campaign.cells import Campaign, load_campaign
from flexor.flywheel.campaign.kinds import KINDS
from flexor.settings import SettingsError

CAMPAIGNS = Path(__file__).parents[3] / "configs" / "campaigns"


def campaign(folder: Path, text: str) -> Campaign:
    file = folder / "some.yaml"
    file.write_text(text)
    return load_campaign(file)


SHIFTED = """
slice: 80
cells:
  - name: shift
    kind: eval
    options: {bundle: pi05-nano, episodes: 200, seed: 5000, workers: 2, entropy: false}
    matrix: {delay: [0, 1], splice: [prefix, replan]}
    baseline: {splice: replan}
"""


def test_a_matrix_becomes_the_product_of_its_values(tmp_path: Path):
    some = campaign(tmp_path, SHIFTED)
    assert some.name == "some"
    assert [cell.name for cell in some.cells] == [
        "shift/delay=0/splice=prefix",
        "shift/delay=0/splice=replan",
        "shift/delay=1/splice=prefix",
        "shift/delay=1/splice=replan",
    ]


def test_each_cell_is_paired_with_the_one_that_differs_in_the_baseline_alone(tmp_path: Path):
    pairs = [(arm.name, baseline.name) for arm, baseline in campaign(tmp_path, SHIFTED).pairs]
    assert pairs == [
        ("shift/delay=0/splice=prefix", "shift/delay=0/splice=replan"),
        ("shift/delay=1/splice=prefix", "shift/delay=1/splice=replan"),
    ]


def test_a_baseline_may_be_a_cell_of_another_group(tmp_path: Path):
    text = """
cells:
  - {name: plain, kind: oracle, options: {episodes: 2, seed: 5000}}
  - name: axis
    kind: oracle
    options: {episodes: 2, seed: 5000, shift: high}
    matrix: {shift_axes: [light, friction]}
    baseline: plain
"""
    pairs = [(arm.name, baseline.name) for arm, baseline in campaign(tmp_path, text).pairs]
    assert pairs == [("axis/shift_axes=light", "plain"), ("axis/shift_axes=friction", "plain")]
    with pytest.raises(FlexorError, match="baseline 'plan' of 'axis' names no cell"):
        campaign(tmp_path, text.replace("baseline: plain", "baseline: plan"))


def test_the_slices_cover_the_episodes_and_each_is_what_a_user_would_type(tmp_path: Path):
    cell = campaign(tmp_path, SHIFTED).cells[3]
    assert cell.slices() == [range(0, 80), range(80, 160), range(160, 200)]
    expected = "eval pi05-nano --episodes 160 --seed 5000 --workers 2 --no-entropy --delay 1 --splice replan --skip 80"
    assert " ".join(cell.command(range(80, 160))) == expected
    assert "--skip" not in cell.command(range(0, 80))


def test_without_slices_a_cell_is_one_call(tmp_path: Path):
    (cell,) = campaign(tmp_path, "cells: [{name: a, kind: oracle, options: {seed: 7, episodes: 300}}]").cells
    assert cell.slices() == [range(300)]
    assert cell.command(range(300)) == ["oracle", "--seed", "7", "--episodes", "300"]


def test_a_cell_without_episodes_is_one_call_with_its_options_as_they_are(tmp_path: Path):
    text = "cells: [{name: t, kind: bench latency, options: {bundle: pi05-nano, n: 50, image_size: 128}}]"
    (cell,) = campaign(tmp_path, text).cells
    assert cell.slices() == [range(0)]
    assert cell.command(range(0)) == ["bench", "latency", "pi05-nano", "--n", "50", "--image-size", "128"]


def test_an_option_of_null_is_left_out_and_true_is_a_flag(tmp_path: Path):
    options = "{bundle: b, seed: 0, episodes: 1}"
    text = f"cells: [{{name: a, kind: eval, options: {options}, matrix: {{shift: [null, x], y: [true]}}}}]"
    plain, shifted = campaign(tmp_path, text).cells
    assert plain.name == "a/shift=null/y=true"
    assert plain.command(range(1)) == ["eval", "b", "--seed", "0", "--episodes", "1", "--y"]
    assert shifted.command(range(1)) == ["eval", "b", "--seed", "0", "--episodes", "1", "--shift", "x", "--y"]
    assert plain.identity == {"seed": 0, "y": True}


def test_neither_workers_nor_more_episodes_nor_the_bundles_place_make_another_cell(tmp_path: Path):
    text = """
cells:
  - {name: a, kind: eval, options: {bundle: one, seed: 0, episodes: 1, workers: 1}}
  - {name: b, kind: eval, options: {bundle: two, seed: 0, episodes: 9, workers: 2}}
  - {name: c, kind: eval, options: {bundle: one, seed: 1, episodes: 1, workers: 1}}
"""
    a, b, c = campaign(tmp_path, text).cells
    assert a.identity == b.identity
    assert a.identity != c.identity  # episode 1 of a and episode 0 of c share a seed, but not their task


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("[{name: a, kind: evil}]", "kind 'evil'; expected one of: eval, oracle"),
        ("[{name: a, kind: oracle, options: {seed: 0}}]", "needs the option 'episodes', a whole number of 1 or more"),
        ("[{name: a, kind: oracle, options: {episodes: 4}}]", "needs the option 'seed', a whole number of 0 or more"),
        ("[{name: a, kind: oracle, options: {seed: 0, episodes: 0}}]", "'episodes', a whole number of 1 or more"),
        ("[{name: a, kind: eval, options: {seed: 0, episodes: 1}}]", "needs the option 'bundle'"),
        ("[{name: a, kind: oracle, options: {seed: 0}, matrix: {seed: [1]}}]", "'seed' in options and in matrix"),
        (
            "[{name: a, kind: oracle, options: {seed: 0, episodes: 1}}, "
            "{name: a, kind: oracle, options: {seed: 1, episodes: 1}}]",
            "two cells 'a'",
        ),
        (
            "[{name: a, kind: oracle, options: {seed: 0, episodes: 1}, matrix: {x: [1, 2]}, baseline: {x: 3}}]",
            "baseline {'x': 3} of 'a' names no cell to compare 'a/x=1' with",
        ),
        (
            "[{name: a, kind: bench latency, options: {bundle: b}, matrix: {n: [1, 2]}, baseline: {n: 1}}]",
            "not both play episodes",
        ),
    ],
)
def test_a_cell_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, cells: str, message: str):
    with pytest.raises(FlexorError, match=message):
        campaign(tmp_path, f"cells: {cells}")


@pytest.mark.parametrize(
    "text",
    ["cells: []", "cells: [{name: A b, kind: oracle}]", "cels: []", "slice: 0\ncells: [{name: a, kind: oracle}]"],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str):
    with pytest.raises(SettingsError):
        campaign(tmp_path, text)


@pytest.mark.parametrize("file", sorted(CAMPAIGNS.glob("*.yaml")), ids=lambda file: file.name)
def test_the_options_of_a_campaign_that_ships_are_options_of_its_commands(file: Path):
    commands = typer.main.get_command(app)
    for cell in load_campaign(file).cells:
        command, context = commands, typer.Context(commands)
        for word in cell.kind.name.split():
            _, command, _ = command.resolve_command(context, [word])  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in cell.command(cell.slices()[-1]):
            assert not word.startswith("--") or word in known, f"{cell.name}: flexor {cell.kind.name} has no {word}"


def test_every_kind_that_plays_can_be_called_in_slices_and_its_json_asked_for():
    commands = typer.main.get_command(app)
    for kind in KINDS.values():
        command, context = commands, typer.Context(commands)
        for word in kind.name.split():
            _, command, _ = command.resolve_command(context, [word])  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", *(("--seed", "--episodes", "--skip") if kind.plays else ())} <= known, kind.name
