"""Words that no policy was trained on, for LIBERO's sentences: other frames, and other names of things.

Whatever tells two tasks of a scene apart (places, sides, colours) keeps its word or gets one that tells it as well.
"""

from __future__ import annotations

import re

REWORDED = (
    "could you {}",
    "i want you to {}",
    "your next job is to {}",
    "would you kindly {}",
)
"""Frames of the sentence itself, each with a word or two that no training sentence has."""

FREE = (
    "would you mind helping me: {}",
    "let us tidy up a little, so {}",
    "here is what i need from you now, {}",
    "when you are ready {} for me",
)
"""Frames that go with NAMES."""

NAMES = {
    "pick up": "fetch",
    "put": "leave",
    "place": "leave",
    "turn on": "start",
    "turn off": "shut down",
    "bowl": "round dish",
    "plate": "flat dish",
    "ramekin": "small baking dish",
    "cookie box": "biscuit package",
    "stove": "hot plate",
    "cabinet": "cupboard",
    "drawer": "pull-out",
    "basket": "wicker bin",
    "alphabet soup": "can of letter soup",
    "tomato sauce": "can of tomato sauce",
    "cream cheese": "soft cheese",
    "salad dressing": "bottle of salad dressing",
    "bbq sauce": "barbecue sauce",
    "orange juice": "carton of orange juice",
    "milk": "carton of milk",
    "chocolate pudding": "chocolate dessert",
    "butter": "pack of butter",
    "ketchup": "bottle of ketchup",
    "wine bottle": "bottle of wine",
    "rack": "bottle holder",
    "moka pots": "espresso pots",
    "moka pot": "espresso pot",
    "frying pan": "skillet",
    "mug": "cup",
    "book": "volume",
    "caddy": "desk organiser",
    "microwave": "microwave oven",
    "tray": "wooden platter",
    "shelf": "ledge",
}
"""What is said in its place; the longer phrase is looked for first."""

_PHRASES = re.compile("|".join(rf"\b{phrase}\b" for phrase in sorted(NAMES, key=len, reverse=True)))


def reworded(sentence: str) -> tuple[str, ...]:
    """The sentence with one or two unknown words."""
    return tuple(frame.format(sentence) for frame in REWORDED)


def free(sentence: str) -> tuple[str, ...]:
    """The sentence of somebody who never saw the list."""
    said = _PHRASES.sub(lambda found: NAMES[found.group()], sentence)
    return tuple(frame.format(said) for frame in FREE)
