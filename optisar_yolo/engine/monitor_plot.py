"""Draws the record of a watched training: expert use as heat maps, everything else as curves over the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optisar_yolo.engine.metrics import TITLES
from optisar_yolo.engine.monitor import Row, blocks_of, gates, modalities_of, read_record, uses
from optisar_yolo.visualize import COLOURS, save_figure, style_axes

HEAT_RANGE = 2.0  # in powers of two: the colours reach from a quarter of a fair share to four times of it
LEVEL_COLOURS = ("#1b9e77", "#7570b3", "#e6ab02", "#a6761d", "#666666")
COLUMNS, WIDTH, HEIGHT = 4, 4.2, 3.2  # size of a panel in inches

Panel = Callable[[Axes, Sequence[Row]], None]


def monitor_plot(record: str | Path, path: str | Path) -> Path:
    """Draw a training's record; parts that the model does not have are left out.

    Args:
        record: The run's monitor.csv.
        path: Image to write.

    Returns:
        The image's path.

    Raises:
        ValueError: The record is missing, empty or not one.
    """
    rows = read_record(record)
    if not rows:
        raise ValueError(f"{record}: no epochs recorded, so there is nothing to draw")
    last = rows[-1]
    panels: list[Panel] = []
    if "region/mean(all)" in last:
        panels.append(_region)
    if gates(last):
        panels += [_gates, _effect]
    if any(key.startswith("text_scale/") for key in last):
        panels.append(_text_scale)
    if blocks_of(last):
        panels.append(_entropy)
    for block in blocks_of(last):
        used = [m for m in modalities_of(last) if any(uses(r, block, m) for r in rows)]
        panels += [partial(_heat, block=block, modality=m) for m in used]
    lines = max(math.ceil(len(panels) / COLUMNS), 1)
    height = HEIGHT * lines
    figure = Figure(figsize=(WIDTH * COLUMNS, height))
    figure.subplots_adjust(0.13 / COLUMNS, 0.5 / height, 1 - 0.06 / COLUMNS, 1 - 0.4 / height, 0.25, 0.45)
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, draw in zip(grid.ravel(), panels, strict=False):
        axes.set_axis_on()
        draw(axes, rows)
    return save_figure(figure, Path(path))


def _curve(axes: Axes, rows: Sequence[Row], key: str, label: str, style: str = "-", **look: object) -> None:
    """Plot a column over the epochs."""
    marker = "o" if len(rows) == 1 else ""  # a single point draws no line
    values = [row.get(key, math.nan) for row in rows]
    axes.plot([row["epoch"] for row in rows], values, style, marker=marker, label=label, **look)  # type: ignore[arg-type]


def _legend(axes: Axes, title: str) -> None:
    style_axes(axes, title)
    axes.legend(frameon=False, fontsize=7, ncols=2)


def _region(axes: Axes, rows: Sequence[Row]) -> None:
    """Region accuracy: mean of the levels thick, single levels thin, chance dotted."""
    levels = [key[len("region/") : -len("(all)")] for key in rows[-1] if key.startswith("region/P") and "(all)" in key]
    for level, colour in zip(levels, LEVEL_COLOURS, strict=False):
        _curve(axes, rows, f"region/{level}(all)", level, color=colour, lw=0.9)
    _curve(axes, rows, "region/mean(all)", "mean, all cells", color=COLOURS["all"], lw=1.8)
    _curve(axes, rows, "region/mean(foreground)", "mean, objects", "--", color=COLOURS["all"], lw=1.8)
    axes.axhline(rows[-1]["region/chance"], color="#999999", ls=":", lw=1.2, label="chance")
    axes.set_ylim(0, 1.02)
    _legend(axes, "region accuracy (share of cells)")


def _entropy(axes: Axes, rows: Sequence[Row]) -> None:
    """Entropies of router and use, and the busiest expert's share."""
    for block, colour in zip(blocks_of(rows[-1]), LEVEL_COLOURS, strict=False):
        _curve(axes, rows, f"{block}/use_entropy", f"{block} use", color=colour)
        _curve(axes, rows, f"{block}/router_entropy", f"{block} router", "--", color=colour)
        _curve(axes, rows, f"{block}/busiest", f"{block} busiest expert", ":", color=colour)
    axes.set_ylim(0, 1.02)
    _legend(axes, "routing: entropy (1 = even), busiest expert's share")


def _gates(axes: Axes, rows: Sequence[Row]) -> None:
    """Fusion gates: mean of the heads, with the range of the heads shaded."""
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) == 1 else ""
    for name, colour in zip(gates(rows[-1]), LEVEL_COLOURS, strict=False):
        for kind, sign, style in (("alpha", "α", "-"), ("beta", "β", "--")):
            heads = np.array([gates(row).get(name, {}).get(kind) or [math.nan] for row in rows])  # [epochs, heads]
            axes.plot(epochs, heads.mean(1), style, marker=marker, color=colour, label=f"{name} {sign}")
            axes.fill_between(epochs, heads.min(1), heads.max(1), color=colour, alpha=0.15, lw=0)
    axes.axhline(0, color="#999999", lw=0.8)
    _legend(axes, "fusion gates (mean and range of the heads)")


def _effect(axes: Axes, rows: Sequence[Row]) -> None:
    for name, colour in zip(gates(rows[-1]), LEVEL_COLOURS, strict=False):
        _curve(axes, rows, f"{name}/effect", name, color=colour)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    _legend(axes, "effect of the text on the map (0 = none)")


def _text_scale(axes: Axes, rows: Sequence[Row]) -> None:
    levels = [key for key in rows[-1] if key.startswith("text_scale/")]
    for key, colour in zip(levels, LEVEL_COLOURS, strict=False):
        _curve(axes, rows, key, key.removeprefix("text_scale/"), color=colour)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    _legend(axes, "scale of the text scores")


def _heat(axes: Axes, rows: Sequence[Row], block: str, modality: str) -> None:
    """Use of each expert over the epochs; white is a fair share, dark brown none."""
    found = [uses(row, block, modality) for row in rows]
    experts = max(len(u) for u in found)
    table = np.array([u or [math.nan] * experts for u in found]).T  # [experts, epochs]
    power = np.log2(np.maximum(table, 2.0 ** -(2 * HEAT_RANGE)))
    first, last = rows[0]["epoch"], rows[-1]["epoch"]
    image = axes.imshow(
        power, cmap="BrBG", vmin=-HEAT_RANGE, vmax=HEAT_RANGE, aspect="auto", origin="lower", interpolation="nearest",
        extent=(first - 0.5, last + 0.5, -0.5, experts - 0.5),
    )  # fmt: skip
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, ticks=[-2, -1, 0, 1, 2])  # type: ignore[union-attr]
    bar.ax.set_yticklabels(["≤¼", "½", "fair", "2x", "≥4x"], fontsize=7)
    style_axes(axes, f"{block}: use of the experts, {TITLES.get(modality, modality)}")
    axes.grid(False)
    axes.set_ylabel("expert", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
