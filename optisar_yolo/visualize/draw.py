"""Predictions drawn on the image: a box for each expression, and the expressions in a legend below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from ultralytics.engine.results import Results

from optisar_yolo.language import Query
from optisar_yolo.utils import file_name_of

PALETTE = ("#ffb000", "#00c2ff", "#ff4f9a", "#66e36f", "#b28dff", "#ff7a3d", "#f5f56a", "#5ce0c8")  # on dark and light
LEGEND = "#16202c"
NOTHING = "#8c98a6"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # matplotlib brings it; most scripts
MIN_WIDTH = 320  # pixels; smaller images are enlarged, so that expressions can be read


class GroundingResults(Results):
    """Ultralytics' results, drawn with their expressions.

    Attributes:
        notes: What a box cannot answer, such as a negation: expression -> message. Most expressions have none.
        query: How each expression was read: expression -> `optisar_yolo.language.Query`, one line as a string.
    """

    notes: dict[str, str]
    query: dict[str, Query]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes, self.query = {}, {}

    @property
    def count(self) -> dict[str, int]:
        """Number of boxes of each expression."""
        which = [] if self.boxes is None else [int(j) for j in self.boxes.cls.tolist()]
        return {text: which.count(j) for j, text in self.names.items()}

    def new(self) -> GroundingResults:
        """Return an empty copy, as Ultralytics' own conversions need it."""
        result = GroundingResults(orig_img=self.orig_img, path=self.path, names=self.names, speed=self.speed)
        result.save_dir = self.save_dir
        result.notes, result.query = self.notes, self.query
        return result

    def save_crop(self, save_dir: str | Path, file_name: str | Path = Path("im.jpg")) -> None:
        """Save the image inside each box, in a folder named after its expression.

        Args:
            save_dir: The folder of these folders; what an expression says never leads out of it.
            file_name: Name of the files.
        """
        safe = GroundingResults(
            self.orig_img, self.path, {i: file_name_of(text) for i, text in self.names.items()}, self.boxes.data
        )
        super(GroundingResults, safe).save_crop(save_dir, file_name)

    def verbose(self) -> str:
        """Return the expressions that got a box, for the log line of an image."""
        if self.boxes is None or not len(self.boxes):
            return "(nothing found), "
        best: dict[int, list[float]] = {}
        for c, j in self.boxes.data[:, 4:6].tolist():
            best.setdefault(int(j), []).append(c)
        return "".join(f'"{self.names[j]}" {_outcome(confs)}, ' for j, confs in best.items())

    def plot(  # type: ignore[override]
        self,
        *args: Any,
        img: np.ndarray | None = None,
        pil: bool = False,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
        **kwargs: Any,
    ) -> np.ndarray | Image.Image:
        """Draw the boxes, and below the image each expression with its confidence, or "nothing found".

        Args:
            *args: Ultralytics' drawing options, which are ignored.
            img: Draw on this image instead (BGR).
            pil: Return a PIL image.
            show: Open it in a window.
            save: Write it to ``filename``.
            filename: Where to; ``results_<image>`` by default.
            **kwargs: As ``args``.

        Returns:
            The drawing, BGR [h, w, 3] unless ``pil``; taller than the image by its legend.
        """
        drawing = draw_predictions(self.orig_img if img is None else img, self.boxes.data.cpu().numpy(), self.names)
        if show:
            drawing.show()
        if save:
            drawing.save(filename or f"results_{Path(self.path).name}")
        return drawing if pil else np.asarray(drawing)[..., ::-1].copy()


def draw_predictions(image: np.ndarray, boxes: np.ndarray, expressions: dict[int, str]) -> Image.Image:
    """Draw boxes on an image, and the expressions with their confidences in a legend below it.

    Args:
        image: Image [h, w, 3], BGR.
        boxes: [n, 6]: xyxy in pixels, confidence, index of the expression.
        expressions: By index.

    Returns:
        The canvas with its legend.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    scale = max(MIN_WIDTH / canvas.width, 1.0)
    if scale > 1:
        canvas = canvas.resize((round(canvas.width * scale), round(canvas.height * scale)), Image.Resampling.BICUBIC)
    size = max(round(min(canvas.size) / 28), 11)
    font = ImageFont.truetype(FONT, size)
    best = {j: [float(b[4]) for b in boxes if int(b[5]) == j] for j in expressions}
    lines: list[tuple[int, str]] = []
    per_line = max(int((canvas.width - 3 * size) / (0.55 * size)), 12)
    for j, text in expressions.items():
        wrapped = textwrap.wrap(f"{text}: {_outcome(best[j])}", per_line)
        lines += [(j, wrapped[0]), *((-1 - j, w) for w in wrapped[1:])]
    step = round(size * 1.5)
    out = Image.new("RGB", (canvas.width, canvas.height + step * len(lines) + size), LEGEND)
    out.paste(canvas)
    pen = ImageDraw.Draw(out)
    width = max(round(min(canvas.size) / 200), 2)
    for x1, y1, x2, y2, _, j in boxes.tolist():
        corners = [v * scale for v in (x1, y1, x2, y2)]
        grown = [corners[0] - width, corners[1] - width, corners[2] + width, corners[3] + width]
        pen.rectangle(grown, outline="black", width=1)
        pen.rectangle([g + d for g, d in zip(grown, (1, 1, -1, -1), strict=True)], outline=_colour(int(j)), width=width)
    y = canvas.height + size // 2
    for j, text in lines:
        own = j if j >= 0 else -1 - j
        if j >= 0:
            side = size * 2 // 3
            pen.rectangle([size // 2, y + size // 3, size // 2 + side, y + size // 3 + side], fill=_colour(own))
        pen.text((2 * size, y), text, fill="white" if best[own] else NOTHING, font=font)
        y += step
    return out


def _outcome(confs: Sequence[float]) -> str:
    """Return what was found for an expression: one confidence, or how many boxes and the range of theirs."""
    if not confs:
        return "nothing found"
    return f"{confs[0]:.2f}" if len(confs) == 1 else f"{len(confs)} found, {max(confs):.2f} to {min(confs):.2f}"


def _colour(j: int) -> str:
    return PALETTE[j % len(PALETTE)]
