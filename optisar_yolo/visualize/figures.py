"""Figures of matplotlib: style and saving, and panels that show an image with a map over it and its colour bar.

Figures are drawn through matplotlib's objects, not pyplot: no window system is needed, and no global state is touched.
"""

from __future__ import annotations

import io
import math
import textwrap
import unicodedata
import warnings
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from ultralytics.utils import LOGGER

from optisar_yolo.utils import write_atomic

COLOURS = {"optical": "#1f77b4", "sar": "#d95f02", "all": "#333333"}
_FURTHER = ("#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")  # of modalities that a data set declares


def colour_of(group: str) -> str:
    """Return the colour of a modality or of "all"; a declared modality has the same one in every figure."""
    return COLOURS.get(group) or _FURTHER[zlib.crc32(group.encode()) % len(_FURTHER)]


PANEL_WIDTH, TALLEST = 2.6, 3.2  # inches: of a panel, and the most that a tall image may take
PANEL_GAP = 0.15  # inches between panels without colour bars
HEADING, BOLD = 12, 1.15  # points of a figure's title, and how much wider bold letters are
BAR, LINE, MARGIN = 0.62, 0.19, 0.15  # inches: colour bar, line of text, edge
PANEL_TITLE, PANEL_HEAD = 0.24, 0.4  # inches: title of a panel and of the figure
LEAST_TICK, MOST_TICK = 0.02, 1000  # a colour bar that ends outside of these has a power of ten
PIXELS = 480  # longest side of a drawn image
LINES = 3  # of an expression above a row of panels
LETTER = 0.0078  # inches: mean width of a letter per point of its size, a little more than that of English text
PANEL_SHORTEST = 1.15  # inches that a row takes at least: as much as the label of a colour bar needs
VEIL = 0.62  # opacity of a map over its image
FOUND, BELOW = "#ffffff", "#c0c0c0"
# Fonts with the characters that matplotlib's own font lacks; the installed ones are used.
MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip


def style_axes(axes: Axes, title: str) -> None:
    """Give a panel over epochs its title, axis and grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, in one step.

    Characters that no installed font has are reported once per figure.

    Returns:
        The path.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    out = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(out, format=path.suffix[1:] or "png", dpi=110)
    missing = {str(w.message).split("missing from")[0].strip() for w in caught if "missing from font" in str(w.message)}
    if missing:
        LOGGER.warning(f"{path.name}: no installed font has {len(missing)} characters of the text, shown as boxes")
    for w in caught:
        if "missing from font" not in str(w.message):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return write_atomic(path, out.getvalue())


def panel_grid(
    rows: int, columns: int, size: tuple[int, int], title: str, lines: int
) -> tuple[Figure, list[list[Axes]]]:
    """Lay out panels for maps of one image, with room for text above each row and a colour bar beside each panel.

    Args:
        rows: Of panels.
        columns: Of panels.
        size: Width and height of the image, pixels.
        title: Heading of the figure.
        lines: Of text above each row.

    Returns:
        The figure and its panels, row by row.
    """
    scale = min(1.0, TALLEST / (PANEL_WIDTH * size[1] / size[0]))
    tall = max(PANEL_WIDTH * scale * size[1] / size[0], 0.3)
    spare = max(PANEL_SHORTEST - tall, 0.0)
    step = tall + spare + PANEL_TITLE + lines * LINE + MARGIN
    width = columns * (PANEL_WIDTH + BAR) + MARGIN
    headings = wrapped(title, width - 2 * MARGIN, HEADING * BOLD, 2)
    head = PANEL_HEAD + (len(headings) - 1) * LINE * HEADING / 9
    height = head + rows * step
    figure = Figure(figsize=(width, height))
    heading = "\n".join(headings)
    draw_text(
        figure, MARGIN / width, 1 - 0.5 * head / height, heading, fontsize=HEADING, fontweight="bold", va="center"
    )
    grid = []
    for row in range(rows):
        bottom = (height - head - (row + 1) * step + MARGIN + spare) / height
        places = [(MARGIN + c * (PANEL_WIDTH + BAR)) / width for c in range(columns)]
        grid.append([figure.add_axes((x, bottom, PANEL_WIDTH / width, tall / height), anchor="W") for x in places])
    return figure, grid


def draw_text(on: Any, x: float, y: float, text: str, **look: Any) -> None:
    """Write text in any script on a figure or panel; a dollar sign does not start a formula."""
    on.text(x, y, text, parse_math=False, fontfamily=families(), **look)


def draw_lines_above(axes: Axes, lines: list[str]) -> None:
    """Write lines of text above a panel's title, from its left edge."""
    for n, line in enumerate(reversed(lines)):
        axes.annotate(
            line, (0, 1), (0, 72 * (PANEL_TITLE + n * LINE)), xycoords="axes fraction", textcoords="offset points",
            fontsize=9, parse_math=False, fontfamily=families(),
        )  # fmt: skip


def wrap_heading(text: str, columns: int) -> list[str]:
    """Break the text above a row of panels into lines."""
    return wrapped(text, columns * (PANEL_WIDTH + BAR) - MARGIN, 9, LINES)


def wrapped(text: str, width: float, size: float, lines: int) -> list[str]:
    """Break text into lines that fit; text beyond the last line is left out.

    Args:
        text: In any script.
        width: Inches of a line.
        size: Of the letters, points.
        lines: At most.
    """
    return textwrap.wrap(text, _letters(text, width, size), max_lines=lines, placeholder=" …") or [""]


def shortened(name: str, width: float, size: float) -> str:
    """Leave out the middle of a name that does not fit on this width (inches) in letters of this size (points)."""
    room = _letters(name, width, size)
    return name if len(name) <= room else f"{name[: (room - 1) // 2]}…{name[len(name) - room // 2 :]}"


def _letters(text: str, width: float, size: float) -> int:
    """Return how many letters of a text fit on a width; Chinese, Japanese and Korean ones are about twice as wide."""
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return max(int(width / (LETTER * size * (1 + wide))), 8)


def draw_image(axes: Axes, image: np.ndarray, title: str, grey: bool = True, room: float = PANEL_WIDTH + 0.4) -> None:
    """Show an image; its pixels become the panel's coordinates.

    Args:
        axes: The panel.
        image: Image uint8 [h, w, 3] BGR.
        title: Of the panel.
        grey: Without its colours, under a map.
        room: Inches that the title may take.
    """
    height, width = image.shape[:2]
    scale = min(1.0, PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    shown = np.repeat(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)[..., None], 3, 2) if grey else small[..., ::-1]
    axes.imshow(shown, interpolation="bilinear", extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(
        shortened(title, room, 8.5), fontsize=8.5, loc="left", pad=3, parse_math=False, fontfamily=families()
    )


def draw_map(
    axes: Axes, values: np.ndarray, edges: tuple[float, float, float, float], smooth: bool, **look: Any
) -> Any:
    """Draw a map [h, w] over a panel's image; what lies over the padding is cut off.

    Args:
        axes: The panel, with its image.
        values: The map.
        edges: Left, right, bottom and top of it in pixels of the image.
        smooth: Blend from cell to cell.
        **look: ``cmap``, ``vmin``, ``vmax``.
    """
    limits = axes.get_xlim(), axes.get_ylim()
    image = axes.imshow(
        values, extent=edges, interpolation="bilinear" if smooth else "nearest", alpha=VEIL, aspect="equal", **look
    )
    axes.set(xlim=limits[0], ylim=limits[1])
    return image


def add_colour_bar(axes: Axes, image: Any, label: str) -> None:
    """Put a map's colour bar beside its panel, as tall as the image is drawn."""
    figure: Any = axes.figure
    share, (wide, high) = axes.get_position(), figure.get_size_inches()
    width, height = abs(np.subtract(*axes.get_xlim())), abs(np.subtract(*axes.get_ylim()))
    drawn, tall = share.width * wide, share.height * high  # inches that the image takes
    if axes.get_aspect() != "auto":
        drawn = min(drawn, tall * width / height)
        tall = drawn * height / width
    colours = figure.colorbar(image, cax=axes.inset_axes((1 + 0.06 / drawn, 0, 0.08 / drawn, 1)))
    colours.ax.yaxis.set_major_locator(MaxNLocator(min(max(round(tall / 0.4), 2), 8)))
    # short ticks, the power of ten in the label: above the bar it would cover the panel's title
    top = max(abs(v) for v in image.get_clim())
    power = 0 if top == 0 or LEAST_TICK <= top < MOST_TICK else math.floor(math.log10(top))
    colours.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:.3g}"))
    colours.ax.tick_params(labelsize=6.5, length=2, pad=1)
    # the label of a short bar continues below it
    colours.set_label(
        label + (f", 1e{power}" if power else ""),
        fontsize=7,
        labelpad=2,
        loc="top" if tall < PANEL_SHORTEST else "center",
    )


def draw_box(axes: Axes, box: np.ndarray, found: bool) -> None:
    """Draw a box [4] xyxy in pixels of the image: solid, or dashed where its confidence is below the threshold."""
    x1, y1, x2, y2 = (float(v) for v in box)
    colour, style = (FOUND, "-") if found else (BELOW, (0, (3, 2)))
    add_box(axes, (x1, y1, x2 - x1, y2 - y1), colour, 1.8, style, spread=1.6)


def add_box(
    axes: Axes,
    xywh: Sequence[float] | np.ndarray,
    colour: str,
    line: float,
    style: Any = "-",
    halo: str = "black",
    spread: float = 1.4,
) -> list[AbstractPathEffect]:
    """Draw a box with a halo, so that it is visible on any ground, and return the effect for texts beside it.

    Args:
        axes: The panel, with the image's pixels as coordinates.
        xywh: Left, top, width and height.
        colour: Of the line.
        line: Its width, points.
        style: As matplotlib's ``linestyle``.
        halo: Colour of the halo.
        spread: Width of the halo beyond the line, points.
    """
    x, y, w, h = xywh
    box = Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=line, linestyle=style)
    effects: list[AbstractPathEffect] = [withStroke(linewidth=line + spread, foreground=halo)]
    box.set_path_effects(effects)
    axes.add_patch(box)
    return effects


@cache
def families() -> list[str]:
    """Return the fonts in which characters are looked for, in this order."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]
