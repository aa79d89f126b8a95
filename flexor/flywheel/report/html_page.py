"""HtmlPage: one HTML file that needs nothing else: no script, no other host, pictures as data URIs, light and dark.

Whatever text comes in is escaped here, and a content policy in the page forbids what should slip through.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from flexor.errors import FlexorError

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { --ground: #f4f5f7; --card: #fff; --text: #1c2128; --faint: #667080; --line: #d8dde4; --mark: #c23b3b; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #101318; --card: #191d24; --text: #e3e7ed; --faint: #929cab; --line: #313843; --mark: #f07a7a; }
}
body { margin: 0 auto; max-width: 1100px; padding: 12px 16px 40px; background: var(--ground); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 21px; } h2 { font-size: 17px; margin: 26px 0 6px; }
p { margin: 4px 0 10px; } .faint, figcaption { color: var(--faint); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; background: var(--card); }
th { text-align: left; color: var(--faint); font-weight: 500; }
th, td { padding: 3px 10px; border: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
figure { margin: 0 0 12px; background: var(--card); border: 1px solid var(--line); padding: 8px; }
figure img { max-width: 100%; height: auto; display: block; }
.row { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); }
.strip { display: flex; gap: 4px; overflow-x: auto; padding-bottom: 8px; }
.strip figure { flex: none; padding: 4px; } .strip img { width: 112px; image-rendering: auto; }
.strip figure.chunk { border-left: 3px solid var(--faint); } .strip figure.helped { border-top: 3px solid var(--mark); }
@media (max-width: 600px) { body { padding: 8px; } .row { grid-template-columns: minmax(0, 1fr); } }
"""


class HtmlPage:
    """Collects the parts of a page in their order, then writes it."""

    def __init__(self, title: str) -> None:
        self._title = escape(title)
        self._parts = [f"<h1>{self._title}</h1>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str, faint: bool = False) -> None:
        """A paragraph."""
        marked = ' class="faint"' if faint else ""
        self._parts.append(f"<p{marked}>{escape(text)}</p>")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows under named columns; None is an empty cell, a float has four significant digits."""
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')

    def picture(self, data: bytes, kind: str, caption: str = "") -> None:
        """A picture over a caption; kind: its media type, e.g. image/gif."""
        self._parts.append(_figure(data, kind, caption))

    def row(self, pictures: Iterable[tuple[bytes, str, str]]) -> None:
        """Pictures beside each other where there is room: data, media type, caption."""
        self._parts.append(f'<div class="row">{"".join(_figure(*picture) for picture in pictures)}</div>')

    def strip(self, frames: Iterable[tuple[bytes, str, str, str]]) -> None:
        """Small frames in one line that scrolls: data, media type, caption, and class: chunk, helped, both or none."""
        self._parts.append(f'<div class="strip">{"".join(_figure(*frame) for frame in frames)}</div>')

    def write(self, path: Path) -> None:
        """Write it to `path`.

        Raises:
            FlexorError: the disk refuses.
        """
        head = (
            f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark"><title>{self._title}</title><style>{STYLE}</style>'
        )
        body = "\n".join(self._parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')
        except OSError as error:
            raise FlexorError(f"cannot write the page to {path}: {error}; choose another --out") from error


def _figure(data: bytes, kind: str, caption: str, marks: str = "") -> str:
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    told = escape(caption)
    marked = f' class="{escape(marks)}"' if marks else ""
    return f'<figure{marked}><img src="{source}" alt="{told}"><figcaption>{told}</figcaption></figure>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
