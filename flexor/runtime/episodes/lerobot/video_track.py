"""VideoTrack: the frames of one camera as the mp4 files of a LeRobotDataset, many episodes a file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flexor.runtime.episodes.episode_schema import EpisodeError
from flexor.runtime.episodes.lerobot.places import Place, video_file

# Encoder, pixel format and options. Every second frame stands alone, as lerobot writes it: its loaders ask for single
# frames. No frame waits for a later one, so that times in the file begin at 0.
VIDEOS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {"crf": "18", "preset": "veryfast", "g": "2", "bf": "0"}),
    "lossless": ("libx264rgb", "rgb24", {"qp": "0", "preset": "veryfast", "g": "2", "bf": "0"}),
}


@dataclass(frozen=True, slots=True)
class Span:
    """Where an episode lies: in which file, and its first and last second there; the end is that of its last frame."""

    place: Place
    from_s: float
    to_s: float


class VideoTrack:
    """Writes one camera. Frames come in order, `turn` between two episodes."""

    def __init__(
        self, folder: Path, key: str, size: tuple[int, int], fps: int, video: str, max_bytes: float, chunk_size: int
    ) -> None:
        """
        Args:
            folder: of the dataset.
            key: the feature's name.
            size: height and width, px.
            video: one of VIDEOS.
            max_bytes: a file that has reached this takes no further episode.
            chunk_size: files in a folder.

        Raises:
            EpisodeError: a word that is no VIDEOS, a size that the encoder cannot take, or PyAV is not installed.
        """
        if video not in VIDEOS:
            raise EpisodeError(f'video is "{video}"; give one of {", ".join(VIDEOS)}')
        if VIDEOS[video][1] == "yuv420p" and (size[0] % 2 or size[1] % 2):
            raise EpisodeError(
                f"frames of {key} are {size[0]} x {size[1]} px, and {video} needs even numbers; export with lossless"
            )
        self._folder, self._key, self._size, self._fps, self._video = folder, key, size, fps, video
        self._max_bytes, self._chunk_size = max_bytes, chunk_size
        self._place = Place(0, 0)
        self._container: Any = None
        self._frames = self._first = self._bytes = 0
        self._av = _pyav()

    def turn(self) -> Span:
        """End an episode, and say where it lies."""
        span = Span(self._place, self._first / self._fps, self._frames / self._fps)
        self._first = self._frames
        if self._bytes >= self._max_bytes:
            self.close()
            self._place = self._place.next(self._chunk_size)
            self._frames = self._first = self._bytes = 0
        return span

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame, uint8 [height, width, 3] RGB."""
        if self._container is None:
            self._open()
        image = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image.pts, image.time_base = self._frames, Fraction(1, self._fps)
        self._mux(self._stream.encode(image))
        self._frames += 1

    def close(self) -> None:
        """Finish the open file."""
        if self._container is not None:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def info(self) -> dict[str, Any]:
        """What info.json says about the videos of this feature."""
        codec, pixels, _ = VIDEOS[self._video]
        return {
            "video.height": self._size[0],
            "video.width": self._size[1],
            "video.codec": "h264",
            "video.pix_fmt": "gbrp" if codec == "libx264rgb" else pixels,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }

    def _open(self) -> None:
        path = video_file(self._folder, self._key, self._place)
        path.parent.mkdir(parents=True, exist_ok=True)
        codec, pixels, options = VIDEOS[self._video]
        self._container = self._av.open(str(path), "w")
        self._stream = self._container.add_stream(codec, rate=self._fps, options=dict(options))
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = pixels
        self._stream.thread_count = 1

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self._bytes += packet.size
            self._container.mux(packet)


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise EpisodeError(
            "a LeRobotDataset needs the package av, which is not installed; type: pip install 'flexor[data]'"
        ) from error
    return av
