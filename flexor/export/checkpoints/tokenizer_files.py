"""PaliGemma's tokenizer from a folder or a file, as the tokenizer.json of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers import processors

from flexor.export.checkpoints.checkpoint_error import CheckpointError
from flexor.export.checkpoints.sentencepiece_file import SentencePieceFile

BOS = "<bos>"
NAMES = ("tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model", "spiece.model")
BEYOND = ("<image>",)
"""Tokens that Hugging Face's processor adds after the last one that the network embeds; no prompt holds them."""

WAY_OUT = (
    "give --tokenizer a folder or file with PaliGemma's: tokenizer.json or tokenizer.model of"
    " google/paligemma-3b-pt-224, or openpi's paligemma_tokenizer.model"
)


def find_tokenizer(given: Path | None, checkpoint: Path) -> Path:
    """The file to read: in the given folder, else in the checkpoint's.

    Raises:
        CheckpointError: there is none.
    """
    if given is not None and given.is_file():
        return given
    folder = given or checkpoint
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds no tokenizer ({', '.join(NAMES)}); {WAY_OUT}")


def load_tokenizer(path: Path, vocab_size: int) -> str:
    """The content of a bundle's tokenizer.json: the same tokens, a beginning of sentence first, nothing else added.

    Raises:
        CheckpointError: no tokenizer, another vocabulary than the network embeds, or no beginning of sentence.
    """
    tokenizer = _from_json(path, vocab_size) if path.suffix == ".json" else SentencePieceFile.read(path).tokenizer()
    size = tokenizer.get_vocab_size()
    if size != vocab_size:
        raise CheckpointError(
            f"{path} knows {size} tokens and the checkpoint embeds {vocab_size}: it is another model's; {WAY_OUT}"
        )
    bos = tokenizer.token_to_id(BOS)
    if bos is None:
        raise CheckpointError(f"{path} has no token {BOS}: it is not PaliGemma's; {WAY_OUT}")
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{BOS} $A", special_tokens=[(BOS, bos)]
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer.to_str()


def _from_json(path: Path, vocab_size: int) -> tokenizers.Tokenizer:
    try:
        data = json.loads(path.read_bytes())
        data["added_tokens"] = [
            token for token in data["added_tokens"] if token["id"] < vocab_size or token["content"] not in BEYOND
        ]
        return tokenizers.Tokenizer.from_str(json.dumps(data))
    except Exception as error:  # the library raises bare Exception for every kind of bad file
        raise CheckpointError(f"{path} is not a tokenizer.json ({error}); {WAY_OUT}") from error
