"""Further bodies in LIBERO's scenes: it builds them from files of its own, and these are added on the way."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from flexor.sim.distractors import things_xml

OUT_OF_SIGHT = "1.1 0 2"
"""m, where distractors wait: unseen above the table's end, out of the arm's reach. Outside of the room the scene would
be larger by them, and MuJoCo clips pictures by the size of a scene."""
VISUAL_GROUP = 1  # robosuite draws no other


def distractor_bodies() -> str:
    """The distractors as MJCF; they stand still, so a simulator state has the same numbers with and without them."""
    return things_xml(OUT_OF_SIGHT, VISUAL_GROUP)


@contextlib.contextmanager
def bodies_added(bodies: str) -> Iterator[None]:
    """Within it, every scene that LIBERO builds has these bodies (MJCF) too. Not for two threads at once."""
    from libero.libero.envs.bddl_base_domain import BDDLBaseDomain

    load = BDDLBaseDomain._load_model

    def load_more(self: Any) -> None:
        load(self)
        self.model.worldbody.extend(ET.fromstring(f"<worldbody>{bodies}</worldbody>"))

    BDDLBaseDomain._load_model = load_more
    try:
        yield
    finally:
        BDDLBaseDomain._load_model = load
