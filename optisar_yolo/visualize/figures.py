"""Figures of matplotlib: their colours and how they are saved.

Plots are drawn through matplotlib's objects, not pyplot: no window system is needed, and no global state is touched.
"""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optisar_yolo.utils import write_atomic

COLOURS = {"optical": "#1f77b4", "sar": "#d95f02", "all": "#333333"}


def style_axes(axes: Axes, title: str) -> None:
    """Give a panel over epochs its title, axis and grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, in one step; the path."""
    out = io.BytesIO()
    figure.savefig(out, format=path.suffix[1:] or "png", dpi=110)
    return write_atomic(path, out.getvalue())
