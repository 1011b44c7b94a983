"""Answers drawn on the picture: a box for each sentence, and the sentences in a legend below."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from ultralytics.engine.results import Results

PALETTE = ("#ffb000", "#00c2ff", "#ff4f9a", "#66e36f", "#b28dff", "#ff7a3d", "#f5f56a", "#5ce0c8")  # on dark and light
LEGEND = "#16202c"
NOTHING = "#8c98a6"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # matplotlib brings it; most scripts
MIN_WIDTH = 320  # pixels; smaller pictures are enlarged, so that sentences can be read


class GroundingResults(Results):
    """Ultralytics' results, drawn with their sentences."""

    def new(self) -> GroundingResults:
        """An empty copy, as ultralytics' own conversions need it."""
        result = GroundingResults(orig_img=self.orig_img, path=self.path, names=self.names, speed=self.speed)
        result.save_dir = self.save_dir
        return result

    def verbose(self) -> str:
        """The sentences that got a box, as the log line of a picture shows them."""
        if self.boxes is None or not len(self.boxes):
            return "(nothing found), "
        return "".join(f'"{self.names[int(j)]}" {c:.2f}, ' for c, j in self.boxes.data[:, 4:6].tolist())

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
        """Draw the boxes, and below the picture each sentence with its confidence or "nothing found".

        Args:
            *args: Ultralytics' drawing options, which have no meaning here.
            img: Draw on this picture instead (BGR).
            pil: Return a PIL picture.
            show: Open it in a window.
            save: Write it to ``filename``.
            filename: Where to; ``results_<picture>`` by default.
            **kwargs: As ``args``.

        Returns:
            The drawing, BGR [h, w, 3] unless ``pil``; taller than the picture by its legend.
        """
        drawing = draw_answers(self.orig_img if img is None else img, self.boxes.data.cpu().numpy(), self.names)
        if show:
            drawing.show()
        if save:
            drawing.save(filename or f"results_{Path(self.path).name}")
        return drawing if pil else np.asarray(drawing)[..., ::-1].copy()


def draw_answers(image: np.ndarray, boxes: np.ndarray, sentences: dict[int, str]) -> Image.Image:
    """Draw answers.

    Args:
        image: Picture [h, w, 3], BGR.
        boxes: [n, 6]: xyxy in pixels, confidence, index of the sentence.
        sentences: By index.

    Returns:
        The picture with its legend.
    """
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    scale = max(MIN_WIDTH / picture.width, 1.0)
    if scale > 1:
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
    size = max(round(min(picture.size) / 28), 11)
    font = ImageFont.truetype(FONT, size)
    best = {j: max((float(b[4]) for b in boxes if int(b[5]) == j), default=None) for j in sentences}
    lines: list[tuple[int, str]] = []
    per_line = max(int((picture.width - 3 * size) / (0.55 * size)), 12)
    for j, text in sentences.items():
        said = f"{text}: " + ("nothing found" if best[j] is None else f"{best[j]:.2f}")
        wrapped = textwrap.wrap(said, per_line)
        lines += [(j, wrapped[0]), *((-1 - j, w) for w in wrapped[1:])]
    step = round(size * 1.5)
    out = Image.new("RGB", (picture.width, picture.height + step * len(lines) + size), LEGEND)
    out.paste(picture)
    pen = ImageDraw.Draw(out)
    width = max(round(min(picture.size) / 200), 2)
    for x1, y1, x2, y2, _, j in boxes.tolist():
        corners = [v * scale for v in (x1, y1, x2, y2)]
        grown = [corners[0] - width, corners[1] - width, corners[2] + width, corners[3] + width]
        pen.rectangle(grown, outline="black", width=1)
        pen.rectangle([g + d for g, d in zip(grown, (1, 1, -1, -1), strict=True)], outline=_colour(int(j)), width=width)
    y = picture.height + size // 2
    for j, text in lines:
        own = j if j >= 0 else -1 - j
        if j >= 0:
            side = size * 2 // 3
            pen.rectangle([size // 2, y + size // 3, size // 2 + side, y + size // 3 + side], fill=_colour(own))
        pen.text((2 * size, y), text, fill="white" if best[own] is not None else NOTHING, font=font)
        y += step
    return out


def _colour(j: int) -> str:
    return PALETTE[j % len(PALETTE)]
