"""Fonts for any script: each character is drawn with the first font that has it.

1. DejaVu Sans, which comes with matplotlib, has Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic and more.
2. For what it lacks, the installed fonts are looked through, those with many scripts first.
3. Characters that no font has are drawn as an empty frame, and named in the log once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont
from ultralytics.utils import LOGGER

DEFAULT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
PREFERRED = ("notosanscjk", "notosans-regular", "notosans", "sourcehansans", "arialunicode", "wqy", "msyh", "unifont")
"""How the files of fonts with many scripts are named, the best first."""


class TextFonts:
    """Measures and draws text of one size, with as many fonts as it needs.

    Args:
        size: Height of the letters, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def runs(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """Cut a text into parts of one font each."""
        for path, letters in groupby(text, key=lambda c: font_of(c) or DEFAULT):
            yield "".join(letters), _opened(path, self.size)

    def length(self, text: str) -> float:
        """Return the width of a text, pixels."""
        return sum(font.getlength(part) for part, font in self.runs(text))

    def draw(self, pen: object, xy: tuple[float, float], text: str, fill: str) -> None:
        """Draw a text with a pen of ``PIL.ImageDraw``; `xy` is the left end of the line's top."""
        x, y = xy
        base = y + _opened(DEFAULT, self.size).getmetrics()[0]
        for part, font in self.runs(text):
            pen.text((x, base), part, fill=fill, font=font, anchor="ls")  # type: ignore[attr-defined]
            x += font.getlength(part)

    def wrap(self, text: str, width: float) -> list[str]:
        """Break a text into lines of at most a width, at blanks where there are any, else between letters."""
        lines, line = [], ""
        for word in _words(text):
            if self.length(line + word.rstrip()) <= width:
                line += word
                continue
            if line.strip():
                lines.append(line.rstrip())
            line = word.lstrip()
            while line and self.length(line.rstrip()) > width and len(line) > 1:
                fits = next((n for n in range(len(line) - 1, 0, -1) if self.length(line[:n]) <= width), 1)
                lines.append(line[:fits])
                line = line[fits:]
        return [*lines, line.rstrip()] if line.strip() or not lines else lines


def font_of(character: str) -> Path | None:
    """Return the file of the first font that has a character; None where none has it."""
    if character.isspace() or unicodedata.category(character)[0] == "C" or ord(character) in _characters(DEFAULT):
        return DEFAULT
    return _installed_font_of(character)


@cache
def _installed_font_of(character: str) -> Path | None:
    return next((path for path in installed_fonts() if ord(character) in _characters(path)), None)


@cache
def installed_fonts() -> tuple[Path, ...]:
    """Return the installed fonts that can be scaled, those with many scripts first."""

    def order(path: Path) -> tuple[int, str]:
        name = path.name.lower().replace("_", "-")
        return next((i for i, start in enumerate(PREFERRED) if name.startswith(start)), len(PREFERRED)), name

    found = {Path(p) for p in font_manager.findSystemFonts()}  # .ttf, .ttc and .otf
    return tuple(sorted(found, key=order))


@cache
def _characters(path: Path) -> frozenset[int]:
    """Return the characters of a font; none of a file that is damaged or has bitmaps of one size alone."""
    try:
        font = FT2Font(str(path))
        ImageFont.truetype(path, 16)
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(font.get_charmap())


@cache
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


_reported: set[str] = set()


def report_missing(text: str) -> None:
    """Say once which characters of a text no font has."""
    missing = sorted({c for c in text if font_of(c) is None} - _reported)
    if missing:
        _reported.update(missing)
        shown = "".join(missing[:20])
        LOGGER.warning(
            f"no installed font has '{shown}': drawings show empty frames there; install a font that has them, such as "
            "Noto Sans (Debian: fonts-noto, fonts-noto-cjk)"
        )


def _words(text: str) -> Iterator[str]:
    """Cut a text after blanks; scripts without blanks are cut between letters."""
    word = ""
    for letter in text:
        wide = unicodedata.east_asian_width(letter) in "WF"
        if word and (wide or word[-1].isspace() and not letter.isspace()):
            yield word
            word = ""
        word += letter
        if wide:
            yield word
            word = ""
    if word:
        yield word
