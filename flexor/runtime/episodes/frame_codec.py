"""Camera frames as files keep them: JPEG for size, PNG for exact replay, and the digest of the raw frame."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from flexor.runtime.episodes.episode_schema import EpisodeError

FORMATS = ("jpeg", "png")


def encode_frame(frame: NDArray[np.uint8], image_format: str) -> bytes:
    """uint8 [height, width, 3] RGB to JPEG (quality 95, 4:4:4: no colour is thrown away) or PNG (exact)."""
    buffer = io.BytesIO()
    image = Image.fromarray(frame)
    if image_format == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        # Level 1 costs a third of the default's time for a few per cent of size, and this runs between control steps.
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_frame(data: bytes) -> NDArray[np.uint8]:
    """The bytes of encode_frame back to uint8 [height, width, 3]. Raises EpisodeError when they are no image."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise EpisodeError(f"a recorded frame of {len(data)} bytes does not decode: {error}") from error


def frame_size(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded frame, px, from its header alone. Raises EpisodeError when it is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise EpisodeError(f"a recorded frame of {len(data)} bytes does not decode: {error}") from error


def frame_digest(frame: NDArray[np.uint8]) -> bytes:
    """16 bytes of BLAKE2b over the raw frame, row by row: tells which exact pixels the policy saw."""
    return hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
