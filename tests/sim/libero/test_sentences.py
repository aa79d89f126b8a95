"""Claims about the wording of LIBERO's tasks."""

import pytest
from libero_here import needs_libero

from flexor.sim.libero.sentences import paraphrases, split
from flexor.sim.libero.suites import SUITES, find_suite

SENTENCES = (
    "pick up the black bowl next to the ramekin and place it on the plate",
    "open the middle drawer of the cabinet",
    "open the top drawer and put the bowl inside",
    "push the plate to the front of the stove",
    "turn on the stove",
    "turn on the stove and put the moka pot on it",
    "put both the alphabet soup and the tomato sauce in the basket",
    "put the yellow and white mug in the microwave and close it",
    "close the bottom drawer of the cabinet and open the top drawer",
    "turn off the stove",
    "stack the left bowl on the right bowl and place them in the tray",
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_benchmarks_sentence_is_trained_on_and_comes_first(sentence: str) -> None:
    assert split(sentence)["train"][0] == sentence


@pytest.mark.parametrize("sentence", SENTENCES)
def test_held_out_sentences_are_others_made_of_trained_words(sentence: str) -> None:
    kinds = split(sentence)
    assert kinds["held_out"] and not set(kinds["held_out"]) & set(kinds["train"])
    taught = {word for text in kinds["train"] for word in text.split()}
    assert {word for text in kinds["held_out"] for word in text.split()} <= taught


def test_a_conjunction_varies_in_both_of_its_parts() -> None:
    ways = paraphrases("turn on the stove and put the moka pot on it")
    assert "switch on the stove and set the moka pot on it" in ways and len(ways) == len(set(ways)) == 27


def test_what_names_the_objects_is_left_alone() -> None:
    for way in paraphrases("put the white mug on the left plate and put the yellow and white mug on the right plate"):
        assert "the white mug on the left plate" in way and "the yellow and white mug on the right plate" in way


@needs_libero
@pytest.mark.parametrize("suite", SUITES)
def test_every_task_of_the_benchmark_has_sentences_of_both_kinds(suite: str) -> None:
    for task in find_suite(suite).tasks:
        assert all(split(task.sentence).values()), task.sentence
