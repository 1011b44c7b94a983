"""Reports: the figures of a validation as files, plots, and sheets of cases; the curves of a training.

Plots use matplotlib's objects, not pyplot: they need no window system and change no global state.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optisar_yolo.engine.metrics import RIGHT_IOU, THRESHOLDS, TITLES, GroundingMetrics
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import (
    COLOURS,
    EvaluatedExpression,
    batch_sheet,
    colour_of,
    draw_sheet,
    save_figure,
    style_axes,
)


def write_report(
    metrics: GroundingMetrics, cases: Sequence[EvaluatedExpression], folder: str | Path, count: int = 12
) -> list[Path]:
    """Write the figures (JSON, CSV), all cases (CSV), the plots and the sheets of best and worst cases.

    Args:
        metrics: The validation's figures.
        cases: One case per expression, in the order of the metrics; or none, and no cases are listed or drawn.
        folder: Where to write; made if missing.
        count: Cases per sheet.

    Returns:
        The files written: metrics.json, metrics.csv, iou_histogram.png, precision.png, and with cases cases.csv,
        best.png and worst.png.

    Raises:
        ValueError: There are cases, but not one per expression.
        OSError: The folder cannot be written, or the disk is full.
    """
    if cases and len(cases) != len(metrics):
        raise ValueError(f"{len(cases)} cases for {len(metrics)} expressions: give one case per expression")
    folder = Path(folder)
    metrics.to_json(folder / "metrics.json")
    metrics.to_csv(folder / "metrics.csv")
    files = [folder / "metrics.json", folder / "metrics.csv"]
    files.append(save_figure(iou_histogram(metrics), folder / "iou_histogram.png"))
    files.append(save_figure(precision_curve(metrics), folder / "precision.png"))
    if cases:
        files.append(write_atomic(folder / "cases.csv", cases_csv(cases, metrics)))
        for name, best in (("best", True), ("worst", False)):
            chosen = choose_cases(cases, list(metrics.column("modality")), count, best)
            title = f"{'Best' if best else 'Worst'} {len(chosen)} of {len(cases)} expressions"
            files.append(save_figure(draw_sheet(chosen, title), folder / f"{name}.png"))
    return files


def confident_sheets(
    cases: Sequence[EvaluatedExpression], modalities: Sequence[str], folder: Path, count: int = 12
) -> list[Path]:
    """Write sheets of the most confident cases (the paper's Fig. 10): ``right.png`` and ``failures.png``.

    Args:
        cases: Cases of a validation.
        modalities: The modality of each.
        folder: Folder to write to.
        count: Cases per sheet.

    Returns:
        The sheets; one without cases is left out.
    """
    files = []
    for name, right in (("right", True), ("failures", False)):
        pairs = [p for p in zip(cases, modalities, strict=True) if (p[0].iou >= RIGHT_IOU) == right]
        if not pairs:
            continue
        chosen = most_confident([case for case, _ in pairs], [modality for _, modality in pairs], count)
        kind = f"right ones (IoU of at least {RIGHT_IOU})" if right else f"failures (IoU below {RIGHT_IOU})"
        title = f"The {len(chosen)} most confident of {len(pairs)} {kind}, {len(cases)} expressions in all"
        files.append(save_figure(draw_sheet(chosen, title), folder / f"{name}.png"))
    return files


def iou_histogram(metrics: GroundingMetrics) -> Figure:
    """Plot the distribution of the IoU in each modality, as shares of its expressions."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    ious, modality = metrics.column("iou").astype(float), metrics.column("modality")
    edges = np.linspace(0, 1, 21)
    for name in metrics.modalities:
        own = ious[modality == name]
        if len(own):
            share = np.histogram(own, edges)[0] / len(own) * 100
            label = f"{TITLES.get(name, name)} (n = {len(own)}, mean {100 * own.mean():.1f} %)"
            axes.stairs(share, edges, fill=True, alpha=0.25, color=colour_of(name))
            axes.stairs(share, edges, color=colour_of(name), linewidth=1.8, label=label)
    axes.set(xlim=(0, 1), xlabel="IoU with the true box (no box: 0)", ylabel="share of expressions (%)")
    return _finish(axes, "IoU of the predicted boxes")


def precision_curve(metrics: GroundingMetrics) -> Figure:
    """Plot Pr@t over the threshold t for each modality and all, with the reported thresholds marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    ious, modality = metrics.column("iou").astype(float), metrics.column("modality")
    grid = np.linspace(0.01, 1, 100)  # above 0: IoU >= 0 holds for every box
    for name in (*metrics.modalities, "all"):
        own = ious if name == "all" else ious[modality == name]
        if len(own):
            style, label = "--" if name == "all" else "-", TITLES.get(name, name)
            axes.plot(grid, [100 * (own >= t).mean() for t in grid], style, color=colour_of(name), lw=1.8, label=label)
            axes.plot(
                THRESHOLDS, [100 * (own >= t).mean() for t in THRESHOLDS], "o", markersize=5, color=colour_of(name)
            )
    axes.set(xlim=(0, 1), ylim=(0, 102), xlabel="IoU threshold t", ylabel="Pr@t (%)")
    return _finish(axes, "Share of expressions with IoU ≥ t")


def training_sheet(batch: dict[str, Any], path: str | Path) -> Path:
    """Save the first images of a training batch with their objects and expressions (see `batch_sheet`), PNG or JPEG."""
    return save_figure(batch_sheet(batch), Path(path))


def training_curves(record: str | Path, path: str | Path) -> Path:
    """Save the curves of a training: each loss term, meanIoU and Pr@0.5 over the epochs.

    Args:
        record: The run's results.csv: a column ``epoch``, and columns ``train/...`` and ``metrics/...``.
        path: Image to write.

    Returns:
        The image's path.

    Raises:
        FileNotFoundError: There is no record.
        ValueError: The record has no rows.
    """
    with open(record, newline="", encoding="utf-8") as file:
        rows = [{k.strip(): _number(v) for k, v in row.items() if k} for row in csv.DictReader(file)]
    if not rows:
        raise ValueError(f"{record}: no epochs recorded, so there are no curves to draw")
    epochs = [row["epoch"] for row in rows]
    losses = [key for key in rows[0] if key.startswith("train/")]
    figures = ("meanIoU", "cumIoU", "Pr@0.5", "Pr@0.9")
    named = re.compile(r"metrics/meanIoU\((.+)\)")
    groups = [m[1] for key in rows[0] if (m := named.fullmatch(key)) and m[1] != "all"] + ["all"]
    columns = max(len(figures), min(len(losses), 6))
    lines = math.ceil(len(losses) / columns) + 1
    height = 2.8 * lines
    figure = Figure(figsize=(3.4 * columns, height))
    # Fixed margins in inches: matplotlib's own layout search takes seconds for a dozen panels.
    figure.subplots_adjust(0.14 / columns, 0.5 / height, 1 - 0.04 / columns, 1 - 0.35 / height, 0.22, 0.42)
    grid = figure.subplots(lines, columns, squeeze=False)
    marker = "o" if len(rows) == 1 else ""  # a single point draws no line
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, key in zip(grid[:-1].ravel(), losses, strict=False):
        axes.set_axis_on()
        axes.plot(epochs, [row[key] for row in rows], marker=marker, color=COLOURS["all"])
        style_axes(axes, key)
    for axes, name in zip(grid[-1], figures, strict=False):
        axes.set_axis_on()
        for group in groups:
            values = [100 * row.get(f"metrics/{name}({group})", math.nan) for row in rows]
            if np.isfinite(values).any():
                style = "--" if group == "all" else "-"
                axes.plot(epochs, values, style, marker=marker, color=colour_of(group), label=TITLES.get(group, group))
        style_axes(axes, f"{name} (%)")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, Path(path))


def _number(cell: object) -> float:
    """Read a cell of a record; an empty one is NaN."""
    return float(cell) if isinstance(cell, str) and cell.strip() else math.nan


def _finish(axes: Axes, title: str) -> Figure:
    """Add title, grid and legend, or a note where there is nothing to plot."""
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "no expressions", ha="center", va="center", transform=axes.transAxes)
    return axes.figure  # type: ignore[return-value]


def choose_cases(
    cases: Sequence[EvaluatedExpression], modalities: Sequence[str], count: int, best: bool
) -> list[EvaluatedExpression]:
    """Pick the cases with the highest or lowest IoU, of equal IoUs the most confident; sorted by IoU.

    Args:
        cases: All cases.
        modalities: The modality of each.
        count: Cases to pick at most.
        best: The highest IoUs, or the lowest.
    """
    chosen = _pick(cases, modalities, count, lambda c: (-c.iou if best else c.iou, -_confidence(c)))
    return sorted(chosen, key=lambda c: c.iou, reverse=best)


def most_confident(
    cases: Sequence[EvaluatedExpression], modalities: Sequence[str], count: int
) -> list[EvaluatedExpression]:
    """Pick the most confident cases, sorted by falling confidence; cases without a box come last."""
    return sorted(_pick(cases, modalities, count, lambda c: -_confidence(c)), key=_confidence, reverse=True)


def _pick(
    cases: Sequence[EvaluatedExpression],
    modalities: Sequence[str],
    count: int,
    key: Callable[[EvaluatedExpression], Any],
) -> list[EvaluatedExpression]:
    """Take the first cases by a key from the modalities in turn, each image once as long as there are new ones."""
    pairs = sorted(zip(cases, modalities, strict=True), key=lambda pair: key(pair[0]))
    queues = [[case for case, m in pairs if m == modality] for modality in sorted(set(modalities))]
    seen: set[Path] = set()
    chosen: list[EvaluatedExpression] = []
    while any(queues) and len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                place = next((i for i, case in enumerate(queue) if case.path not in seen), 0)
                chosen.append(queue.pop(place))
                seen.add(chosen[-1].path)
    return chosen


def _confidence(case: EvaluatedExpression) -> float:
    return case.conf if math.isfinite(case.conf) else -1.0


def cases_csv(cases: Sequence[EvaluatedExpression], metrics: GroundingMetrics) -> str:
    """List all cases as CSV; coordinates to a hundredth of a pixel.

    Args:
        cases: One case per expression of `metrics`, in its order.
        metrics: Knows each expression's modality, category, kind and difficulty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    corners = ("x1", "y1", "x2", "y2")
    writer.writerow(
        ["picture", "modality", "category", "kind", "hard", "caption", "iou", "conf"]
        + [f"{box}_{corner}" for box in ("true", "pred") for corner in corners]
    )
    columns = (metrics.column(name) for name in ("modality", "category", "kind", "hard"))
    for case, modality, category, kind, hard in zip(cases, *columns, strict=True):
        conf = f"{case.conf:.4f}" if math.isfinite(case.conf) else ""
        box = case.predicted_box
        pred = [""] * 4 if box is None else [f"{v:.2f}" for v in box]
        writer.writerow(
            [case.path, modality, category, kind, "" if hard is None else int(hard), case.caption, f"{case.iou:.4f}"]
            + [conf, *(f"{v:.2f}" for v in case.target), *pred]
        )
    return out.getvalue()
