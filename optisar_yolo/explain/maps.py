"""Figures of one image: score maps (the paper's Fig. 8), activations and fusion, routing maps (Fig. 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from optisar_yolo.engine import Routing
from optisar_yolo.explain.explanation import Explanation, sigmoid
from optisar_yolo.visualize import (
    PANEL_SHORTEST,
    PANEL_WIDTH,
    Frame,
    above,
    backdrop,
    bar,
    board,
    heat,
    lines_above,
    outline,
)

SCORES, ACTIVATIONS, FACTORS, WEIGHTS = "viridis", "magma", "cividis", "viridis"  # readable without colour vision
# Okabe and Ito's colours, which can be told apart without full colour vision; numbers stand in the patches too
EXPERTS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
SCALE = (0.35, 0.3)  # inches left of and below the bars of the experts' shares
NUMBERED = 24  # patches per side, up to which their experts' numbers are written
SEEN = 0.2  # share of a patch's side that must lie in the image for its number to be written
LEAST_SPREAD = 0.01  # of the factors from the lowest colour to the highest
NAMED = 3  # candidates with a number


def score_figure(seen: Explanation, rows: slice) -> Figure:
    """Draw where each expression scores: the answer, the highest of all levels, each level, and what was compared.

    Args:
        seen: An image and its expressions.
        rows: Which of them.

    Returns:
        The figure, to be saved.
    """
    chosen = range(len(seen.texts))[rows]
    compared = seen.candidates.shape[1] > 0
    columns = 2 + len(seen.strides) + compared
    title = f"{Path(seen.path).name}: where the expressions score" + (", before candidates are compared" * compared)
    title += " (one colour scale an expression)"
    lines = [[*lines_above(f"“{seen.texts[t]}”", columns), _verdict(seen, t)] for t in chosen]
    figure, grid = board(len(chosen), columns, seen.frame.size, title, max(map(len, lines)))
    whole = (0.0, float(seen.frame.size[0]), float(seen.frame.size[1]), 0.0)
    maps = seen.score_maps
    for axes, t, own in zip(grid, chosen, lines, strict=True):
        answer = seen.answers[t]
        top = float(maps[t].max())
        above(axes[0], own)
        backdrop(axes[0], seen.image, "image and answer", grey=False)
        outline(axes[0], answer.box, answer.found)
        backdrop(axes[1], seen.image, f"score, highest of the levels: {top:.2g}")
        heat(axes[1], maps[t], whole, True, cmap=SCORES, vmin=0, vmax=top)
        outline(axes[1], answer.box, answer.found)
        image: Any = None
        for level, axis in enumerate(axes[2 : 2 + len(seen.strides)]):
            stride = seen.strides[level]
            values = sigmoid(seen.logits[level][t])
            backdrop(axis, seen.image, f"{seen.levels[level]}, stride {stride:g}: {_inside(seen, values, stride):.2g}")
            edges = seen.frame.edges((values.shape[0], values.shape[1]), (stride, stride))
            image = heat(axis, values, edges, False, cmap=SCORES, vmin=0, vmax=top)
        bar(axes[1 + len(seen.strides)], image, "score")
        if compared:
            _candidates(axes[-1], seen, t)
    return figure


def activation_figure(seen: Explanation, rows: slice) -> Figure:
    """Draw how strong the pyramid's features are, and how the text weighs them (Eq. 7).

    Args:
        seen: An image and its expressions.
        rows: Which of them; of a network without text in its pyramid there is one row for all.

    Returns:
        The figure, to be saved.
    """
    chosen = range(len(seen.activations[0]))[rows]
    title = f"{Path(seen.path).name}: mean absolute feature of the pyramid" + (
        ", and weight that the text gives it" if seen.fusions else ""
    )
    columns = len(seen.strides) + len(seen.fusions)
    lines = [lines_above(f"“{seen.texts[t]}”" if seen.guided else seen.notes[0], columns) for t in chosen]
    figure, grid = board(len(chosen), columns, seen.frame.size, title, max(map(len, lines)))
    for axes, t, own in zip(grid, chosen, lines, strict=True):
        above(axes[0], own)
        for axis, name, stride, values in zip(axes, seen.levels, seen.strides, seen.activations, strict=False):
            backdrop(axis, seen.image, f"{name}, stride {stride:g}")
            edges = seen.frame.edges((values.shape[1], values.shape[2]), (stride, stride))
            bar(axis, heat(axis, values[t], edges, False, cmap=ACTIVATIONS), "mean |feature|")
        for axis, (name, factors) in zip(axes[len(seen.strides) :], seen.fusions.items(), strict=True):
            values = factors[t].mean(0)
            cell = (seen.frame.canvas[0] / values.shape[0], seen.frame.canvas[1] / values.shape[1])
            backdrop(axis, seen.image, f"{name}, stride {cell[0]:g}: mean of {len(factors[t])} heads")
            edges = seen.frame.edges((values.shape[0], values.shape[1]), cell)
            spread = max(float(np.ptp(values)), LEAST_SPREAD) / 2  # rounding errors are no pattern
            middle = float(values.max() + values.min()) / 2
            look: Any = {"cmap": FACTORS, "vmin": middle - spread, "vmax": middle + spread}
            bar(axis, heat(axis, values, edges, False, **look), "factor (1: as it is)")
    return figure


def routing_figure(seen: Explanation) -> Figure:
    """Draw which expert each patch weighs most, how much, and the experts' shares of the image.

    Args:
        seen: An image of a network with PL-MoE.

    Returns:
        The figure, to be saved.
    """
    title = f"{Path(seen.path).name}: experts of the patches"
    figure, grid = board(len(seen.routing), 3, seen.frame.size, title, 1)
    for axes, (name, routing) in zip(grid, seen.routing.items(), strict=True):
        experts = len(routing.gates)
        side = routing.cell[0]
        above(axes[0], [f"{name}: {experts} experts, {routing.top_k} kept per patch of {side:g} x {side:g} pixels"])
        expert_map(axes[0], seen.image, seen.frame, routing, "expert of the largest weight")
        backdrop(axes[1], seen.image, "its weight")
        edges = seen.frame.edges((routing.gates.shape[1], routing.gates.shape[2]), routing.cell)
        lowest = 1 / routing.top_k if routing.top_k > 1 else 0
        weights = routing.gates.max(0)
        highest = max(float(weights.max()), lowest + LEAST_SPREAD)
        image = heat(axes[1], weights, edges, False, cmap=WEIGHTS, vmin=lowest, vmax=highest)
        bar(axes[1], image, f"gate weight (of {routing.top_k})")
        _shares(axes[2], routing, seen.frame)
    return figure


def expert_map(axes: Axes, image: np.ndarray, frame: Frame, routing: Routing, title: str) -> None:
    """Colour an image's patches by the expert of the largest weight, with its number where there is room."""
    experts = len(routing.gates)
    rows, columns = routing.first.shape
    backdrop(axes, image, title, room=PANEL_WIDTH)
    edges = frame.edges((rows, columns), routing.cell)
    heat(axes, routing.first, edges, False, cmap=ListedColormap(colours(experts)), vmin=-0.5, vmax=experts - 0.5)
    if max(rows, columns) > NUMBERED:
        return
    width, height = frame.size
    for (row, column), expert in np.ndenumerate(routing.first):
        whole = [frame.to_image((column + i) * routing.cell[1], (row + i) * routing.cell[0]) for i in (0, 1)]
        (x1, y1), (x2, y2) = np.clip(whole, 0, (width, height))  # what is seen of the patch
        if min((x2 - x1) / (whole[1][0] - whole[0][0]), (y2 - y1) / (whole[1][1] - whole[0][1])) > SEEN:
            halo = [withStroke(linewidth=1.6, foreground="black")]
            x, y = float(x1 + x2) / 2, float(y1 + y2) / 2
            axes.text(x, y, str(expert), fontsize=7, color="white", ha="center", va="center", path_effects=halo)


def colours(experts: int) -> list[str]:
    """Return a colour for each expert; beyond eight they repeat, and the numbers tell them apart."""
    return [EXPERTS[i % len(EXPERTS)] for i in range(experts)]


def _shares(axes: Axes, routing: Routing, frame: Frame) -> None:
    """Bars of the experts' shares of the image: mean gate weight, and how often it is the largest."""
    shares = routing.shares(frame)
    experts = np.arange(len(routing.gates))
    axes.bar(experts, shares.weight, 0.8, color=colours(len(experts)), edgecolor="black", linewidth=0.6)
    axes.plot(experts, shares.first, "kD", markersize=4, markerfacecolor="white", clip_on=False)
    axes.axhline(1 / len(experts), color="#777777", linestyle=":", linewidth=1)
    axes.set_title("expert's mean gate weight over the image", fontsize=8.5, loc="left", pad=3)
    axes.set_ylim(0, None)
    axes.set_xticks(experts)
    axes.set_xlabel("diamonds: share of largest weight; dotted: fair share", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    # the ticks need room beside the colour bar and below, which the images of the row do not
    place, (width, height) = axes.get_position(), axes.figure.get_size_inches()  # type: ignore[union-attr]
    tall = max(place.height, PANEL_SHORTEST / height) - SCALE[1] / height
    axes.set_position((place.x0 + SCALE[0] / width, place.y1 - tall, place.width, tall))


def _candidates(axes: Axes, seen: Explanation, t: int) -> None:
    """Mark the candidates of an expression where their boxes are, by their scores after the comparison."""
    found = seen.candidates[t]
    backdrop(axes, seen.image, f"{len(found)} candidates after comparison")
    x, y = (found[:, 0] + found[:, 2]) / 2, (found[:, 1] + found[:, 3]) / 2
    # the best ones last, over the others
    look: Any = {"c": found[::-1, 4], "cmap": SCORES, "vmin": 0, "vmax": found[0, 4], "edgecolors": "white"}
    marks = axes.scatter(x[::-1], y[::-1], s=26, linewidths=0.7, **look)
    for rank in range(min(NAMED, len(found))):
        upward = y[rank] > seen.frame.size[1] / 4  # not into the panel's title
        axes.annotate(
            str(rank + 1), (x[rank], y[rank]), (4, 3 if upward else -9), textcoords="offset points", fontsize=8,
            color="white", path_effects=[withStroke(linewidth=1.8, foreground="black")],
        )  # fmt: skip
    outline(axes, seen.answers[t].box, seen.answers[t].found)
    bar(axes, marks, "score")


def _inside(seen: Explanation, values: np.ndarray, stride: float) -> float:
    """Highest value of a level over the image, padding cut off."""
    return float(seen.frame.cut(values, (stride, stride), seen.frame.grid(seen.strides[0])).max())


def _verdict(seen: Explanation, t: int) -> str:
    """Say what the answer to an expression is and where it comes from."""
    answer = seen.answers[t]
    place = f"anchor of {seen.levels[answer.level]}, row {answer.cell[0]}, column {answer.cell[1]}"
    sure = f"{answer.conf:.3f}" if answer.conf >= 0.001 else f"{answer.conf:.1g}"
    given = f"confidence {sure}" + ("" if answer.found else ": below the threshold, no box is given")
    return f"{given}; {place}"
