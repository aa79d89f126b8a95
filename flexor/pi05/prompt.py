"""From an instruction and a state to prompt tokens, as those do it who trained the weights. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

STATE_BINS = 256
_EDGES = np.linspace(-1.0, 1.0, STATE_BINS + 1)[:-1]
_SPECIALS = ("[PAD]", "[BOS]", "[UNK]")
_PUNCTUATION = (".", ",", ":", ";", "!", "?", "'", '"', "-", "(", ")", "/")


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How one lineage of weights writes its prompt.

    Attributes:
        stated: pieces with the state in them, "{text}" and "{state}" standing for both; each is tokenised by itself.
        plain: pieces of the prompt without the state; empty where that lineage has none.
        cleaned: whether the text loses its outer spaces, and underscores and line breaks become spaces.
        lowest: the bin of a state below the range, -1 or 0.
    """

    stated: tuple[str, ...]
    plain: tuple[str, ...]
    cleaned: bool
    lowest: int

    def pieces(self, text: str, bins: Sequence[int] | NDArray[np.integer] | None) -> tuple[str, ...]:
        """The pieces of a prompt, the state's bins in it or, when they are None, without them.

        Raises:
            ValueError: no bins, and this lineage never prompts without a state.
        """
        if bins is None and not self.plain:
            raise ValueError("this prompt format has no form without the state; expected its bins")
        if self.cleaned:
            text = text.strip().replace("_", " ").replace("\n", " ")
        given = {"{text}": text}
        if bins is not None:
            given["{state}"] = " ".join(str(max(int(value), self.lowest)) for value in bins)
        # In one pass, so that braces in the text stay text.
        return tuple(
            re.sub(r"\{text\}|\{state\}", lambda found: given[found.group()], piece)
            for piece in (self.plain if bins is None else self.stated)
        )


FORMATS: Mapping[str, PromptFormat] = {
    # openpi and LeRobot; without the state the line break is tokenised by itself.
    "openpi": PromptFormat(("Task: {text}, State: {state};\nAction: ",), ("{text}", "\n"), cleaned=True, lowest=-1),
    # OpenTau changed its prompt twice; each name is the first release with it.
    "opentau-0.1": PromptFormat(("Task: {text}\nState: {state}\nActions:",), (), cleaned=False, lowest=0),
    "opentau-0.2": PromptFormat(("Task: {text}<eos>State: {state}<eos>Actions:",), (), cleaned=False, lowest=0),
    "opentau-0.5": PromptFormat(("Task: {text}, State: {state};\n",), (), cleaned=False, lowest=0),
}


def discretise(state: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin a normalised state, [S] -> int64 [S] in -1..255.

    The 256 bins split [-1, 1) evenly; below -1 the bin is -1 and from 1 on it is 255, as in openpi's tokenizer.
    """
    return (np.digitize(state, _EDGES) - 1).astype(np.int64)


def build_prompt(text: str, bins: Sequence[int] | NDArray[np.integer] | None) -> str:
    """The sentence that is tokenised: openpi's format with the state, or without it when `bins` is None."""
    return "".join(FORMATS["openpi"].pieces(text, bins))


class Tokenizer:
    """A `tokenizers` tokenizer that puts the beginning-of-sentence token first and refuses long prompts.

    Args:
        tokenizer: its post-processor must put the beginning-of-sentence token, and nothing else, around a text.
        max_tokens: longest prompt in tokens; longer ones are refused, never cut.

    Raises:
        ValueError: the tokenizer adds no beginning-of-sentence token, or adds more than that.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, max_tokens: int) -> None:
        added = tokenizer.encode("").ids
        if len(added) != 1:
            raise ValueError(
                f"the tokenizer puts tokens {added} around an empty text; expected exactly one, the beginning of "
                "sentence: set its post_processor"
            )
        self.max_tokens = max_tokens
        self.bos = added[0]
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: Path | str, max_tokens: int) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ValueError: the file is missing or is not a tokenizer.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no tokenizer file at {path}; expected the tokenizer.json of a bundle")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every kind of bad file
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error
        return cls(tokenizer, max_tokens)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size()

    def id_of(self, token: str) -> int | None:
        """The id of a token, None when the vocabulary lacks it."""
        return self._tokenizer.token_to_id(token)

    def encode(self, *pieces: str) -> NDArray[np.int64]:
        """Tokens of a prompt, int64 [T], beginning of sentence first; no token spans two pieces.

        Raises:
            ValueError: more tokens than `max_tokens`.
        """
        ids = self._tokenizer.encode(pieces[0]).ids
        for piece in pieces[1:]:
            ids = ids + self._tokenizer.encode(piece, add_special_tokens=False).ids
        if len(ids) > self.max_tokens:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the model takes at most {self.max_tokens}; shorten it:"
                f" {''.join(pieces)!r}"
            )
        return np.asarray(ids, dtype=np.int64)

    def to_json(self) -> str:
        """The content of its `tokenizer.json`."""
        return self._tokenizer.to_str()


def build_word_tokenizer(words: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """A word-level tokenizer for a small model: lower-cased words, punctuation, and every state bin as one token.

    [PAD]=0, [BOS]=1, [UNK]=2, then the integers -1..255, punctuation, the words of the prompt format, and the words of
    `words` (single words or whole sentences) sorted: ids depend on the set of words only, not on their order.

    Raises:
        ValueError: all that needs more than `vocab_size` tokens.
    """
    numbers = [str(value) for value in range(-1, STATE_BINS)]
    fixed = [*_SPECIALS, *numbers, *_PUNCTUATION, "task", "state", "action"]
    given = {part for word in words for part in re.findall(r"[^\W\d_]+", word.lower())}
    vocabulary = fixed + sorted(given - set(fixed))
    if len(vocabulary) > vocab_size:
        raise ValueError(
            f"{len(vocabulary)} tokens do not fit a vocabulary of {vocab_size}: {len(fixed)} are fixed, "
            f"{len(vocabulary) - len(fixed)} are words; give fewer words or a larger vocab_size"
        )
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    # A minus sign belongs to the number after it only where a word starts: "-1" is a bin, "left-1" is not.
    pieces = Regex(r"(?<!\w)-\d+|\d+|[^\W\d_]+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "removed", invert=True)  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[BOS] $A", special_tokens=[("[BOS]", ids["[BOS]"])]
    )
    return tokenizer
