"""The ways to say each task: which are trained on, and which are only ever measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flexor.errors import FlexorError


@dataclass(frozen=True, slots=True)
class Sentences:
    """The instructions of one task.

    Attributes:
        train: one of them is drawn each time a sample is used.
        held_out: never trained on.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def read_sentences(path: Path) -> dict[str, Sentences]:
    """Read {task: {"train": [...], "held_out": [...]}}.

    Raises:
        FlexorError: no such file, another form, a task without a sentence of both kinds, a sentence in both.
    """
    try:
        data = json.loads(path.read_text())
        sentences = {task: Sentences(tuple(kinds["train"]), tuple(kinds["held_out"])) for task, kinds in data.items()}
    except FileNotFoundError as error:
        raise FlexorError(f"{path} is missing; make it with: flexor collect --out {path.parent}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # the first: not JSON, or not even text
        form = '{"task": {"train": [...], "held_out": [...]}}'
        raise FlexorError(f"{path} does not have the form {form}: {error}; mend it, or collect again") from error
    for task, kinds in sentences.items():
        both = set(kinds.train) & set(kinds.held_out)
        if not kinds.train or not kinds.held_out or both:
            raise FlexorError(
                f"{path}: task {task!r} has {len(kinds.train)} train and {len(kinds.held_out)} held-out sentences, "
                f"{len(both)} in both; expected some of each and none in both"
            )
    return sentences
