"""Every sentence as ready token ids with holes for the state, so that a batch of prompts costs a table look-up."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flexor.errors import FlexorError
from flexor.learner.sentences import Sentences
from flexor.pi05.config import Pi05Config
from flexor.pi05.prompt import Tokenizer, build_prompt, build_word_tokenizer, discretise

LOWEST_BIN, HIGHEST_BIN = -1, 255
UNKNOWN = "[UNK]"


def build_tokenizer(sentences: Sequence[Sentences], config: Pi05Config) -> Tokenizer:
    """A word tokenizer over the words that are trained on; any other word is the unknown one, which is trained too.

    Raises:
        FlexorError: more words than the model has embeddings.
    """
    words = {word for kinds in sentences for text in kinds.train for word in re.findall(r"[^\W\d_]+", text)}
    try:
        return Tokenizer(build_word_tokenizer(words, config.vocab_size), config.max_prompt_tokens)
    except ValueError as error:
        raise FlexorError(f"the sentences have too many words: {error}") from error


class PromptTable:
    """Encodes `build_prompt(sentence, bins)` for whole batches; equals `Tokenizer.encode` of it token by token.

    Args:
        tokenizer: must give every bin from -1 to 255 one token of its own.
        sentences: the instructions, indexed by their place here.
        state_dim: S, bins in each prompt.

    Raises:
        FlexorError: the tokenizer splits a bin or has no unknown word, or a prompt is longer than the tokenizer allows.
    """

    def __init__(self, tokenizer: Tokenizer, sentences: Sequence[str], state_dim: int) -> None:
        self.sentences = tuple(sentences)
        unknown = tokenizer.id_of(UNKNOWN)
        if unknown is None:
            raise FlexorError(f"the tokenizer has no {UNKNOWN} for words it does not know; build one that has")
        self._unknown = unknown
        self._state_dim = state_dim
        try:
            frame = tokenizer.encode(build_prompt("", [0] * state_dim))
            encoded = [tokenizer.encode(build_prompt(sentence, [0] * state_dim)) for sentence in sentences]
            others = [tokenizer.encode(build_prompt(sentence, [1] * state_dim)) for sentence in sentences]
        except ValueError as error:
            raise FlexorError(f"a sentence cannot be tokenised: {error}; shorten it in sentences.json") from error
        length = max(len(tokens) for tokens in encoded)
        self._tokens = np.zeros((len(encoded), length), np.int64)
        self._mask = np.zeros((len(encoded), length), bool)
        self._words = np.zeros((len(encoded), length), bool)
        self._holes = np.zeros(len(encoded), np.int64)
        for row, (tokens, other) in enumerate(zip(encoded, others, strict=True)):
            holes = np.flatnonzero(tokens != other) if len(tokens) == len(other) else np.zeros(0, np.int64)
            if len(holes) != state_dim or holes[-1] - holes[0] != state_dim - 1:
                raise FlexorError(f"the tokenizer does not give each state bin one token in {self.sentences[row]!r}")
            self._holes[row] = holes[0]
            self._tokens[row, : len(tokens)] = tokens
            self._mask[row, : len(tokens)] = True
            # a word is what the sentence brought and the empty sentence's prompt does not hold
            self._words[row, : holes[0]] = ~np.isin(tokens[: holes[0]], frame)
        bins = range(LOWEST_BIN, HIGHEST_BIN + 1)
        probe = [tokenizer.encode(build_prompt(self.sentences[0], [value] * state_dim)) for value in bins]
        self.bin_tokens = np.array([tokens[self._holes[0]] for tokens in probe], np.int64)

    @property
    def length(self) -> int:
        """T, tokens of the longest prompt."""
        return self._tokens.shape[1]

    def encode(
        self,
        sentence: NDArray[np.int64],
        states: NDArray[np.float32],
        rng: np.random.Generator | None = None,
        dropout: float = 0.0,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Prompts of sentences [B] with normalised states [B, S] -> tokens int64 [B, T] and which of them are real.

        With `rng`, each word of a sentence becomes the unknown word with probability `dropout`.
        """
        tokens = self._tokens[sentence]
        if rng is not None and dropout > 0:
            tokens[self._words[sentence] & (rng.random(tokens.shape) < dropout)] = self._unknown
        holes = self._holes[sentence][:, None] + np.arange(self._state_dim)
        bins = np.asarray(discretise(states), np.int64)
        np.put_along_axis(tokens, holes, self.bin_tokens[bins - LOWEST_BIN], axis=1)
        return tokens, self._mask[sentence]
