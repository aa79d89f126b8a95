"""Settings: defaults, then the file, then the command line; what nobody knows is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexor.settings import SettingsError, known_keys, load_settings


class Limits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    velocity: float = Field(default=1.0, gt=0)
    hold_s: float = 2.0


class Example(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    hz: float = 20.0
    cameras: tuple[str, ...] = ("agentview",)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _has_a_camera(self) -> Example:
        if not self.cameras:
            raise ValueError("cameras is empty; name at least one")
        return self


def written(folder: Path, text: str) -> Path:
    path = folder / "example.yaml"
    path.write_text(text)
    return path


def test_without_file_and_overrides_the_defaults_hold():
    assert load_settings(Example) == Example()


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path):
    path = written(tmp_path, "hz: 10\nlimits:\n  velocity: 0.5\n  hold_s: 3\n")
    settings = load_settings(Example, path, ["limits.velocity=0.25", "cameras=[agentview,wrist]"])
    assert settings == Example(hz=10, cameras=("agentview", "wrist"), limits=Limits(velocity=0.25, hold_s=3))


def test_an_empty_file_changes_nothing(tmp_path: Path):
    assert load_settings(Example, written(tmp_path, "")) == Example()


def test_an_unknown_key_in_a_file_is_named_with_its_file_and_the_closest_known_key(tmp_path: Path):
    path = written(tmp_path, "limits:\n  velocty: 0.5\n")
    with pytest.raises(SettingsError) as failure:
        load_settings(Example, path)
    assert str(failure.value) == f"unknown setting 'limits.velocty' in {path}: did you mean 'limits.velocity'?"


def test_an_unknown_key_on_the_command_line_is_named_as_such(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"unknown setting 'xyzzy' on the command line: known keys: hz, cameras, "):
        load_settings(Example, written(tmp_path, "hz: 10\n"), ["xyzzy=1"])


def test_every_problem_is_told_at_once():
    with pytest.raises(SettingsError) as failure:
        load_settings(Example, None, ["hzz=1", "limits.velocity=-1"])
    assert "'hzz'" in str(failure.value)
    assert "'limits.velocity' on the command line has the value -1" in str(failure.value)


def test_a_value_of_the_wrong_type_names_key_and_value():
    with pytest.raises(SettingsError, match=r"'hz' on the command line has the value 'fast'.*number"):
        load_settings(Example, None, ["hz=fast"])


def test_settings_that_do_not_fit_together_say_why():
    with pytest.raises(SettingsError, match=r"Example do not fit together: cameras is empty; name at least one"):
        load_settings(Example, None, ["cameras=[]"])


@pytest.mark.parametrize("override", ["hz", "=1", ""])
def test_an_override_without_key_and_value_is_refused(override: str):
    with pytest.raises(SettingsError, match="key=value"):
        load_settings(Example, None, [override])


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "- 1\n- 2\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=str(path)):
        load_settings(Example, path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml does not exist"):
        load_settings(Example, tmp_path / "nowhere.yaml")


def test_an_interpolation_without_target_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot be resolved"):
        load_settings(Example, written(tmp_path, "hz: ${nowhere}\n"))


def test_known_keys_are_dotted():
    assert known_keys(Example) == ["hz", "cameras", "limits", "limits.velocity", "limits.hold_s"]


def test_of_several_files_the_later_wins_and_a_problem_names_the_one_it_stands_in(tmp_path: Path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("limits:\n  velocity: 0.5\nhz: 10\n")
    second.write_text("hz: 5\n")
    assert load_settings(Example, [first, second]) == Example(hz=5, limits=Limits(velocity=0.5))
    second.write_text("hx: 5\n")
    with pytest.raises(SettingsError, match=rf"'hx' in {second}"):
        load_settings(Example, [first, second])
