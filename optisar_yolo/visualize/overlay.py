"""Boxes and their expressions on an image.

1. A box is an outline in the colour of its expression. Boxes at one place are nested, so that each can be seen, and no
   outline leaves the image.
2. A tag at a corner of a box has its number: that of the expression in the legend, and where an expression has several
   boxes, a second number, 1 for the most confident one.
3. The legend below the image has all expressions, each with its confidence or "nothing found".

:class:`DrawingStyle` leaves parts of this out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from optisar_yolo.visualize.fonts import TextFonts, report_missing

PALETTE = ("#ffb000", "#00c2ff", "#ff4f9a", "#66e36f", "#b28dff", "#ff7a3d", "#f5f56a", "#5ce0c8")  # on dark and light
LEGEND = "#16202c"
NOTHING = "#8c98a6"
MIN_WIDTH = 320  # pixels; smaller images are enlarged, so that expressions can be read

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class DrawingStyle:
    """What is drawn, in the words of Ultralytics' ``plot``.

    Attributes:
        line_width: Width of the outlines, pixels; None: by the size of the image.
        boxes: Draw the outlines and their numbers.
        conf: Say confidences in the legend.
        labels: Draw the numbers and the legend.
    """

    line_width: float | None = None
    boxes: bool = True
    conf: bool = True
    labels: bool = True


PLAIN = DrawingStyle()


def draw_predictions(
    image: np.ndarray,
    boxes: np.ndarray,
    expressions: dict[int, str],
    style: DrawingStyle = PLAIN,
    tracks: Sequence[int] | None = None,
) -> Image.Image:
    """Draw boxes on an image, and the expressions with their confidences in a legend below it.

    Args:
        image: Image [h, w, 3], BGR.
        boxes: [n, 6]: xyxy in pixels, confidence, index of the expression.
        expressions: By index.
        style: What is drawn.
        tracks: [n] identities of the boxes in a video, which take the place of second numbers: "2 #7".

    Returns:
        The canvas with its legend.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    scale = max(MIN_WIDTH / canvas.width, 1.0)
    if scale > 1:
        canvas = canvas.resize((round(canvas.width * scale), round(canvas.height * scale)), Image.Resampling.BICUBIC)
    size = max(round(min(canvas.size) / 28), 11)
    report_missing("".join(expressions.values()))
    fonts = TextFonts(size)
    lines = _legend(boxes, expressions, fonts, canvas.width - 3.5 * size, style.conf) if style.labels else []
    step = round(size * 1.5)
    out = Image.new("RGB", (canvas.width, canvas.height + (step * len(lines) + size if lines else 0)), LEGEND)
    out.paste(canvas)
    pen = ImageDraw.Draw(out)
    if style.boxes:
        rows = np.asarray(boxes, float).reshape(-1, 6)
        tags = (
            numbers_of(rows) if tracks is None else [f"{int(r[5]) + 1} #{i}" for r, i in zip(rows, tracks, strict=True)]
        )
        width = max(round(style.line_width or min(canvas.size) / 200), 1 if style.line_width else 2)
        _draw_boxes(pen, rows, scale, canvas.size, size, width, tags if style.labels else [])
    y = canvas.height + size // 2
    for j, text, found in lines:
        if j is not None:
            side = size * 2 // 3
            pen.rectangle([size // 2, y + size // 3, size // 2 + side, y + size // 3 + side], fill=colour_of(j))
        fonts.draw(pen, (2 * size, y), text, "white" if found else NOTHING)
        y += step
    return out


def colour_of(j: int) -> str:
    """Return the colour of an expression, by its index."""
    return PALETTE[j % len(PALETTE)]


def numbers_of(boxes: np.ndarray) -> list[str]:
    """Return the number of each box [n, 6]: "2" of the second expression, "2.1", "2.2" where it has several boxes."""
    own = boxes[:, 5].astype(int)
    numbers = []
    for i, j in enumerate(own):
        rivals = np.flatnonzero(own == j)
        rank = int(np.flatnonzero(rivals[np.argsort(-boxes[rivals, 4], kind="stable")] == i)[0]) + 1
        numbers.append(f"{j + 1}.{rank}" if len(rivals) > 1 else f"{j + 1}")
    return numbers


def _legend(
    boxes: np.ndarray, expressions: dict[int, str], fonts: TextFonts, width: float, confidences: bool
) -> list[tuple[int | None, str, bool]]:
    """Return the lines of the legend: index of the expression that begins here, text, whether it has a box."""
    lines: list[tuple[int | None, str, bool]] = []
    for j, text in expressions.items():
        found = sorted((float(b[4]) for b in boxes if int(b[5]) == j), reverse=True)
        outcome = f": {found[0]:.2f}" if found else ": nothing found"
        if len(found) > 1:
            outcome = f": {len(found)} boxes, {found[0]:.2f} to {found[-1]:.2f}"
        if found and not confidences:
            outcome = f": {len(found)} boxes" if len(found) > 1 else ""
        first, *more = fonts.wrap(f"{j + 1}  {text}{outcome}", width)
        lines += [(j, first, bool(found)), *((None, line, bool(found)) for line in more)]
    return lines


def _draw_boxes(
    pen: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    scale: float,
    size: tuple[int, int],
    letters: int,
    width: int,
    tags: Sequence[str],
) -> None:
    """Draw outlines, the largest first, then the tags above all of them, where there are any."""
    order = np.argsort(-np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1), kind="stable")
    outlines = nested(boxes[:, :4] * scale, size, width)
    for i in order:
        left, top, right, bottom = outlines[i]
        pen.rectangle([left, top, right, bottom], outline="black", width=1)
        inner = [left + 1, top + 1, right - 1, bottom - 1]
        pen.rectangle(inner, outline=colour_of(int(boxes[i, 5])), width=width)
    fonts = TextFonts(max(round(letters * 0.8), 10))
    taken: list[Rectangle] = []
    for i in order if tags else ():
        across, high = fonts.length(tags[i]) + 6, fonts.size * 1.25
        place = _free_place(outlines[i], (across, high), size, taken)
        taken.append(place)
        pen.rectangle(place, fill=LEGEND)
        fonts.draw(pen, (place[0] + 3, place[1] + 1), tags[i], "white")


def nested(boxes: np.ndarray, size: tuple[int, int], width: int) -> list[Rectangle]:
    """Return the outlines of boxes, such that those at one place surround each other and none leaves the image.

    Args:
        boxes: [n, 4] xyxy in pixels of the drawing.
        size: Its width and height.
        width: Width of a line, pixels.

    Returns:
        Left, top, right, bottom of each outline, its dark rim included.
    """
    step = width + 1  # the line and its rim
    same = np.abs(boxes[:, None] - boxes[None]).max(-1) < 2 * step  # closer than that, lines would cover each other
    level = np.array([int(same[i, :i].sum()) for i in range(len(boxes))], int)
    outlines = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        deepest = int(level[same[i]].max())
        grow, margin = width + level[i] * step, (deepest - level[i]) * step
        left, top = max(x1 - grow, margin), max(y1 - grow, margin)
        right, bottom = min(x2 + grow, size[0] - 1 - margin), min(y2 + grow, size[1] - 1 - margin)
        outlines.append((left, top, max(right, left + 2 * step), max(bottom, top + 2 * step)))
    return outlines


def _free_place(
    box: Rectangle, tag: tuple[float, float], size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """Return a place for a tag at a corner of its box where no other tag is; the upper left one if all are taken."""
    left, top, right, bottom = box
    across, high = tag
    corners = [
        (left, top - high), (right - across, top - high), (left, bottom + 1), (right - across, bottom + 1),
        (left - across, top), (right + 1, top), (left, top), (right - across, bottom - high),
    ]  # fmt: skip
    beside = [(left + n * (across + 1), y) for n in range(1, 12) for y in (top - high, bottom + 1)]
    places = [_inside((x, y, x + across, y + high), size) for x, y in corners + beside]
    return next((p for p in places if not any(_meet(p, other) for other in taken)), places[0])


def _inside(place: Rectangle, size: tuple[int, int]) -> Rectangle:
    """Push a rectangle into the image."""
    left, top, right, bottom = place
    right, bottom = right - left, bottom - top
    left = min(max(left, 0), max(size[0] - 1 - right, 0))
    top = min(max(top, 0), max(size[1] - 1 - bottom, 0))
    return left, top, left + right, top + bottom


def _meet(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
