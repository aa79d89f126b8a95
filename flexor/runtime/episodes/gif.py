"""An episode as a small moving picture: its cameras side by side over a caption."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flexor.runtime.episodes.episode import Episode
from flexor.runtime.episodes.episode_schema import EpisodeError

LOWEST_HEIGHT = 256  # px; smaller frames are enlarged by a whole factor, so that pixels stay square
CAPTION_HEIGHT = 44  # px, two lines
FONT_SIZE = 15  # px
LAST_FRAME_MS = 1500
COLOURS = {"success": "#7ad67a", "failure": "#f07070"}


def write_gif(episode: Episode, path: Path | str) -> None:
    """Write the episode's recorded frames as a looping GIF in the robot's own time.

    Raises:
        EpisodeError: the episode has no frames, or the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise EpisodeError(f"cannot write the picture {path}: it is a folder; give the name of a file")
    moving = gif_bytes(episode)
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(moving)
        os.replace(draft, path)
    except OSError as error:
        raise EpisodeError(f"cannot write the picture {path}: {error}; choose another file") from error


def gif_bytes(episode: Episode, height: int = LOWEST_HEIGHT, most: int | None = None) -> bytes:
    """The same GIF in memory.

    Args:
        height: px; smaller frames are enlarged by a whole factor to about this.
        most: at most so many pictures, chosen evenly, the first and the last among them; None takes all.

    Raises:
        EpisodeError: the episode has no frames.
    """
    steps = frame_steps(episode, most)
    if not steps:
        raise EpisodeError(
            f"episode {episode.id} has no frames, so there is nothing to show; record some with frames()"
        )
    pictures = [_picture(episode, step, height) for step in steps]
    # One palette for all: pictures with palettes of their own flicker.
    palette = _palette(pictures)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    waits_ms = [round(wait * 1000 / episode.meta.hz) for wait in np.diff(steps)] + [LAST_FRAME_MS]
    stream = io.BytesIO()
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:], duration=waits_ms, loop=0)
    return stream.getvalue()


def frame_steps(episode: Episode, most: int | None = None) -> list[int]:
    """The steps at which a camera was recorded; of more than `most`, so many chosen evenly."""
    steps = sorted(set().union(*episode.frames.values()))
    if most is None or len(steps) <= most:
        return steps
    return [steps[at] for at in np.linspace(0, len(steps) - 1, most).round().astype(int).tolist()]


def _picture(episode: Episode, step: int, lowest: int) -> Image.Image:
    views = [_enlarged(frames[step], lowest) for frames in episode.frames.values() if step in frames]
    width, height = sum(view.width for view in views), max(view.height for view in views)
    picture = Image.new("RGB", (width, height + CAPTION_HEIGHT), "#15171c")
    left = 0
    for view in views:
        picture.paste(view, (left, 0))
        left += view.width
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE)
    seconds = f"{step / episode.meta.hz:5.1f} s   step {step}"
    ended = step == max(max(frames, default=0) for frames in episode.frames.values())
    status = f"{seconds}   {episode.outcome}" if ended else seconds
    if episode.interventions[episode.steps == step].any():
        status += "   intervention"
    colour = COLOURS.get(episode.outcome, "#d0d0d0") if ended else "#9aa0aa"
    draw.text((8, height + 3), _fitting(episode.meta.prompt, font, width - 16), "#ffffff", font)
    draw.text((8, height + 3 + CAPTION_HEIGHT // 2 - 2), status, colour, font)
    return picture


def _enlarged(frame: np.ndarray, lowest: int) -> Image.Image:
    image = Image.fromarray(frame)
    factor = max(1, round(lowest / image.height))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _palette(pictures: list[Image.Image]) -> Image.Image:
    sample = pictures[:: max(1, len(pictures) // 8)]
    sheet = Image.new("RGB", (sample[0].width, sum(picture.height for picture in sample)))
    top = 0
    for picture in sample:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet.quantize(colors=256, method=Image.Quantize.MEDIANCUT)
