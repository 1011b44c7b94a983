"""Routing of the PL-MoE blocks (OptiSAR-Net++ Sect. III-B, Eq. 1-3): the experts of each patch, and their use.

1. :class:`RoutingRecorder` keeps the gates of a network's last forward; :class:`Routing` are those of one image.
2. :class:`ExpertUse` adds their shares up over a data split, by modality and category (the paper's Fig. 9).
3. :func:`expert_table` and :func:`expert_figure` write the result.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor, nn

from optisar_yolo.data import MODALITIES, ImageRecord
from optisar_yolo.engine.grounding import ROUTING, SIZES, CanvasImages, NetworkRunner
from optisar_yolo.engine.metrics import TITLES
from optisar_yolo.nn import Encoded, MoEBlock, named_parts
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import Frame, add_colour_bar, save_figure

Column = tuple[str, str]  # "modality" or "category", and its name
MEASURES = {"weight": "mean gate weight", "first": "share of largest weight"}
NARROWEST = 7.2  # inches: as much as the titles need
CELL, LEFT, TOP, BOTTOM, PANEL_GAP = (0.62, 0.27), 0.6, 0.45, 1.35, 0.85  # inches: a cell, and the margins of a matrix


class Shares(NamedTuple):
    """How much the experts of a block are used; each is [E] and sums to 1.

    Attributes:
        weight: Mean gate weight (the g of Eq. 1).
        first: Share of the area whose patches weigh this expert most.
    """

    weight: NDArray[np.float64]
    first: NDArray[np.float64]


class Routing(NamedTuple):
    """The routing of one block in one image.

    Attributes:
        gates: Gate weights float32 [E, rows, columns] of the patches, 0 for experts that were not kept.
        cell: Height and width of a patch, canvas pixels.
        top_k: Experts kept per patch.
    """

    gates: NDArray[np.float32]
    cell: tuple[float, float]
    top_k: int

    @property
    def first(self) -> NDArray[np.int64]:
        """Expert of the largest weight, [rows, columns]."""
        return self.gates.argmax(0)

    def shares(self, frame: Frame, box: NDArray[np.float64] | None = None) -> Shares:
        """Use of the experts over the image without its padding, or over a box [4] xyxy in canvas pixels."""
        area = frame.coverage((self.gates.shape[1], self.gates.shape[2]), self.cell, box)
        chosen = np.arange(len(self.gates))[:, None, None] == self.first
        return Shares(*((maps * area).sum((1, 2)) for maps in (self.gates.astype(np.float64), chosen)))


class RoutingRecorder:
    """Keeps the gates of a network's PL-MoE blocks in its last forward in this thread. The network is not changed.

    Args:
        net: The network, fused or not.
    """

    def __init__(self, net: Any) -> None:
        self.thread = threading.get_ident()
        self.blocks = named_parts(net, MoEBlock, "moe")
        self.last: dict[str, tuple[Tensor, tuple[float, float]]] = {}  # gates [B, E, rows, columns], patch in cells
        self.strides: dict[str, int] = {}  # rows of the block's map, whose share of the canvas gives the stride
        self.handles = []
        for name, block in self.blocks.items():
            self.handles.append(block.register_forward_pre_hook(self._size(name)))
            self.handles.append(block.experts.register_forward_pre_hook(self._keep(name)))

    def _size(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == self.thread:
                self.strides[name] = args[0].shape[2]

        return hook

    def _keep(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            x, gates = args[0], args[1]  # a third one, the patch's sides, follows from these two
            if threading.get_ident() == self.thread:
                patch = (x.shape[2] / gates.shape[2], x.shape[3] / gates.shape[3])
                self.last[name] = gates.detach(), patch

        return hook

    def take(self, encoded: CanvasImages) -> None:
        """Take the gates that a graph gave with the images, in the place of a forward in PyTorch."""
        for name in self.blocks:
            gates, sizes = encoded.made[f"{ROUTING}{name}"], encoded.made[f"{ROUTING}{name}{SIZES}"]
            height, width, rows = sizes[0].tolist()
            self.last[name] = gates, (height / gates.shape[2], width / gates.shape[3])
            self.strides[name] = rows

    def of(self, row: int, canvas: Sequence[int]) -> dict[str, Routing]:
        """Return the routing of one image of the last forward, by block.

        Args:
            row: Of the image in its batch.
            canvas: Height and width of the canvas, pixels.
        """
        found = {}
        for name, (gates, patch) in self.last.items():
            stride = canvas[0] / self.strides[name]
            cell = (patch[0] * stride, patch[1] * stride)
            found[name] = Routing(gates[row].float().cpu().numpy(), cell, self.blocks[name].gate.top_k)
        return found

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self.handles:
            handle.remove()
        self.handles = []


class ExpertMatrix(NamedTuple):
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
        """Return how much optical and SAR images differ, 0 (equal) to 1 (disjoint); None for one modality."""
        places = [self.columns.index(("modality", m)) for m in MODALITIES if ("modality", m) in self.columns]
        values = getattr(self, measure)[:, places]
        return float(np.abs(values[:, 0] - values[:, 1]).sum() / 2) if len(places) == len(MODALITIES) else None


class ExpertUse:
    """Adds up the experts' use, image by image.

    A modality's column is the mean over its images of the use in the image without its padding. A category's column is
    the mean over its labelled objects of the use in the patches that the box covers, weighted by area.

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
            routing: Its routing, by block.
        """
        for block, chosen in routing.items():
            self._count(block, ("modality", image.modality), chosen.shares(frame))
            for box, category in zip(frame.on_canvas(image.boxes), image.categories.tolist(), strict=True):
                self._count(block, ("category", self.names[category]), chosen.shares(frame, box))

    def _count(self, block: str, column: Column, shares: Shares) -> None:
        entry = self.sums.setdefault(block, {}).setdefault(column, [0, 0.0, 0.0])
        entry[0] += 1
        entry[1], entry[2] = entry[1] + shares.weight, entry[2] + shares.first

    def merge(self, other: ExpertUse) -> None:
        """Add the images of another process."""
        for block, sums in other.sums.items():
            for column, (count, weight, first) in sums.items():
                entry = self.sums.setdefault(block, {}).setdefault(column, [0, 0.0, 0.0])
                entry[:] = [entry[0] + count, entry[1] + weight, entry[2] + first]

    def matrices(self) -> dict[str, ExpertMatrix]:
        """Return the matrix of each block; modalities in their order, then categories in that of the dataset config."""
        found = {}
        for block, sums in self.sums.items():
            seen_by = {name for kind, name in sums if kind == "modality"}
            order = [("modality", m) for m in (*MODALITIES, *sorted(seen_by.difference(MODALITIES)))]
            order += [("category", name) for name in self.names]
            columns = [column for column in order if column in sums]
            weight, first = (np.stack([sums[c][i] / sums[c][0] for c in columns], 1) for i in (1, 2))
            found[block] = ExpertMatrix(columns, [sums[c][0] for c in columns], weight, first)
        return found


class ExpertUseRecorder:
    """Records the experts' use of a network while a split is validated.

    Args:
        net: The network, fused or not, or what an engine runs in its place.
        names: Category names by index.
    """

    def __init__(self, net: Any, names: Sequence[str]) -> None:
        network = net.torch_copy() if isinstance(net, NetworkRunner) else net
        self.use, self.recorder = ExpertUse(names), RoutingRecorder(network)

    def add(
        self,
        row: int,
        image: ImageRecord,
        extent: NDArray[np.float32],
        canvas: tuple[int, int],
        encoded: Encoded | CanvasImages | None = None,
    ) -> None:
        """Add an image of the last forward.

        Args:
            row: Of the image in its batch.
            image: The image with its objects.
            extent: [4], of the image in its canvas.
            canvas: Height and width of the canvas.
            encoded: What the forward gave; that of an engine holds the gates.
        """
        if isinstance(encoded, CanvasImages):
            self.recorder.take(encoded)
        frame = Frame((image.width, image.height), canvas, extent)
        self.use.add(image, frame, self.recorder.of(row, canvas))

    def write(self, folder: Path) -> list[Path]:
        """Write ``expert_use.csv`` and ``expert_use.png`` and return them; none for a network without experts."""
        self.recorder.close()
        matrices = self.use.matrices()
        if not matrices:
            return []
        table = write_atomic(folder / "expert_use.csv", expert_table(matrices))
        return [table, save_figure(expert_figure(matrices), folder / "expert_use.png")]


def expert_table(matrices: dict[str, ExpertMatrix]) -> str:
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


def expert_figure(matrices: dict[str, ExpertMatrix]) -> Figure:
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


def _matrix(axes: Axes, m: ExpertMatrix, block: str, measure: str) -> None:
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
    add_colour_bar(axes, image, "%")
