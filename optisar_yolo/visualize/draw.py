"""Ultralytics' results of expressions: drawn with their numbers and a legend, and read as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ultralytics.engine.results import Results
from ultralytics.utils import LOGGER

from optisar_yolo.language import ObjectQuery
from optisar_yolo.utils import file_name_of
from optisar_yolo.visualize.overlay import PALETTE as PALETTE, DrawingStyle, draw_predictions as draw_predictions
from optisar_yolo.visualize.table import table_of, tidy_rows


class GroundingResults(Results):
    """Ultralytics' results, drawn with their expressions and listed by them.

    Attributes:
        notes: What a box cannot answer, such as a negation: expression -> message. Most expressions have none.
        query: How each expression was read: expression -> `optisar_yolo.language.ObjectQuery`, one line as a string.
    """

    notes: dict[str, str]
    query: dict[str, ObjectQuery]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes, self.query = {}, {}

    @property
    def count(self) -> dict[str, int]:
        """Number of boxes of each expression."""
        which = [] if self.boxes is None else [int(j) for j in self.boxes.cls.tolist()]
        return {text: which.count(j) for j, text in self.names.items()}

    @property
    def rows(self) -> np.ndarray:
        """The boxes [n, 6]: xyxy in pixels, confidence, index of the expression, without the identities of a video."""
        if self.boxes is None:
            return np.zeros((0, 6))
        data = self.boxes.data.cpu().numpy()
        return np.concatenate([data[:, :4], data[:, -2:]], 1)  # between them, a tracked box has its identity

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
        for c, j in self.rows[:, 4:6].tolist():
            best.setdefault(int(j), []).append(c)
        return "".join(f'"{self.names[j]}" {_outcome(confs)}, ' for j, confs in best.items())

    def to_df(self, normalize: bool = False, decimals: int = 5, library: str = "polars") -> Any:
        """Return a tidy table: a row per expression and box, and a row for each expression without a box.

        Args:
            normalize: Coordinates as shares of the image.
            decimals: Digits of coordinates and confidences.
            library: ``"polars"``, as Ultralytics gives tables, or ``"pandas"``.

        Returns:
            Data frame with the columns ``text`` (the expression), ``answered``, ``confidence``, ``x1``, ``y1``, ``x2``,
            ``y2`` (pixels), ``rank`` (1 is the best box of an expression), ``track`` (id in a video), ``note`` and
            ``image``. Without a box, confidence, coordinates and rank are null.

        Raises:
            ValueError: Another library.
            MissingExtraError: The library is not installed.
        """
        return table_of(tidy_rows(self, normalize, decimals), library)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the boxes as JSON, in Ultralytics' form."""
        return str(super().to_df(normalize, decimals).write_json())

    def plot(  # type: ignore[override]
        self,
        conf: bool = True,
        line_width: float | None = None,
        *args: Any,
        img: np.ndarray | None = None,
        pil: bool = False,
        labels: bool = True,
        boxes: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
        **kwargs: Any,
    ) -> np.ndarray | Image.Image:
        """Draw the boxes, and below the image each expression with its confidence, or "nothing found".

        Args:
            conf: Say confidences.
            line_width: Width of the outlines, pixels; by the size of the image by default.
            *args: Ultralytics' further drawing options, which have no effect here.
            img: Draw on this image instead (BGR).
            pil: Return a PIL image.
            labels: Draw the numbers of the boxes, and the legend with the expressions.
            boxes: Draw the boxes.
            show: Open it in a window.
            save: Write it to ``filename``.
            filename: Where to; ``results_<image>`` by default.
            **kwargs: As ``args``.

        Returns:
            The drawing, BGR [h, w, 3] unless ``pil``; taller than the image by its legend.
        """
        if args or kwargs:
            LOGGER.warning(f"plot: no effect here: {', '.join([*map(repr, args), *kwargs])}")
        style = DrawingStyle(line_width, boxes, conf, labels)
        image = self.orig_img if img is None else img
        ids = None if self.boxes is None or self.boxes.id is None else self.boxes.id.int().tolist()
        drawing = draw_predictions(image, self.rows, self.names, style, ids)
        if show:
            drawing.show()
        if save:
            drawing.save(filename or f"results_{Path(self.path).name}")
        return drawing if pil else np.asarray(drawing)[..., ::-1].copy()


def _outcome(confs: Sequence[float]) -> str:
    """Return what was found for an expression: one confidence, or how many boxes and the range of theirs."""
    return f"{confs[0]:.2f}" if len(confs) == 1 else f"{len(confs)} found, {max(confs):.2f} to {min(confs):.2f}"
