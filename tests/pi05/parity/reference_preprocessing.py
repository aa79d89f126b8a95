"""openpi's preprocessing of `preprocessing_cases`, by its own functions, in one file."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
from pi05.parity.preprocessing_cases import FRAMES, SENTENCES, STATES, frame, statistics, values
from pi05.parity.reference import Openpi


def record_preprocessing(openpi: Openpi, path: Path) -> None:
    """Write what openpi makes of every case.

    resized_<i> uint8 of each frame; scaled float32 [256] of every byte; pieces: what each sentence and state is
    tokenised as, one string a piece, counted by piece_counts; quantile and mean_std of the values; back_quantile and
    back_mean_std of values with more channels than statistics.
    """
    from openpi_client.image_tools import resize_with_pad  # type: ignore

    made: dict[str, Any] = {
        f"resized_{index}": resize_with_pad(frame(height, width), side, side)
        for index, (height, width, side) in enumerate(FRAMES)
    }
    bytes_ = np.arange(256, dtype=np.uint8)
    made["scaled"] = openpi.observation({"image": {"one": bytes_}, "image_mask": {}, "state": None}).images["one"]
    pieces = [tokenised(openpi, sentence, state) for sentence in SENTENCES for state in STATES]
    made["pieces"] = np.array([piece for group in pieces for piece in group])
    made["piece_counts"] = np.array([len(group) for group in pieces])
    pad = openpi.lift("transforms.py", "pad_to_dim")
    normalize = openpi.lift("transforms.py", "Normalize")
    unnormalize = openpi.lift("transforms.py", "Unnormalize", pad_to_dim=pad)
    stats = types.SimpleNamespace(**statistics(7))
    made["quantile"] = normalize._normalize_quantile(None, values(7, 20), stats)
    made["mean_std"] = normalize._normalize(None, values(7, 20), stats)
    made["back_quantile"] = unnormalize._unnormalize_quantile(None, values(32, 5), stats)
    made["back_mean_std"] = unnormalize._unnormalize(None, values(32, 5), stats)
    np.savez_compressed(path, **made)


def tokenised(openpi: Openpi, sentence: str, state: tuple[float, ...] | None) -> list[str]:
    """The texts that openpi's tokenizer class hands to SentencePiece, in turn."""
    handed: list[str] = []

    def encode(text: str, add_bos: bool = False) -> list[int]:
        assert add_bos == (not handed), "the beginning of sentence belongs to the first piece alone"
        handed.append(text)
        return []

    kind = openpi.lift("models/tokenizer.py", "PaligemmaTokenizer")
    made = kind.__new__(kind)
    made._max_len, made._tokenizer = 200, types.SimpleNamespace(encode=encode)
    made.tokenize(sentence, None if state is None else np.array(state, dtype=np.float32))
    return handed
