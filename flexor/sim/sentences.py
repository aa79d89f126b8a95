"""The words for each task: many paraphrases, a fifth of them held out from training.

Every word that a held-out sentence uses also occurs in sentences that are trained on: held out are whole sentences,
because a policy can never act on a word that it has not seen.
"""

from __future__ import annotations

from flexor.sim.shift_draw import ShiftDraw
from flexor.sim.shift_words import FREE, NAMES, REWORDED, choose_wording
from flexor.sim.tasks import TASKS, Task

HELD_OUT_EVERY = 5

WORDS = {
    "red_block": ("red block", "red cube"),
    "blue_block": ("blue block", "blue cube"),
    "plate": ("plate", "white plate"),
    "box": ("box", "green box"),
    "green_block": ("green block", "green cube"),
    "yellow_block": ("yellow block", "yellow cube"),
    "purple_block": ("purple block", "purple cube"),
    "teal_puck": ("puck", "teal puck"),
    "orange_block": ("orange block", "orange cube"),
    "white_mat": ("white mat", "white circle"),
    "black_mat": ("black mat", "black circle"),
}
"""Two names an item; the sentences take them in turn."""

TEMPLATES = {
    "place_on": (
        "put the {item} on the {target}",
        "place the {item} on the {target}",
        "set the {item} on the {target}",
        "pick up the {item} and place it on the {target}",
        "grab the {item} and put it on the {target}",
        "lay the {item} on the {target}",
        "move the {item} onto the {target}",
        "take the {item} and set it on the {target}",
        "the {item} goes on the {target}",
        "lift the {item} and lay it on the {target}",
        "bring the {item} to the {target}",
        "please put the {item} onto the {target}",
    ),
    "place_in": (
        "put the {item} in the {target}",
        "place the {item} in the {target}",
        "drop the {item} in the {target}",
        "pick up the {item} and place it in the {target}",
        "grab the {item} and put it in the {target}",
        "drop the {item} into the {target}",
        "move the {item} into the {target}",
        "take the {item} and drop it in the {target}",
        "the {item} goes in the {target}",
        "lift the {item} and drop it into the {target}",
        "bring the {item} to the {target}",
        "please put the {item} into the {target}",
    ),
    "stack": (
        "stack the {item} on the {target}",
        "put the {item} on the {target}",
        "place the {item} on top of the {target}",
        "pick up the {item} and stack it on the {target}",
        "grab the {item} and put it on top of the {target}",
        "set the {item} on the {target}",
        "stack the {item} onto the {target}",
        "take the {item} and place it on the {target}",
        "the {item} goes on top of the {target}",
        "lift the {item} and set it on the {target}",
        "bring the {item} to the top of the {target}",
        "please stack the {item} on top of the {target}",
    ),
    "push": (
        "push the {item} to the {target}",
        "slide the {item} to the {target}",
        "push the {item} onto the {target}",
        "move the {item} to the {target} by pushing it",
        "shove the {item} onto the {target}",
        "slide the {item} onto the {target}",
        "push the {item} over to the {target}",
        "give the {item} a push to the {target}",
        "the {item} should slide to the {target}",
        "shove the {item} over to the {target}",
        "bring the {item} to the {target} by pushing it",
        "please push the {item} to the {target}",
    ),
}

LAST = {
    "place_on": "pick the {item} up and set it on the {target}",
    "place_in": "take the {item} and put it into the {target}",
    "stack": "lift the {item} and stack it on top of the {target}",
    "push": "please slide the {item} over to the {target}",
}
"""The twenty-fifth sentence, said with the plain names only."""


def sentences(task: Task) -> tuple[str, ...]:
    """All paraphrases of a task, the plain one first."""
    item, target = WORDS[task.item], WORDS[task.target]
    templates = TEMPLATES[task.kind]
    plain = tuple(t.format(item=item[0], target=target[0]) for t in templates)
    other = tuple(t.format(item=item[1], target=target[i % len(target)]) for i, t in enumerate(templates))
    last = LAST[task.kind].format(item=item[0], target=target[0])
    return (*plain, *other, last)


def split(task: Task) -> dict[str, list[str]]:
    """{"train": [...], "held_out": [...]}: every fifth sentence is held out, the plain one never."""
    lines = sentences(task)
    held = set(lines[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    return {"train": [s for s in lines if s not in held], "held_out": [s for s in lines if s in held]}


def instruction(task: Task) -> str:
    """The plain sentence of a task."""
    return sentences(task)[0]


def all_splits() -> dict[str, dict[str, list[str]]]:
    """The split of every task by task name, as `flexor collect` writes it beside the demonstrations."""
    return {name: split(task) for name, task in TASKS.items()}


def wordings(task: Task) -> dict[str, tuple[str, ...]]:
    """The ways to say a task by kind: held_out, reworded, free, from the most familiar to the most foreign."""
    return {
        "held_out": tuple(split(task)["held_out"]),
        "reworded": tuple(
            t.format(item=WORDS[task.item][0], target=WORDS[task.target][0]) for t in REWORDED[task.kind]
        ),
        "free": tuple(t.format(item=NAMES[task.item], target=NAMES[task.target]) for t in FREE[task.kind]),
    }


def spoken(task: Task, drawn: ShiftDraw) -> str:
    """The sentence of an episode: the plain one, unless a shift says it another way."""
    return choose_wording(wordings(task), drawn.wording, drawn.pick) or instruction(task)
