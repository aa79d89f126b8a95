"""CRC-32C against the vectors of RFC 3720, and against the bit-by-bit definition."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexor.export.download.crc32c import LANE_BYTES, LANES, POLYNOMIAL, Crc32c

PIECE = LANES * LANE_BYTES


def by_the_bit(data: bytes) -> str:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (POLYNOMIAL if state & 1 else 0)
    return f"{state ^ 0xFFFFFFFF:08x}"


def of(*pieces: bytes) -> str:
    crc = Crc32c()
    for piece in pieces:
        crc.update(piece)
    return crc.hexdigest()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "00000000"),
        (b"123456789", "e3069283"),
        (bytes(32), "8a9136aa"),
        (b"\xff" * 32, "62a8ab43"),
        (bytes(range(32)), "46dd794e"),
        (bytes(range(31, -1, -1)), "113fdb5c"),
    ],
)
def test_the_vectors_of_the_standard(data, expected):
    assert of(data) == expected


def test_lanes_side_by_side_come_to_what_bytes_in_a_row_do():
    data = bytes((7 * k + (k >> 8)) & 0xFF for k in range(PIECE + 1000))
    assert of(data) == by_the_bit(data)


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 2 * PIECE + 77), max_size=4))
def test_pieces_come_to_what_the_whole_does(cuts):
    data = bytes(range(251)) * ((2 * PIECE + 77) // 251 + 1)
    data = data[: 2 * PIECE + 77]
    ends = [0, *sorted(cuts), len(data)]
    assert of(*(data[begin:end] for begin, end in pairwise(ends))) == of(data)
