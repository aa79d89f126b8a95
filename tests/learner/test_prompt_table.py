"""The fast way to a batch of prompts gives the tokens of the slow one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import SENTENCES

from flexor.errors import FlexorError
from flexor.learner.prompt_table import UNKNOWN, PromptTable, build_tokenizer
from flexor.learner.sentences import Sentences
from flexor.pi05.config import PRESETS
from flexor.pi05.prompt import build_prompt, discretise

KINDS = [Sentences(tuple(kinds["train"]), tuple(kinds["held_out"])) for kinds in SENTENCES.values()]
TEXTS = [text for kinds in KINDS for text in (*kinds.train, *kinds.held_out)]
TOKENIZER = build_tokenizer(KINDS, PRESETS["pi05-micro"])
TABLE = PromptTable(TOKENIZER, TEXTS, state_dim=8)


@given(seed=st.integers(0, 2**32 - 1), reach=st.floats(0.1, 3.0))
def test_a_batch_equals_the_tokenizer_on_every_prompt(seed: int, reach: float):
    rng = np.random.default_rng(seed)
    sentence = rng.integers(0, len(TEXTS), 16)
    states = rng.uniform(-reach, reach, (16, 8)).astype(np.float32)
    tokens, mask = TABLE.encode(sentence, states)
    for row, number in enumerate(sentence):
        expected = TOKENIZER.encode(build_prompt(TEXTS[number], discretise(states[row])))
        np.testing.assert_array_equal(tokens[row, mask[row]], expected)
        assert mask[row].sum() == len(expected)
        assert not tokens[row, ~mask[row]].any()


def test_every_bin_has_the_token_of_its_number():
    numbers = [TOKENIZER.id_of(str(number)) for number in range(-1, 256)]
    assert TABLE.bin_tokens.tolist() == numbers


def test_word_dropout_changes_words_of_the_sentence_and_nothing_else():
    states = np.zeros((200, 8), np.float32)
    sentence = np.zeros(200, np.int64)
    plain, _ = TABLE.encode(sentence, states)
    dropped, _ = TABLE.encode(sentence, states, np.random.default_rng(0), dropout=0.5)
    changed = np.flatnonzero((plain != dropped).any(axis=0))
    words = [TOKENIZER.id_of(word) for word in TEXTS[0].split()]
    assert plain[0, changed].tolist() == words
    assert set(dropped[plain != dropped]) == {TOKENIZER.id_of(UNKNOWN)}


def test_a_word_that_is_never_trained_on_is_the_unknown_word():
    tokens = TOKENIZER.encode(build_prompt(KINDS[0].held_out[0], [0] * 8))
    assert "carefully" in KINDS[0].held_out[0]
    assert TOKENIZER.id_of("carefully") is None
    assert TOKENIZER.id_of(UNKNOWN) in tokens


def test_a_sentence_longer_than_the_model_takes_is_refused():
    with pytest.raises(FlexorError, match=r"shorten it in sentences\.json"):
        PromptTable(TOKENIZER, ["put " * 40], state_dim=8)


def test_more_words_than_the_model_embeds_are_refused():
    words = tuple("x" + chr(97 + a) + chr(97 + b) for a in range(26) for b in range(26))
    with pytest.raises(FlexorError, match="too many words"):
        build_tokenizer([Sentences(words, ("a",))], PRESETS["pi05-micro"])
