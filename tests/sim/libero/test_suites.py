"""LIBERO's suites, protocols and resizing: the benchmark's own tables and numbers."""

from __future__ import annotations

import numpy as np
import pytest
from libero_here import needs_libero

from flexor.sim.libero.protocol import PROTOCOLS, ProtocolError, find_protocol
from flexor.sim.libero.suites import SUITES, SuiteError, find_suite, is_suite, official_starts

LIMITS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}


@needs_libero
@pytest.mark.parametrize("name", SUITES)
def test_names_order_sentences_and_files_are_those_of_the_benchmark_itself(name: str):
    from flexor.sim.libero.assets import prepare

    prepare()
    from libero.libero.benchmark import get_benchmark  # pyright: ignore[reportMissingImports]

    official, suite = get_benchmark(name)(), find_suite(name)
    assert [task.name for task in suite.tasks] == official.get_task_names()
    assert [task.sentence for task in suite.tasks] == [task.language for task in official.tasks]
    assert [str(task.bddl_file) for task in suite.tasks] == [
        official.get_task_bddl_file_path(index) for index in range(len(suite.tasks))
    ]
    assert all(task.bddl_file.exists() for task in suite.tasks)


@needs_libero
def test_official_starts_are_the_benchmarks_own_read_without_running_code():
    from flexor.sim.libero.assets import prepare

    prepare()
    from libero.libero.benchmark import get_benchmark  # pyright: ignore[reportMissingImports]

    suite = find_suite("libero_10")
    starts = official_starts(suite.tasks[3])
    assert starts.dtype == np.float64 and starts.shape[0] == 50
    assert np.array_equal(starts, get_benchmark("libero_10")().get_task_init_states(3))


@needs_libero
def test_a_task_is_found_by_name_and_by_number_and_long_is_another_name_of_10():
    suite = find_suite("libero_long")
    assert suite is find_suite("libero_long") and suite.name == "libero_10"
    assert suite.find("7") == suite.find(suite.tasks[7].name) == suite.tasks[7]
    with pytest.raises(SuiteError, match="libero_10 has no task '10'; expected 0 to 9 or one of: LIVING_ROOM"):
        suite.find("10")


def test_an_unknown_suite_is_refused_with_the_names():
    assert is_suite("libero_long") and not is_suite("libero_100")
    with pytest.raises(SuiteError, match="unknown LIBERO suite 'libero_100', expected one of: libero_spatial"):
        find_suite("libero_100")


def test_the_protocols_have_the_published_numbers():
    openpi, lerobot = find_protocol("openpi"), find_protocol("lerobot")
    assert openpi.max_steps == LIMITS
    assert lerobot.max_steps == {**LIMITS, "libero_spatial": 280}
    assert (openpi.trials, openpi.replan, openpi.resize) == (50, 5, "pillow")
    assert (lerobot.trials, lerobot.replan, lerobot.resize) == (10, 10, "bilinear")
    assert [openpi.fixture_draw(trial) for trial in (0, 3)] == [(0, 7), (3, 7)]
    with pytest.raises(ProtocolError, match="unknown protocol 'gr00t', expected one of: openpi, lerobot"):
        find_protocol("gr00t")
    assert set(PROTOCOLS) == {"openpi", "lerobot"}


def test_bilinear_resizing_is_torchs_without_antialiasing():
    torch = pytest.importorskip("torch")
    from flexor.sim.libero.view import resize_bilinear

    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    for size in (224, 96, 300):
        expected = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", align_corners=False)
        found = resize_bilinear(frame, size).astype(np.float32)
        assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51  # rounded
