"""Drawing: figures of matplotlib, as PNG and SVG that can be read on a light and on a dark ground."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flexor.errors import FlexorError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#7d8590"
COLOURS = ("#3b82f6", "#22a06b", "#c98a1b", "#d9534f", "#8e6bd1", "#3aa6a6", "#9aa0aa")
FORMATS = {"png": "image/png", "svg": "image/svg+xml"}
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "flexor",  # the same figure gives the same file
}


def drawn(draw: Callable[[Figure], None], size: tuple[float, float]) -> dict[str, bytes]:
    """What `draw` makes of an empty figure of `size` inches, by format.

    Raises:
        FlexorError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FlexorError(f"a plot needs matplotlib ({error}); install it with `pip install 'flexor[plot]'`") from error
    undated: Mapping[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 110}}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        files = {}
        for name in FORMATS:
            stream = io.BytesIO()
            figure.savefig(stream, format=name, **undated[name])
            figure.set_layout_engine("none")  # what was laid out once stays so: that takes most of the time
            files[name] = stream.getvalue()
    return files


def plain(text: str) -> str:
    """Text from a file as matplotlib shows it: short, and no formula."""
    return (text if len(text) <= 40 else f"{text[:37]}...").replace("$", r"\$")
