"""A SentencePiece model of PaliGemma's kind as a `tokenizers` tokenizer. Needs no sentencepiece package.

The file is one protobuf message (sentencepiece_model.proto); of it, the pieces and a few switches are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models, normalizers

from flexor.export.checkpoints.checkpoint_error import CheckpointError

SPACE = "\u2581"  # what SentencePiece writes for a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BPE_MODEL = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One token: its text, its score (merges with higher ones come first), and its kind."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class SentencePieceFile:
    """What a model file says, checked to be of the kind that this conversion reproduces.

    Attributes:
        pieces: in the order of their ids.
        byte_fallback: whether unknown characters become bytes.
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool

    @classmethod
    def read(cls, path: Path) -> SentencePieceFile:
        """Read a model file.

        Raises:
            CheckpointError: unreadable, no SentencePiece model, or one of another kind than PaliGemma's.
        """
        try:
            raw = path.read_bytes()
            pieces, trainer, normalizer = [], {}, {}
            for number, value in _fields(raw):
                if number == 1 and isinstance(value, bytes):
                    pieces.append(_piece(value))
                elif number in (2, 3) and isinstance(value, bytes):
                    (trainer if number == 2 else normalizer).update(_fields(value))
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read ({error.strerror}); give PaliGemma's tokenizer.model"
            ) from error
        except (ValueError, IndexError, struct.error) as error:
            raise CheckpointError(f"{path} is no SentencePiece model ({error}); download it again") from error
        if not pieces:
            raise CheckpointError(f"{path} holds no pieces; give PaliGemma's tokenizer.model")
        wrong = {
            "it is not a BPE model": trainer.get(3, 1) != BPE_MODEL,
            "it rewrites text (a normalisation rule)": bool(normalizer.get(2, b"")),
            "it puts a space in front of every text": bool(normalizer.get(3, 1)),
            "it removes spaces": bool(normalizer.get(4, 1)),
            "it does not escape spaces": not normalizer.get(5, 1),
        }
        if found := [reason for reason, holds in wrong.items() if holds]:
            raise CheckpointError(f"{path} is not PaliGemma's tokenizer: {', '.join(found)}; give that one's file")
        return cls(tuple(pieces), bool(trainer.get(35, 0)))

    def tokenizer(self) -> tokenizers.Tokenizer:
        """The same tokenizer in the `tokenizers` library, without a beginning of sentence.

        Control tokens written in a text ("<eos>") are taken for the tokens, as Hugging Face's own conversion does;
        SentencePiece spells them out.
        """
        ids = {piece.text: index for index, piece in enumerate(self.pieces)}
        unknown = next((piece.text for piece in self.pieces if piece.kind == UNKNOWN), None)
        model = models.BPE(ids, self._merges(), unk_token=unknown, fuse_unk=True, byte_fallback=self.byte_fallback)
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.normalizer = normalizers.Replace(" ", SPACE)  # type: ignore[assignment]
        special = [piece.text for piece in self.pieces if piece.kind in (CONTROL, UNKNOWN)]
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
        # Whole tokens wherever they stand, before anything is merged; spaces in them are escaped, as in the text.
        whole = [piece.text for piece in self.pieces if piece.kind == USER_DEFINED]
        tokenizer.add_tokens([AddedToken(text, normalized=True, special=False) for text in whole])
        return tokenizer

    def _merges(self) -> list[tuple[str, str]]:
        """Every way in which two pieces join to a third, the highest score first."""
        known = {piece.text for piece in self.pieces if piece.kind in (NORMAL, USER_DEFINED)}
        found: list[tuple[float, str, str]] = []
        for piece in self.pieces:
            if piece.kind != NORMAL:
                continue
            for cut in range(1, len(piece.text)):
                left, right = piece.text[:cut], piece.text[cut:]
                if left in known and right in known:
                    found.append((-piece.score, left, right))
        found.sort(key=lambda merge: merge[0])
        return [(left, right) for _, left, right in found]


def _piece(raw: bytes) -> Piece:
    given = dict(_fields(raw))
    text, score, kind = given.get(1, b""), given.get(2, 0.0), given.get(3, NORMAL)
    if not isinstance(text, bytes) or not isinstance(score, float) or not isinstance(kind, int):
        raise ValueError("a piece has fields of other types")
    return Piece(text.decode("utf-8"), score, kind)


def _fields(raw: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Numbers and values of a protobuf message's fields, as far as sentencepiece_model.proto uses the wire's types."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(raw, at)
            if at + size > len(raw):
                raise ValueError("it ends inside a field")
            yield number, raw[at : at + size]
            at += size
        elif wire == 5:
            yield number, struct.unpack_from("<f", raw, at)[0]
            at += 4
        elif wire == 1:
            at += 8
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
