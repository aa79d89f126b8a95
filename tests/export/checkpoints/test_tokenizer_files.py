"""PaliGemma's tokenizer, from either of its forms, gives the same tokens in a bundle as it gave in training."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from foreign_checkpoints import write_openpi
from foreign_tensors import VOCAB, random_weights, save, stored, tokenizer_json

from flexor.errors import FlexorError
from flexor.export.checkpoints.importer import plan_import
from flexor.export.checkpoints.sentencepiece_file import SentencePieceFile
from flexor.export.checkpoints.tokenizer_files import find_tokenizer, load_tokenizer
from flexor.pi05.prompt import FORMATS, Tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

WHOLE = ["\n", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581", "<loc0000>", "<table>"]
PARTS = [
    "Task: ",
    "State: ",
    " 128",
    ";\nAction: ",
    "pick up",
    "the",
    "bowl",
    "\n\n\n",
    "    ",
    "<loc0000>",
    "\u2603",
    "-1",
]
SENTENCES = [
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "put both the alphabet soup and the tomato sauce in the basket",
    "turn on the stove and put the moka pot on it",
    "  pick_up\nthe bowl ",
]
LETTERS = "abcdefghij klmnop  rstuvw xyz0123456789.,;:-_\nTAS\u00e9\u2581<>"


def train(path: Path, **changes: object) -> Path:
    """A small model trained as Gemma's was: BPE, no rewriting of text, single digits, bytes for what is unknown."""
    sentences = [
        f"put the {thing} in the {place} number {n}" for n in range(300) for thing, place in [("bowl", "drawer")]
    ]
    sentences += [line for line in Path(__file__).read_text().splitlines() if line.strip()]
    out = io.BytesIO()
    settings = {
        "vocab_size": VOCAB,
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        "pad_piece": "<pad>",
        "eos_piece": "<eos>",
        "bos_piece": "<bos>",
        "user_defined_symbols": WHOLE,
        "minloglevel": 2,
        **changes,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=out, **settings)
    path.write_bytes(out.getvalue())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("sentencepiece") / "paligemma_tokenizer.model")


def test_every_text_becomes_sentencepieces_own_tokens(model: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ours = SentencePieceFile.read(model).tokenizer()
    assert ours.get_vocab_size() == reference.vocab_size() == VOCAB
    draw = random.Random(4)
    texts = [
        "".join(
            draw.choice(PARTS) if draw.random() < 0.5 else draw.choice(LETTERS) for _ in range(draw.randrange(1, 30))
        )
        for _ in range(3000)
    ]
    for text in texts:
        assert ours.encode(text, add_special_tokens=False).ids == reference.encode(text), text


def test_openpis_prompts_become_openpis_tokens(model: Path, tmp_path: Path) -> None:
    """Both of its prompts, with its own two calls for the one without the state."""
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    (tmp_path / "tokenizer.json").write_text(load_tokenizer(model, VOCAB))
    ours = Tokenizer.load(tmp_path / "tokenizer.json", 400)
    draw = np.random.default_rng(2)
    for sentence in SENTENCES:
        cleaned = sentence.strip().replace("_", " ").replace("\n", " ")
        plain = reference.encode(cleaned, add_bos=True) + reference.encode("\n")
        assert ours.encode(*FORMATS["openpi"].pieces(sentence, None)).tolist() == plain
        bins = draw.integers(-1, 256, 8)
        text = f"Task: {cleaned}, State: {' '.join(map(str, bins))};\nAction: "
        assert ours.encode(*FORMATS["openpi"].pieces(sentence, bins)).tolist() == reference.encode(text, add_bos=True)


def test_a_line_break_stays_a_token_of_its_own_where_the_vocabulary_would_merge_it(tmp_path: Path) -> None:
    """Without "\\n" as a whole token the two calls of openpi differ from one; the bundle makes the two."""
    model = train(tmp_path / "merging.model", user_defined_symbols=[], byte_fallback=True)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    (tmp_path / "tokenizer.json").write_text(load_tokenizer(model, VOCAB))
    ours = Tokenizer.load(tmp_path / "tokenizer.json", 400)
    expected = reference.encode("pick up", add_bos=True) + reference.encode("\n")
    assert ours.encode("pick up", "\n").tolist() == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "unigram"}, "it is not a BPE model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it rewrites text"),
        ({"add_dummy_prefix": True}, "it puts a space in front of every text"),
        ({"remove_extra_whitespaces": True}, "it removes spaces"),
    ],
)
def test_a_model_of_another_kind_is_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(FlexorError, match=f"is not PaliGemma's tokenizer: {reason}"):
        SentencePieceFile.read(train(tmp_path / "other.model", **changes))


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x0a\xff\xff\xff\xff\x0f", b"<html>sorry</html>"])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(FlexorError, match=r"tokenizer.model (is no SentencePiece model|holds no pieces)"):
        SentencePieceFile.read(path)


def test_a_model_of_another_vocabulary_is_refused(model: Path) -> None:
    with pytest.raises(FlexorError, match=f"knows {VOCAB} tokens and the checkpoint embeds 257152"):
        load_tokenizer(model, 257152)


def test_the_image_token_beyond_the_embedding_is_left_out() -> None:
    with_image = tokenizers.Tokenizer.from_str(tokenizer_json(image_token=True))
    assert with_image.get_vocab_size() == VOCAB + 1


def test_both_forms_of_a_tokenizer_make_a_bundle(model: Path, tmp_path: Path) -> None:
    checkpoint = write_openpi(tmp_path / "checkpoint")
    save(checkpoint / "model.safetensors", stored(random_weights()))
    plans = [
        plan_import(checkpoint, "imported", tokenizer=tokenizer)
        for tokenizer in (None, model, model.parent, checkpoint / "tokenizer.json")
    ]
    assert [plan.tokenizer.name for plan in plans] == ["tokenizer.json", model.name, model.name, "tokenizer.json"]
    assert plans[1].tokenizer_json == plans[2].tokenizer_json != plans[0].tokenizer_json


def test_a_given_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FlexorError, match=r"holds no tokenizer .*tokenizer.json or tokenizer.model of google/paligemma"
    ):
        find_tokenizer(tmp_path, tmp_path)
