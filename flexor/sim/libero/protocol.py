"""The evaluation protocols of LIBERO that published numbers come from, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flexor.errors import FlexorError

Resize = Literal["pillow", "bilinear"]
Starts = Literal["official", "sampled"]
OFFICIAL_STARTS = 50  # initial states that LIBERO keeps of each task


class ProtocolError(FlexorError):
    """An unknown protocol, or more trials than there are official initial states."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How episodes are played and what the policy is shown.

    What both share needs no field: official initial states in their order, 10 steps of no motion with the gripper open
    before the policy is asked, 20 Hz, frames turned by 180 degrees, a state of 8 numbers (position, axis-angle, two
    finger positions), the policy's actions as they are, success as soon as LIBERO's goal holds.

    Attributes:
        name: as --protocol takes it.
        max_steps: control steps that the policy gets, by suite.
        trials: episodes a task.
        replan: actions of a chunk that are played before the next one is asked for.
        resize: how a rendered frame becomes 224 pixels wide: Pillow's antialiased filter (openpi's client), or
            bilinear without antialiasing (torch's interpolate, as LeRobot's policy does it).
        reseeds: whether LIBERO's random numbers, which place the fixtures, start anew in each episode, not once a task.
        fixture_seed: the first seed of them.
    """

    name: str
    max_steps: Mapping[str, int]
    trials: int
    replan: int
    resize: Resize
    reseeds: bool
    fixture_seed: int

    def fixture_draw(self, trial: int) -> tuple[int, int]:
        """Which draw of fixtures a trial begins with: its number after seeding, counted from 0, and the seed."""
        return (0, self.fixture_seed + trial) if self.reseeds else (trial, self.fixture_seed)

    def to_dict(self) -> dict[str, Any]:
        """What every result says of it."""
        return {"protocol": self.name}


_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("openpi", _STEPS, trials=50, replan=5, resize="pillow", reseeds=False, fixture_seed=7),
        Protocol(
            "lerobot",
            _STEPS | {"libero_spatial": 280},
            trials=10,
            replan=10,
            resize="bilinear",
            reseeds=True,
            fixture_seed=1000,
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ProtocolError: there is none.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {name!r}, expected one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True, slots=True)
class LiberoSettings:
    """How a LIBERO robot works: names of a protocol, of a way to render (flexor.sim.libero.view), and of its starts.

    Attributes:
        starts: "official": seed s begins with official initial state s % 50; "sampled": objects are placed by the
            seed, within the regions that the task file gives them.
    """

    protocol: str = "openpi"
    render: str = "official"
    starts: Starts = "official"
