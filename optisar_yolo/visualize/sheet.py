"""Sheets of images with boxes and expressions: predictions of a validation, and samples of a training batch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optisar_yolo.data import DataError, read_image
from optisar_yolo.visualize.figures import add_box

TRUE, PREDICTED = "#2fd62f", "#ff3030"
COLUMNS = 4  # panels beside each other
WIDTH, GAP, TEXT, MARGIN = 3.5, 0.14, 0.74, 0.55  # inches: panel, space between, expression, title and key
TALLEST = 1.3  # a panel's height in widths; taller images are shown narrower
PIXELS = 420  # longest side of a drawn image: legible, and a sheet stays at about 2 MB
WRAP = 56  # characters of an expression per line
INSET = 0.38  # the magnified inset's side as a share of the image's shorter one
CONTEXT = 3.0  # sides of the true box that the inset shows
MAGNIFIED = 1.5  # an inset that magnifies less is left out
LINE = 0.18  # inches: a line of a training image's expressions
OBJECTS = ("#2fd62f", "#ffb000", "#4cc9f0", "#ff5db1", "#a06bff")  # colours of objects and their expressions


class EvaluatedExpression(NamedTuple):
    """One expression of a validation with its target and its prediction.

    Attributes:
        path: The image file.
        caption: The expression.
        target: True box, xyxy in pixels of the image.
        pred: Predicted box, likewise; None or NaN for no box.
        conf: Confidence of the predicted box; NaN for none.
        iou: IoU of the two boxes.
    """

    path: Path
    caption: str
    target: Sequence[float] | np.ndarray
    pred: Sequence[float] | np.ndarray | None
    conf: float
    iou: float

    @property
    def predicted_box(self) -> np.ndarray | None:
        """The predicted box as float64 [4], or None where there is none."""
        box = None if self.pred is None else np.asarray(self.pred, np.float64)
        return box if box is not None and np.isfinite(box).all() else None


def draw_sheet(cases: Sequence[EvaluatedExpression], title: str) -> Figure:
    """Draw expressions as panels: the image with the true box (solid) and the predicted box (dashed).

    Args:
        cases: At least one expression.
        title: Heading of the sheet.

    Returns:
        The figure, to be saved.
    """
    images = [_load(case.path) for case in cases]
    figure, panels = _panels([p.shape for p in images], TEXT)
    for axes, case, image in zip(panels, cases, images, strict=True):
        _prediction(axes, case, image)
    keys = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=TRUE, linewidth=2.5, label="true box")]
    keys.append(
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=PREDICTED, linewidth=2, linestyle="--", label="predicted box")
    )
    heading = 1 - 0.5 * MARGIN / figure.get_figheight()
    figure.text(0.5, heading, title, fontsize=14, fontweight="bold", ha="center", va="center", parse_math=False)
    figure.legend(handles=keys, loc="lower center", ncols=2, frameon=False, fontsize=11)
    return figure


def batch_sheet(batch: dict[str, Any], count: int = 8) -> Figure:
    """Draw the first images of a training batch as they enter the network, with their objects and true expressions.

    An object without an expression of its own, and any beyond the fifth expression, has a thin white box.

    Args:
        batch: ``img`` [B, 3, H, W] RGB, uint8 or float in 0..1; ``bboxes`` [N, 4] xywh as shares of the canvas;
            ``batch_idx`` [N]; ``targets`` [N, T], 1 where an expression means the object; ``texts``, B lists of T
            expressions.
        count: Images at most.

    Returns:
        The figure, to be saved.
    """
    images = batch["img"][:count].detach().float().cpu().numpy().transpose(0, 2, 3, 1)
    images = images if batch["img"].dtype.is_floating_point else images / 255
    if images.shape[3] != 3:  # the first three bands, or the first as grey
        images = images[..., :3] if images.shape[3] > 3 else images[..., [0, 0, 0]]
    height, width = images.shape[1:3]
    owner, targets = batch["batch_idx"].long().cpu().numpy(), batch["targets"].cpu().numpy()
    x, y, w, h = batch["bboxes"].detach().float().cpu().numpy().T
    corners = np.stack(
        [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height], axis=1
    )  # [N, 4] xywh, pixels
    # For each image its expressions, and for each object the first that means it, as an index into that list.
    listed: list[list[str]] = [[] for _ in images]
    place = np.full(len(owner), -1)
    for row, number in enumerate(owner.tolist()):
        meant = np.flatnonzero(targets[row] == 1)
        if number < len(images) and len(meant):
            text = batch["texts"][number][meant[0]]
            if text not in listed[number]:
                listed[number].append(text)
            place[row] = listed[number].index(text)
    lines = min(max(map(len, listed)), len(OBJECTS))
    figure, panels = _panels([image.shape for image in images], LINE * (lines + 1))
    for number, (axes, image) in enumerate(zip(panels, images, strict=True)):
        axes.imshow(image.clip(0, 1), interpolation="none", extent=(0, width, height, 0))
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        for row in np.flatnonzero(owner == number).tolist():
            known = 0 <= place[row] < len(OBJECTS)
            colour, line = (OBJECTS[place[row]], 2.0) if known else ("white", 0.9)
            add_box(axes, corners[row], colour, line, spread=1.2)
        for line_number, (text, colour) in enumerate(reversed(list(zip(listed[number], OBJECTS, strict=False)))):
            rise = 4 + 72 * LINE * line_number  # points above the image
            short = textwrap.shorten(text, WRAP, placeholder=" …")
            for offset, mark, ink in ((0, "\N{BLACK SQUARE}", colour), (11, short, "black")):
                axes.annotate(
                    mark, (0, 1), (offset, rise), xycoords="axes fraction", textcoords="offset points",
                    fontsize=8.5, color=ink, parse_math=False,
                )  # fmt: skip
    return figure


def _panels(shapes: Sequence[tuple[int, ...]], text: float) -> tuple[Figure, list[Axes]]:
    """Lay out panels in rows, each as tall as its tallest image, with room for text above each.

    Args:
        shapes: Height and width of each image.
        text: Room above a panel in inches.
    """
    columns = min(COLUMNS, len(shapes))
    rows = [range(i, min(i + columns, len(shapes))) for i in range(0, len(shapes), columns)]
    tall = [max(min(shapes[i][0] / shapes[i][1], TALLEST) for i in row) * WIDTH for row in rows]
    width = columns * (WIDTH + GAP) + GAP
    height = sum(tall) + len(rows) * (text + GAP) + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    top = height - MARGIN
    panels = []
    for row, panel in zip(rows, tall, strict=True):
        top -= text
        for column in range(len(row)):
            left = GAP + column * (WIDTH + GAP)
            area = (left / width, (top - panel) / height, WIDTH / width, panel / height)
            panels.append(figure.add_axes(area, anchor="N"))
        top -= panel + GAP
    return figure, panels


def _load(path: Path) -> np.ndarray:
    """Read an image; a grey field stands for one that has become unreadable."""
    try:
        return read_image(path)
    except DataError:
        return np.full((3, 4, 3), 200, np.uint8)


def _prediction(axes: Axes, case: EvaluatedExpression, image: np.ndarray) -> None:
    """Draw one expression: the whole image, because expressions refer to places in it, and a small target magnified."""
    words = textwrap.wrap(f"“{case.caption}”", WRAP, max_lines=3, placeholder=" …")
    found = "no box" if case.predicted_box is None else f"IoU {case.iou:.2f}"
    conf = "" if case.predicted_box is None or not math.isfinite(case.conf) else f", conf {case.conf:.2f}"
    # parse_math=False: a dollar sign in an expression must not start a formula.
    axes.set_title("\n".join([*words, f"{found}{conf}  ·  {case.path.name}"]), fontsize=8.5, pad=4, parse_math=False)
    height, width = image.shape[:2]
    _draw(axes, case, image, (0, 0, width, height))
    x1, y1, x2, y2 = (float(v) for v in case.target)
    side, short = CONTEXT * max(x2 - x1, y2 - y1), min(width, height)
    if 0 < side * MAGNIFIED <= INSET * short:
        reach = side / 2
        cx = min(max((x1 + x2) / 2, reach), width - reach)
        cy = min(max((y1 + y2) / 2, reach), height - reach)
        corner = _free_corner(case, width, height)
        share = (INSET * short / width, INSET * short / height)
        inset = axes.inset_axes((corner[0] * (1 - share[0]), (1 - corner[1]) * (1 - share[1]), *share))
        _draw(inset, case, image, (cx - reach, cy - reach, cx + reach, cy + reach))
        for spine in inset.spines.values():
            spine.set(visible=True, color="white", linewidth=1.5)


def _free_corner(case: EvaluatedExpression, width: int, height: int) -> tuple[int, int]:
    """Return the corner (0 or 1 in x, in y downwards) that is farthest from the nearest box."""
    boxes = [np.asarray(box, float) for box in (case.target, case.predicted_box) if box is not None]
    centres = [((b[0] + b[2]) / 2 / width, (b[1] + b[3]) / 2 / height) for b in boxes]
    return max(
        ((x, y) for x in (0, 1) for y in (0, 1)), key=lambda c: min(math.hypot(c[0] - a, c[1] - b) for a, b in centres)
    )


def _draw(axes: Axes, case: EvaluatedExpression, image: np.ndarray, view: tuple[float, float, float, float]) -> None:
    """Draw a part of the image, and the boxes over it; coordinates stay those of the image."""
    x1, y1, x2, y2 = math.floor(view[0]), math.floor(view[1]), math.ceil(view[2]), math.ceil(view[3])
    part = image[y1:y2, x1:x2]
    scale = PIXELS / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    axes.imshow(cv2.cvtColor(part, cv2.COLOR_BGR2RGB), interpolation="none", extent=(x1, x2, y2, y1))
    axes.set(xlim=(x1, x2), ylim=(y2, y1), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    boxes = [(np.asarray(case.target, float), TRUE, "-", 2.2)]
    if (box := case.predicted_box) is not None:
        boxes.append((box, PREDICTED, "--", 1.8))
    height, width = image.shape[:2]
    for edges, colour, style, line in boxes:
        a, b, c, d = np.clip(edges, 0, [width, height, width, height])
        add_box(axes, (a, b, c - a, d - b), colour, line, style)
