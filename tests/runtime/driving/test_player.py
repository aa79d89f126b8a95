"""ChunkPlayer: chunk index arithmetic against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from flexor.runtime.driving.player import ChunkPlayer


def chunk(mark: int, horizon: int = 10) -> np.ndarray:
    """Actions [horizon, 2] that say which chunk and which row they are: (mark, row)."""
    return np.stack([np.full(horizon, mark), np.arange(horizon)], axis=1).astype(np.float32)


def played(player: ChunkPlayer, step: int) -> tuple[int, int] | None:
    action = player.action(step)
    return None if action is None else (int(action[0]), int(action[1]))


def test_nothing_is_played_before_the_first_chunk():
    player = ChunkPlayer(2)
    assert player.action(0) is None
    assert player.anchor is None
    assert player.committed(0, 3).shape == (0, 2)


def test_a_chunk_plays_row_step_minus_anchor_and_ends_with_its_last_row():
    player = ChunkPlayer(2)
    assert player.splice(7, chunk(1), 7)
    assert [played(player, step) for step in (7, 8, 16, 17)] == [(1, 0), (1, 1), (1, 9), None]


def test_a_late_chunk_is_spliced_in_the_middle_of_both():
    player = ChunkPlayer(2)
    player.splice(0, chunk(1), 0)
    assert played(player, 6) == (1, 6)
    assert player.splice(4, chunk(2), 7)  # asked at 4, here before step 7: rows 0..2 are past
    assert [played(player, step) for step in (7, 13, 14)] == [(2, 3), (2, 9), None]


def test_a_chunk_with_no_action_left_is_stale_and_changes_nothing():
    player = ChunkPlayer(2)
    player.splice(3, chunk(1), 3)
    assert player.splice(5, chunk(2), 14)  # its last row
    assert played(player, 14) == (2, 9)
    player.reset()
    player.splice(3, chunk(1), 3)
    assert not player.splice(4, chunk(2), 14)  # one step too late
    assert player.stale == 1
    assert player.anchor == 3


def test_a_chunk_older_than_the_one_playing_is_stale():
    player = ChunkPlayer(2)
    player.splice(8, chunk(2), 9)
    assert not player.splice(6, chunk(1), 10)
    assert not player.splice(8, chunk(3), 10)
    assert (player.stale, played(player, 10)) == (2, (2, 2))


def test_committed_actions_are_exactly_the_ones_that_will_be_played():
    player = ChunkPlayer(2)
    player.splice(2, chunk(1), 2)
    ahead = player.committed(5, 3)
    assert [tuple(map(int, row)) for row in ahead] == [played(player, step) for step in (5, 6, 7)]
    assert len(player.committed(10, 5)) == 2  # rows 8 and 9 are the last
    assert len(player.committed(12, 5)) == 0


def test_reset_forgets_the_chunk_so_that_an_episode_starts_at_anchor_zero_again():
    player = ChunkPlayer(2)
    player.splice(50, chunk(1), 52)
    player.reset()
    assert player.action(52) is None
    assert player.splice(0, chunk(2), 0)


def test_a_chunk_of_another_width_or_from_the_future_is_refused():
    player = ChunkPlayer(2)
    with pytest.raises(ValueError, match=r"\(10, 3\).*\[horizon, 2\]"):
        player.splice(0, np.zeros((10, 3), np.float32), 0)
    with pytest.raises(ValueError, match=r"step 5.*step 4"):
        player.splice(5, chunk(1), 4)
