"""Prompts: openpi's bins and format, and a word tokenizer for small models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers

from flexor.pi05.prompt import FORMATS, Tokenizer, build_prompt, build_word_tokenizer, discretise

WORDS = ["pick up the red cube", "put it in the bowl"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(build_word_tokenizer(WORDS, vocab_size=512), max_tokens=40)


@pytest.mark.parametrize(
    ("value", "bin_"),
    [(-1.5, -1), (-1.0, 0), (0.0, 128), (0.9921875, 255), (0.99, 254), (1.0, 255), (1.5, 255)],
)
def test_state_values_fall_into_openpis_bins(value: float, bin_: int) -> None:
    assert discretise(np.asarray([value], dtype=np.float32)).tolist() == [bin_]


def test_the_prompt_with_state_has_openpis_format() -> None:
    prompt = build_prompt("  pick_up the\ncube ", np.asarray([-1, 0, 255]))
    assert prompt == "Task: pick up the cube, State: -1 0 255;\nAction: "


def test_the_prompt_without_state_is_the_sentence_and_a_newline() -> None:
    assert build_prompt("pick up the cube", None) == "pick up the cube\n"


def test_every_state_bin_is_one_token_of_its_own(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.encode(str(value)).tolist() for value in range(-1, 256)]
    assert all(len(row) == 2 and row[0] == tokenizer.bos for row in ids)
    assert [row[1] for row in ids] == list(range(ids[0][1], ids[0][1] + 257))


def test_a_whole_prompt_is_known_words_only_with_the_beginning_first(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(build_prompt("Pick up the RED cube", [-1, 7]))
    assert ids.dtype == np.int64
    words = ["[BOS]", "task", ":", "pick", "up", "the", "red", "cube", ",", "state", ":", "-1", "7", ";", "action", ":"]
    assert ids.tolist() == [tokenizer.id_of(word) for word in words]


def test_a_word_never_seen_is_unknown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("zebra").tolist() == [1, 2]


def test_a_hyphen_inside_words_is_no_minus_sign(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("cube-1").tolist() == [
        1,
        tokenizer.id_of("cube"),
        tokenizer.id_of("-"),
        tokenizer.id_of("1"),
    ]


def test_ids_do_not_depend_on_the_order_of_the_words() -> None:
    forward = build_word_tokenizer(WORDS, 512).get_vocab()
    assert forward == build_word_tokenizer(reversed(" ".join(WORDS).split()), 512).get_vocab()


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="the prompt has 42 tokens, the model takes at most 40"):
        tokenizer.encode("cube " * 41)
    assert len(tokenizer.encode("cube " * 39)) == 40


def test_a_tokenizer_survives_its_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    prompt = build_prompt("put it in the bowl", [3, 4])
    assert Tokenizer.load(path, 40).encode(prompt).tolist() == tokenizer.encode(prompt).tolist()


def test_a_missing_or_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer file at"):
        Tokenizer.load(tmp_path / "tokenizer.json", 40)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json", 40)


def test_a_tokenizer_without_a_beginning_of_sentence_is_refused() -> None:
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ValueError, match="expected exactly one, the beginning of sentence"):
        Tokenizer(bare, max_tokens=40)


def test_too_many_words_for_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a vocabulary of 280"):
        build_word_tokenizer(["a b c d e f g h"], vocab_size=280)


def test_every_lineage_writes_its_own_prompt() -> None:
    text, bins = "pick_up the {state} cup ", [-1, 7]
    said = {name: FORMATS[name].pieces(text, bins) for name in FORMATS}
    assert said == {
        "openpi": ("Task: pick up the {state} cup, State: -1 7;\nAction: ",),
        "opentau-0.1": ("Task: pick_up the {state} cup \nState: 0 7\nActions:",),
        "opentau-0.2": ("Task: pick_up the {state} cup <eos>State: 0 7<eos>Actions:",),
        "opentau-0.5": ("Task: pick_up the {state} cup , State: 0 7;\n",),
    }
    assert FORMATS["openpi"].pieces(text, None) == ("pick up the {state} cup", "\n")
    with pytest.raises(ValueError, match="no form without the state"):
        FORMATS["opentau-0.1"].pieces(text, None)


def test_no_token_spans_two_pieces() -> None:
    merging = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2, "^": 3}, [("a", "b")]))
    merging.post_processor = tokenizers.processors.TemplateProcessing(  # type: ignore[assignment]
        single="^ $A", special_tokens=[("^", 3)]
    )
    tokenizer = Tokenizer(merging, max_tokens=3)
    assert tokenizer.encode("ab").tolist() == [3, 2]
    assert tokenizer.encode("a", "b").tolist() == [3, 0, 1]
    with pytest.raises(ValueError, match="4 tokens, the model takes at most 3"):
        tokenizer.encode("a", "b", "a")
