"""Crc32c: the checksum (Castagnoli) that buckets give for every object, some have no other. numpy only.

A CRC's state is linear in the state before and the bytes since: many lanes run side by side through one table, then
neighbours are joined, the left one pushed through as many zero bytes as the right one is long.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # reflected
LANES = 4096
LANE_BYTES = 256  # one piece: 1 MiB

_Table = NDArray[np.uint32]


def _byte_table() -> _Table:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


TABLE = _byte_table()


@functools.cache
def _zeros(count: int) -> _Table:
    """uint32 [4, 256]: what each byte of a state becomes after `count` zero bytes, a power of two."""
    if count == 1:
        states = np.arange(256, dtype=np.uint32)[None, :] << (8 * np.arange(4, dtype=np.uint32))[:, None]
        return TABLE[states & 0xFF] ^ (states >> np.uint32(8))
    half = _zeros(count // 2)
    return _push(half, half)


def _push(states: _Table, zeros: _Table) -> _Table:
    """The states, of any shape, after the zero bytes that `zeros` stands for."""
    return (
        zeros[0][states & 0xFF]
        ^ zeros[1][(states >> np.uint32(8)) & 0xFF]
        ^ zeros[2][(states >> np.uint32(16)) & 0xFF]
        ^ zeros[3][states >> np.uint32(24)]
    )


class Crc32c:
    """The CRC-32C of bytes that come in pieces; as hashlib's objects."""

    def __init__(self) -> None:
        self._state = np.uint32(0xFFFFFFFF)
        self._rest = b""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""
        data = self._rest + data
        whole = len(data) // (LANES * LANE_BYTES) * (LANES * LANE_BYTES)
        for start in range(0, whole, LANES * LANE_BYTES):
            self._take_piece(np.frombuffer(data, np.uint8, LANES * LANE_BYTES, start))
        self._rest = data[whole:]

    def hexdigest(self) -> str:
        """The checksum of all bytes so far, eight digits."""
        state = int(self._state)
        for byte in self._rest:
            state = int(TABLE[(state ^ byte) & 0xFF]) ^ (state >> 8)
        return f"{state ^ 0xFFFFFFFF:08x}"

    def _take_piece(self, piece: NDArray[np.uint8]) -> None:
        columns = np.ascontiguousarray(piece.reshape(LANES, LANE_BYTES).T)
        states = np.zeros(LANES, np.uint32)
        states[0] = self._state
        for column in columns:
            states = TABLE[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
        length = LANE_BYTES
        while len(states) > 1:
            states = _push(states[0::2], _zeros(length)) ^ states[1::2]
            length *= 2
        self._state = states[0]
