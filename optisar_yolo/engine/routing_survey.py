"""Use of the experts over a data split: for each block a matrix of experts by modality and category (Fig. 9)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from optisar_yolo.data import MODALITIES, ImageRecord
from optisar_yolo.engine.metrics import TITLES
from optisar_yolo.engine.routing import Routing, RoutingRecorder, Shares
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import Frame, bar, save

Column = tuple[str, str]  # "modality" or "category", and its name
MEASURES = {"weight": "mean gate weight", "first": "share of largest weight"}
NARROWEST = 7.2  # inches: as much as the titles need
CELL, LEFT, TOP, BOTTOM, PANEL_GAP = (0.62, 0.27), 0.6, 0.45, 1.35, 0.85  # inches: a cell, and the margins of a matrix


class Matrix(NamedTuple):
    """Use of a block's experts.

    Attributes:
        columns: Modalities, then categories.
        counts: Of each column its images, of a category its objects.
        weight: Mean gate weight [E, columns]; each column sums to 1.
        first: Mean share of the area whose patches weigh this expert most [E, columns], likewise.
    """

    columns: list[Column]
    counts: list[int]
    weight: NDArray[np.float64]
    first: NDArray[np.float64]

    def apart(self, measure: str = "weight") -> float | None:
        """How differently optical and SAR images use the experts: 0 alike, 1 no expert in common; None of one."""
        places = [self.columns.index(("modality", m)) for m in MODALITIES if ("modality", m) in self.columns]
        values = getattr(self, measure)[:, places]
        return float(np.abs(values[:, 0] - values[:, 1]).sum() / 2) if len(places) == len(MODALITIES) else None


class ExpertUse:
    """Adds up the experts' use, image by image.

    A modality's column is the mean over its images of the use over the image without its padding; a category's
    column the mean over its labelled objects of the use in the patches that the box covers, by area.

    Args:
        names: Category names by index.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.sums: dict[str, dict[Column, list[Any]]] = {}  # block, column: count, sum of weight, sum of first

    def add(self, image: ImageRecord, frame: Frame, routing: dict[str, Routing]) -> None:
        """Add one image.

        Args:
            image: The image with its objects.
            frame: Its place in the canvas.
            routing: What its patches chose, by block.
        """
        for block, choices in routing.items():
            self._count(block, ("modality", image.modality), choices.shares(frame))
            for box, category in zip(frame.on_canvas(image.boxes), image.categories.tolist(), strict=True):
                self._count(block, ("category", self.names[category]), choices.shares(frame, box))

    def _count(self, block: str, column: Column, shares: Shares) -> None:
        entry = self.sums.setdefault(block, {}).setdefault(column, [0, 0.0, 0.0])
        entry[0] += 1
        entry[1], entry[2] = entry[1] + shares.weight, entry[2] + shares.first

    def merge(self, other: ExpertUse) -> None:
        """Add the images that another process has seen."""
        for block, sums in other.sums.items():
            for column, (count, weight, first) in sums.items():
                entry = self.sums.setdefault(block, {}).setdefault(column, [0, 0.0, 0.0])
                entry[:] = [entry[0] + count, entry[1] + weight, entry[2] + first]

    def matrices(self) -> dict[str, Matrix]:
        """Return the matrix of each block; modalities in their order, then categories in that of the card."""
        order = [("modality", m) for m in MODALITIES] + [("category", name) for name in self.names]
        found = {}
        for block, sums in self.sums.items():
            columns = [column for column in order if column in sums]
            weight, first = (np.stack([sums[c][i] / sums[c][0] for c in columns], 1) for i in (1, 2))
            found[block] = Matrix(columns, [sums[c][0] for c in columns], weight, first)
        return found


class Watch:
    """Follows the experts of a network while a split is validated.

    Args:
        net: The network, fused or not.
        names: Category names by index.
    """

    def __init__(self, net: Any, names: Sequence[str]) -> None:
        self.use, self.recorder = ExpertUse(names), RoutingRecorder(net)

    def add(self, row: int, image: ImageRecord, extent: NDArray[np.float32], canvas: tuple[int, int]) -> None:
        """Add an image of the last forward: its row there, its extent [4] in the canvas of this height and width."""
        frame = Frame((image.width, image.height), canvas, extent)
        self.use.add(image, frame, self.recorder.of(row, canvas))

    def write(self, folder: Path) -> list[Path]:
        """Write ``expert_use.csv`` and ``expert_use.png`` and return them; none for a network without experts."""
        self.recorder.close()
        matrices = self.use.matrices()
        if not matrices:
            return []
        table = write_atomic(folder / "expert_use.csv", expert_table(matrices))
        return [table, save(expert_figure(matrices), folder / "expert_use.png")]


def expert_table(matrices: dict[str, Matrix]) -> str:
    """List the matrices as CSV, one row per block, column and expert."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["block", "of", "name", "count", "expert", *MEASURES])
    for block, m in matrices.items():
        for j, (kind, name) in enumerate(m.columns):
            for i in range(len(m.weight)):
                shares = (f"{getattr(m, measure)[i, j]:.6f}" for measure in MEASURES)
                writer.writerow([block, kind, name, m.counts[j], i, *shares])
    return out.getvalue()


def expert_figure(matrices: dict[str, Matrix]) -> Figure:
    """Draw the matrices: experts in rows, modalities and categories in columns, one panel per block and measure."""
    columns = max(len(m.columns) for m in matrices.values())
    heights = [len(m.weight) * CELL[1] + TOP + BOTTOM for m in matrices.values() for _ in MEASURES]
    width, height = LEFT + columns * CELL[0] + PANEL_GAP, sum(heights)
    figure = Figure(figsize=(max(width, NARROWEST), height))
    wide, top = figure.get_figwidth(), height
    panels = [(block, m, measure) for block, m in matrices.items() for measure in MEASURES]
    for (block, m, measure), tall in zip(panels, heights, strict=True):
        rows = tall - TOP - BOTTOM
        area = (LEFT / wide, (top - TOP - rows) / height, len(m.columns) * CELL[0] / wide, rows / height)
        _matrix(figure.add_axes(area), m, block, measure)
        top -= tall
    return figure


def _matrix(axes: Axes, m: Matrix, block: str, measure: str) -> None:
    """Draw one matrix with its numbers in percent."""
    values = 100 * getattr(m, measure)
    experts, columns = values.shape
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=values.max(), aspect="auto")
    halo = [withStroke(linewidth=1.4, foreground="black")]
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{value:.0f}", fontsize=7, color="white", ha="center", va="center", path_effects=halo)
    apart = m.apart(measure)
    difference = "" if apart is None else f"; optical and SAR differ by {100 * apart:.0f} % (0: alike, 100: disjoint)"
    axes.set_title(f"{block}: {MEASURES[measure]}, %{difference}", fontsize=9, loc="left", parse_math=False)
    labels = [f"{TITLES.get(name, name)} ({n})" for (_, name), n in zip(m.columns, m.counts, strict=True)]
    axes.set_xticks(range(columns), labels, parse_math=False)
    axes.tick_params(axis="x", labelsize=7, labelrotation=35)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(experts))
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylabel("expert", fontsize=8)
    modalities = sum(kind == "modality" for kind, _ in m.columns)
    if modalities < columns:
        axes.axvline(modalities - 0.5, color="white", linewidth=3)
    bar(axes, image, "%")
