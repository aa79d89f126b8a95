"""Rows of an index as the robot's own episodes have them, without their files."""

from __future__ import annotations

from dataclasses import replace

from flexor.runtime.episodes.index_row import EpisodeRow


def episode_row(number: int = 0, **fields: object) -> EpisodeRow:
    """A success in which nothing happened."""
    made = EpisodeRow(
        id=f"e{number:03d}",
        file=f"episodes/e{number:03d}.mcap",
        started="2026-03-01T10:00:00.000000+00:00",
        duration_s=1.0,
        robot="sim:made-up",
        task="red",
        prompt="",
        seed="0",
        bundle="",
        adapter="base",
        hz=20.0,
        outcome="success",
        label=None,
        source="sim",
        recovered=False,
        steps=1,
        frames=0,
        chunks=0,
        events=0,
        interventions=0,
        accel_mean=None,
        accel_max=None,
        entropy_bits_mean=None,
        entropy_bits_max=None,
        calibrated_max=None,
        alarm_step=None,
        bytes=1,
    )
    return replace(made, **fields)  # type: ignore[arg-type]
