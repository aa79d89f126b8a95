"""Every key of configs/libero.yaml, pi05.yaml and continual.yaml reaches what it sets; here, or where it is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from exported_bundles import write_micro
from online_episodes import episode_row
from recordings import record

from flexor.errors import FlexorError
from flexor.flywheel.online import learner_process, wheel
from flexor.flywheel.online.loop_world import LoopWorld
from flexor.flywheel.online.offering import SHADOW_EPISODES, Offering
from flexor.flywheel.online.settings import OnlineSettings
from flexor.flywheel.online.stages import LoopStopped
from flexor.flywheel.online.watcher import Watcher
from flexor.flywheel.online.wheel import Wheel
from flexor.runtime.inference.bundle import Bundle
from flexor.settings import load_settings
from flexor.sim.shift import NONE

TESTS = Path(__file__).parents[1]
CONFIGS = TESTS.parent / "configs"
TRIGGERS, LOOP_TRIGGERS = "flywheel/test_triggers.py", "flywheel/test_loop_triggers.py"
REPLAY, DAEMON = "learner/test_replay_keys.py", "learner/lora/test_daemon_keys.py"
ELSEWHERE = {
    "thresholds.success_rate.trigger_threshold": (TRIGGERS, "exactly_the_threshold_does_not_fire"),
    "thresholds.success_rate.window": (TRIGGERS, "without_any_change_it_fires_again_after_a_whole_window"),
    "thresholds.success_rate.hysteresis": (TRIGGERS, "it_is_armed_again_by_recovery"),
    "thresholds.success_rate.min_fill": (LOOP_TRIGGERS, "a_loop_that_nothing_can_ask_to_learn_is_refused"),
    "thresholds.entropy.trigger_threshold": (LOOP_TRIGGERS, "a_threshold_that_no_score_passes_is_refused"),
    "thresholds.entropy.unit": (TRIGGERS, "raw_bits_flag_only_where_that_was_asked_for"),
    "thresholds.entropy.samples": (TRIGGERS, "what_can_never_fire_is_refused_with_the_way_out"),
    "thresholds.consecutive_failures.trigger_threshold": (LOOP_TRIGGERS, "a_period_in_steps_ends"),
    "publish.every": (TRIGGERS, "a_period_is_counted_from_the_first_look"),
    "patience": ("flywheel/test_online_wheel.py", "a_learner_that_never_improves_is_told_so"),
    "calibration": (LOOP_TRIGGERS, "a_calibration_of_the_bundle_lets_episodes_be_flagged"),
    "learner.init": ("learner/lora/test_daemon.py", "too_few_or_nothing_new_is_not_due"),
    "learner.poll_s": (DAEMON, "poll_s_is_waited_between_two_looks"),
    "replay.per_task": (DAEMON, "per_task_and_the_seed_of_replay"),
    **{
        f"replay.{key}": (REPLAY, "a_key_changes_what_it_is_said_to_change")
        for key in (
            "seed",
            "successes",
            "floor",
            "half_life",
            "used_factor",
            "exponent",
            "alpha",
            "window",
            "share_low",
            "share_high",
        )
    },
    "replay.failures": ("learner/lora/test_daemon.py", "settings_that_a_daemon_could_not_keep_are_refused"),
}
"""By key: where another value of it is shown to change what is done."""
HERE = {
    *("task", "tasks", "domain_shift.current_level", "domain_shift.axes", "model.bundle", "model.load_in_8bit"),
    *(
        "learning",
        "reserve",
        "learn_timeout_s",
        "collect.episodes",
        "collect.correct",
        "collect.advise",
        "collect.practise",
        "gate.shifted",
        "gate.unshifted",
        "gate.margin",
    ),
    *("offer.episodes", "offer.velocity", "offer.timeout_s"),
    *("measure.episodes", "measure.after", "measure.unshifted", "measure.workers"),
}
QUIET = Watcher(lambda stage: None, lambda line: None, lambda row: None)
SHIFTED = "domain_shift.current_level=high"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_micro(tmp_path_factory.mktemp("bundle") / "micro")


@pytest.fixture
def turned(bundle: Bundle, tmp_path: Path) -> Callable[..., Wheel]:
    """turned(*settings) -> a wheel of that bundle; what it measures and records is told, and not done."""

    def make(*said: str) -> Wheel:
        chosen = load_settings(OnlineSettings, None, [f"model.bundle={bundle.path}", SHIFTED, *said])
        return Wheel(tmp_path, 1, 0, chosen, QUIET)

    return make


def test_the_world_is_that_of_task_tasks_level_and_axes(bundle: Bundle) -> None:
    def world(*said: str) -> LoopWorld:
        return LoopWorld.of(load_settings(OnlineSettings, None, [*said, "reserve=0"]), bundle)

    usual = world()
    assert (usual.sim, usual.tasks) == ("sim:tabletop", ())
    assert world("task=libero_goal").sim == "sim:libero_goal"
    assert world("domain_shift.current_level=low").shift != usual.shift
    axes = world("domain_shift.axes=light").shift
    assert axes != usual.shift and axes.level == usual.shift.level
    some = world("tasks=[a,b]")
    assert [usual.task_of(seed, ("x", "y", "z")) for seed in range(3)] == ["x", "y", "z"]
    assert [some.task_of(seed, ("a", "b", "z")) for seed in range(3)] == ["a", "b", "a"]


def test_the_server_serves_that_bundle_in_that_precision_with_that_trial(turned: Any, bundle: Bundle) -> None:
    assert turned().world["bundle_hash"] == bundle.hash

    def served(*said: str) -> str:
        return " ".join(load_settings(OnlineSettings, None, list(said)).serve_arguments(Path("adapters")))

    assert ("--8bit" in served(), "--8bit" in served("model.load_in_8bit=true")) == (False, True)
    assert "adapters.canary_episodes=6" in served("offer.episodes=6")
    assert "adapters.canary_velocity=0.5" in served("offer.velocity=0.5")
    assert "adapters.rank=96 adapters.alpha=96" in served()
    assert "adapters.rank=4 adapters.alpha=16" in served("lora.r=4", "lora.lora_alpha=16")


def test_each_loop_learns_and_replays_by_a_seed_of_its_own() -> None:
    settings = load_settings(OnlineSettings, None, ["lora.seed=30", "replay.seed=50"])
    assert [(made.seed, made.replay.seed) for made in map(settings.continual, (0, 2))] == [(30, 50), (32, 52)]


@pytest.mark.parametrize(("advise", "learned"), [("true", False), ("false", True)])
def test_plain_successes_of_a_trial_are_learned_from_where_nobody_advises(advise: str, learned: bool) -> None:
    settings = load_settings(OnlineSettings, None, [f"collect.advise={advise}"])
    assert settings.continual(0).replay.successes is learned


def test_a_control_leaves_out_what_learns(turned: Any) -> None:
    verbs = [{stage.verb for stage in turned(f"learning={word}").stages()} for word in ("true", "false")]
    assert verbs[0] - verbs[1] == {"reserve", "learn", "gate", "offer"}


def test_as_many_demonstrations_are_kept_in_reserve_by_as_many_workers(
    turned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(wheel, "collect", lambda *given, **more: recorded.append(given))
    for said in (("reserve=7", "measure.workers=3"), ("reserve=0",)):
        turned(*said)._reserve(0)
    ((_, _, count, _, workers, *_),) = recorded
    assert (count, workers) == (7, 3)


def test_a_cycle_collects_so_many_episodes_corrected_and_advised_where_that_is_wanted(
    turned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for correct, advise in ((True, False), (False, True)):
        made = turned("collect.episodes=4", f"collect.correct={correct}", f"collect.advise={advise}")
        played: list[tuple[bool, ...]] = []
        monkeypatch.setattr(made, "_robot_side", lambda: SimpleNamespace(tasks=("a", "b")))
        monkeypatch.setattr(made, "_look", lambda: None)
        monkeypatch.setattr(made._triggers, "standing", lambda active: {"success_rate"})
        monkeypatch.setattr(made, "_play", lambda robot, seed, task, *helped, played=played: played.append(helped))
        made._collect(1)
        assert played == [(correct, advise)] * 4


def test_some_episodes_of_a_cycle_practise_what_fails(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = ("a", "b", "c")
    rows = [episode_row(number, task="b", outcome="failure", adapter="base") for number in range(60)]
    rows += [episode_row(number, task=task, adapter="base") for number in range(60) for task in "ac"]

    def asked(share: float) -> list[str]:
        made = turned(f"collect.practise={share}")
        monkeypatch.setattr(made, "_robot_side", lambda: SimpleNamespace(tasks=tasks))
        monkeypatch.setattr(made, "_rows", lambda: rows)
        return [made._practised(seed) for seed in range(60)]

    assert asked(0.0) == [*tasks] * 20
    assert 54 <= asked(1.0).count("b") < 60  # (60 + 1) / (60 + 2) beside 1 / 62 of each of the others: 97 % of 60
    assert 30 <= asked(0.5).count("b") < 54


def test_the_learner_is_given_so_long(turned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until: list[float] = []

    def run_command(arguments: Any, until_s: float, watch: Any) -> Any:
        until.append(until_s)
        return SimpleNamespace(result=None, error="its time was up")

    record(tmp_path / "episodes", episodes=2, steps=2, size=8)  # else there is nothing to learn from
    made = turned("learn_timeout_s=7", "lora.held_out=1e-9", "collect.advise=false")
    monkeypatch.setattr(made, "_row", lambda cycle, verb: {"learn": True})
    monkeypatch.setattr(made, "_robot_side", lambda: SimpleNamespace(server=SimpleNamespace(address="ipc:///nowhere")))
    monkeypatch.setattr(learner_process, "run_command", run_command)
    monkeypatch.setattr(learner_process.time, "monotonic", lambda: 100.0)
    with made, pytest.raises(FlexorError, match="its time was up"):
        made._learn(1)
    assert until == [107.0]


class Pair(SimpleNamespace):
    def to_dict(self) -> dict[str, Any]:
        return vars(self)


def test_the_gate_plays_so_many_episodes_and_lets_through_what_is_not_worse_by_more(
    turned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gate(*said: str) -> tuple[list[tuple[int, bool]], bool]:
        made, asked = turned(*said), []

        def pair(parent: str, adapter: str, episodes: int, seed: int, shift: Any) -> Pair:
            asked.append((episodes, shift == NONE))
            return Pair(difference=-0.04, high=0.1)

        monkeypatch.setattr(made._measuring, "pair", pair)
        monkeypatch.setattr(made, "_row", lambda cycle, verb: {"adapter": "1-0123456789ab"})
        return asked, made._gate(1)["passed"]

    assert gate() == ([(100, False), (100, True)], True)
    assert gate("gate.shifted=12", "gate.unshifted=8", "gate.margin=3") == ([(12, False), (8, True)], False)
    assert gate("gate.shifted=12", "gate.unshifted=0")[0] == [(12, False)]


def test_as_many_episodes_are_measured_as_that(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = turned("measure.episodes=3", "measure.after=5", "measure.unshifted=7")
    asked: list[tuple[int, bool]] = []
    figures: dict[str, Any] = dict.fromkeys((*wheel.FIGURES, "failure_labels"), 0)

    def play(adapter: str, episodes: int, seed: int, shift: Any) -> dict[str, Any]:
        asked.append((episodes, shift == NONE))
        return figures

    monkeypatch.setattr(made._measuring, "play", play)
    monkeypatch.setattr(made._measuring, "compared", play)
    for verb in ("measure", "after", "unshifted"):
        getattr(made, f"_{verb}")(2)
    assert asked == [(3, False), (5, False), (7, True)]


def test_measuring_has_so_many_workers(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(wheel, "Measuring", lambda *all_of: given.append(all_of))
    turned("measure.workers=5")
    assert given[0][4] == 5


def test_a_server_that_never_decides_is_waited_for_so_long(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Offering, "_row", lambda self, adapter: {"state": "CANARY", "half_a_pair": False})
    monkeypatch.setattr("flexor.flywheel.online.offering.told", lambda result: "")

    def offered(timeout_s: float) -> int:
        played: list[int] = []
        robot: Any = SimpleNamespace(play=lambda seed, task, correcting: played.append(seed) or "played")
        settings = load_settings(OnlineSettings, None, ["offer.episodes=2", f"offer.timeout_s={timeout_s}"]).offer
        offering = Offering(robot, settings, lambda seed: "task", lambda line: None, lambda: len(played) >= 50)
        try:
            offering.make("1-0123456789ab", range(2))
        except LoopStopped:
            return len(played)
        except FlexorError as error:
            assert "is still CANARY" in str(error)
        return len(played)

    assert offered(1e-9) == 2 + SHADOW_EPISODES
    assert offered(1e9) == 50


def keys(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in tree.items():
        found += keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


@pytest.mark.parametrize("name", ["libero", "pi05", "continual"])
def test_each_key_of_a_file_is_proven_somewhere(name: str) -> None:
    missing = set(keys(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))) - HERE - set(ELSEWHERE)
    assert not missing, f"no test shows what another value of {sorted(missing)} changes"


@pytest.mark.parametrize("key", ELSEWHERE)
def test_what_is_said_to_prove_a_key_is_there(key: str) -> None:
    file, name = ELSEWHERE[key]
    assert re.search(rf"^def test_{name}", (TESTS / file).read_text(), re.MULTILINE)
