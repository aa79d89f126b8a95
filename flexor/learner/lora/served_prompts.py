"""ServedPrompts: what a bundle reads of a sentence and a state, written as its Preprocessor does when it serves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexor.learner.demonstrations import DemonstrationError
from flexor.pi05.prompt import FORMATS, STATE_BINS, discretise
from flexor.runtime.inference.bundle import Bundle


class ServedPrompts:
    """Prompts in a bundle's format, with its tokenizer.

    Args:
        bundle: that is taught.

    Raises:
        BundleError: its tokenizer cannot be used.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._config = bundle.config
        self._format = FORMATS[bundle.config.prompt_format]
        self._tokenizer = bundle.tokenizer()
        # A tokenizer may take a number apart, so that the length of a prompt depends on the state.
        self._longest = max(range(-1, STATE_BINS), key=lambda value: len(self._tokenizer.encode(f" {value}")))

    def tokens(self, sentence: str, state: NDArray[np.float32]) -> NDArray[np.int64]:
        """The prompt of a sentence and a normalised state float32 [S], int64 [T].

        Raises:
            ValueError: more tokens than the model takes; see `check`.
        """
        return self._encode(sentence, discretise(state))

    def check(self, where: object, sentence: str) -> None:
        """Refuse a sentence that the bundle does not take, whatever the state.

        Raises:
            DemonstrationError: it is empty, or longer than the model takes; `where` says whose it is.
        """
        if not sentence.strip():
            raise DemonstrationError(f"{where}: what was said is {sentence!r}; expected a sentence: leave it out")
        try:
            self._encode(sentence, np.full(self._config.state_dim, self._longest))
        except ValueError as error:
            raise DemonstrationError(f"{where}: {error}") from error

    def _encode(self, sentence: str, bins: NDArray[np.int64]) -> NDArray[np.int64]:
        config = self._config
        shown = [*bins, *config.prompt_padding] if config.prompt_state else None
        return self._tokenizer.encode(*self._format.pieces(sentence, shown))
