"""Words that no policy was trained on, for the paraphrase axis of domain shift.

The sentences stay unambiguous: the colour of what is meant is always said with its trained word, and where an item has
no colour of its own the preposition tells it. None is longer than 20 words, which the smallest model still reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REWORDED = {
    "place_on": (
        "could you put the {item} on the {target}",
        "transfer the {item} onto the {target}",
        "i want the {item} on the {target}",
        "position the {item} on the {target} now",
    ),
    "place_in": (
        "could you put the {item} in the {target}",
        "transfer the {item} into the {target}",
        "i want the {item} in the {target}",
        "position the {item} in the {target} now",
    ),
    "stack": (
        "could you stack the {item} on the {target}",
        "pile the {item} on top of the {target}",
        "i want the {item} on the {target}",
        "position the {item} on top of the {target} now",
    ),
    "push": (
        "could you push the {item} to the {target}",
        "nudge the {item} over to the {target}",
        "i want the {item} pushed to the {target}",
        "drive the {item} to the {target} now",
    ),
}
"""With the items' own names and one or two unknown words."""

FREE = {
    "place_on": (
        "would you mind leaving the {item} on the {target} for me",
        "the {item} belongs on the {target}, so park it there",
        "make sure that the {item} ends up on the {target}",
        "next job: the {item} has to lie on the {target}",
    ),
    "place_in": (
        "would you mind leaving the {item} in the {target} for me",
        "the {item} belongs in the {target}, so park it there",
        "make sure that the {item} ends up in the {target}",
        "next job: the {item} has to lie in the {target}",
    ),
    "stack": (
        "would you mind leaving the {item} on top of the {target} for me",
        "build a tower: the {item} belongs on top of the {target}",
        "make sure that the {item} ends up on top of the {target}",
        "next job: the {item} has to sit on the {target}",
    ),
    "push": (
        "would you mind pushing the {item} across to the {target} for me",
        "without lifting it, get the {item} to the {target}",
        "make sure that the {item} slides until it reaches the {target}",
        "next job: the {item} has to be pushed to the {target}",
    ),
}
"""Whole sentences of people who never saw the list, with other names of the items."""

NAMES = {
    "red_block": "red brick",
    "blue_block": "blue brick",
    "plate": "dish",
    "box": "crate",
    "green_block": "green brick",
    "yellow_block": "yellow brick",
    "purple_block": "purple brick",
    "teal_puck": "teal disc",
    "orange_block": "orange brick",
    "white_mat": "white patch",
    "black_mat": "black patch",
}
"""What an item is called in the free sentences."""


def choose_wording(wordings: Mapping[str, Sequence[str]], shares: Sequence[float], pick: float) -> str | None:
    """The sentence that `pick`, in [0, 1), falls on when each kind has its share; None for the plain one."""
    for share, lines in zip(shares, wordings.values(), strict=True):
        if pick < share:
            return lines[int(pick / share * len(lines))]
        pick -= share
    return None
