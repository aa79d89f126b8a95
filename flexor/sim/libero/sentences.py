"""LIBERO's sentences and other ways to say them, a fifth of them held out from training.

The benchmark says each task in one way; the sentences that are trained on begin with that one. Whatever tells two
tasks apart (objects, places, colours) keeps its own words, and held-out sentences have no word of their own: what is
measured with them is the order of words, never a word that nobody taught.
"""

from __future__ import annotations

import itertools
import re

HELD_OUT_EVERY = 5
PLACE_IN_ROW = 3  # of each five sentences the fourth is held out; never the first of all, which is the benchmark's

SYNONYMS = {
    "pick up": ("take", "grab", "lift"),
    "and place it": ("and put it", "and set it"),
    "put both": ("place both", "move both"),
    "put": ("place", "set"),
    "push": ("slide", "shove"),
    "stack": ("put", "set"),
    "open": ("pull open", "slide open"),
    "turn on": ("switch on", "light"),
    "turn off": ("switch off", "put out"),
    "and close it": ("and shut it", "and push it closed"),
    "close": ("shut", "push shut"),
}
"""Each phrase and what may stand in its place; the longer phrase is looked for first."""

COURTESIES = ("{}", "please {}", "now {}")

_PHRASES = re.compile("|".join(rf"\b{phrase}\b" for phrase in sorted(SYNONYMS, key=len, reverse=True)))


def paraphrases(sentence: str) -> tuple[str, ...]:
    """The sentence itself, and every other way to say it that the tables know."""
    parts = _PHRASES.split(sentence)
    phrases = [(found, *SYNONYMS[found]) for found in _PHRASES.findall(sentence)]
    ways = []
    for chosen in itertools.product(*phrases):
        said = "".join(part + phrase for part, phrase in zip(parts, (*chosen, ""), strict=True))
        ways.append(said)
    return tuple(courtesy.format(way) for courtesy in COURTESIES for way in ways)


def split(sentence: str) -> dict[str, list[str]]:
    """What `sentences.json` holds of a task: {"train": [...], "held_out": [...]}."""
    ways = paraphrases(sentence)
    held_out = [way for place, way in enumerate(ways) if place % HELD_OUT_EVERY == PLACE_IN_ROW]
    return {"train": [way for way in ways if way not in held_out], "held_out": held_out}
