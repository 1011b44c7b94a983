"""Figures: score maps of an image (the paper's Fig. 8), activations and fusion, routing maps (Fig. 9).

Routing maps are drawn of one image, or of several images of each modality of a data split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from optisar_yolo.data import MODALITIES, ImageRecord, choose_images, load_dataset_config, load_split, read_image
from optisar_yolo.engine import TITLES, Routing
from optisar_yolo.explain.explainer import Explainer, Explanation, sigmoid
from optisar_yolo.visualize import (
    PANEL_GAP,
    PANEL_HEAD,
    PANEL_SHORTEST,
    PANEL_TITLE,
    PANEL_WIDTH,
    Frame,
    add_colour_bar,
    draw_box,
    draw_image,
    draw_lines_above,
    draw_map,
    draw_text,
    panel_grid,
    save_figure,
    wrap_heading,
)

SCORES, ACTIVATIONS, FACTORS, WEIGHTS = "viridis", "magma", "cividis", "viridis"  # readable without colour vision
# Okabe and Ito's colours, which can be told apart without full colour vision; numbers stand in the patches too
EXPERTS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
SCALE = (0.35, 0.3)  # inches left of and below the bars of the experts' shares
NUMBERED = 24  # patches per side, up to which their experts' numbers are written
VISIBLE = 0.2  # share of a patch's side that must lie in the image for its number to be written
MIN_SPREAD = 0.01  # of the factors from the lowest colour to the highest; smaller differences are rounding
NAMED = 3  # candidates with a number
SHEET_NARROWEST = 6.2  # inches: as much as the title of a sheet needs


def score_figure(explanation: Explanation, rows: slice) -> Figure:
    """Draw the best box of each expression, its highest score of all levels, each level, and the candidates.

    Args:
        explanation: An image and its expressions.
        rows: Which of the expressions.

    Returns:
        The figure, to be saved.
    """
    chosen = range(len(explanation.texts))[rows]
    reranked = explanation.candidates.shape[1] > 0
    columns = 2 + len(explanation.strides) + reranked
    title = f"{Path(explanation.path).name}: where the expressions score" + (", before reranking" * reranked)
    title += " (one colour scale an expression)"
    lines = [[*wrap_heading(f"“{explanation.texts[t]}”", columns), _caption(explanation, t)] for t in chosen]
    figure, grid = panel_grid(len(chosen), columns, explanation.frame.size, title, max(map(len, lines)))
    whole = (0.0, float(explanation.frame.size[0]), float(explanation.frame.size[1]), 0.0)
    maps = explanation.score_maps
    for axes, t, own in zip(grid, chosen, lines, strict=True):
        best = explanation.boxes[t]
        top = float(maps[t].max())
        draw_lines_above(axes[0], own)
        draw_image(axes[0], explanation.image, "image and best box", grey=False)
        draw_box(axes[0], best.box, best.found)
        draw_image(axes[1], explanation.image, f"score, highest of the levels: {top:.2g}")
        draw_map(axes[1], maps[t], whole, True, cmap=SCORES, vmin=0, vmax=top)
        draw_box(axes[1], best.box, best.found)
        image: Any = None
        for level, axis in enumerate(axes[2 : 2 + len(explanation.strides)]):
            stride = explanation.strides[level]
            values = sigmoid(explanation.logits[level][t])
            top_here = _inside(explanation, values, stride)
            draw_image(axis, explanation.image, f"{explanation.levels[level]}, stride {stride:g}: {top_here:.2g}")
            edges = explanation.frame.edges((values.shape[0], values.shape[1]), (stride, stride))
            image = draw_map(axis, values, edges, False, cmap=SCORES, vmin=0, vmax=top)
        add_colour_bar(axes[1 + len(explanation.strides)], image, "score")
        if reranked:
            _candidates(axes[-1], explanation, t)
    return figure


def activation_figure(explanation: Explanation, rows: slice) -> Figure:
    """Draw how strong the pyramid's features are, and how the text weighs them (Eq. 7).

    Args:
        explanation: An image and its expressions.
        rows: Which of them; of a network without text in its pyramid there is one row for all.

    Returns:
        The figure, to be saved.
    """
    chosen = range(len(explanation.activations[0]))[rows]
    title = f"{Path(explanation.path).name}: mean absolute feature of the pyramid" + (
        ", and weight that the text gives it" if explanation.fusions else ""
    )
    columns = len(explanation.strides) + len(explanation.fusions)
    heads = [f"“{explanation.texts[t]}”" if explanation.guided else explanation.notes[0] for t in chosen]
    lines = [wrap_heading(head, columns) for head in heads]
    figure, grid = panel_grid(len(chosen), columns, explanation.frame.size, title, max(map(len, lines)))
    levels = list(zip(explanation.levels, explanation.strides, explanation.activations, strict=True))
    for axes, t, own in zip(grid, chosen, lines, strict=True):
        draw_lines_above(axes[0], own)
        for axis, (name, stride, values) in zip(axes, levels, strict=False):
            draw_image(axis, explanation.image, f"{name}, stride {stride:g}")
            edges = explanation.frame.edges((values.shape[1], values.shape[2]), (stride, stride))
            add_colour_bar(axis, draw_map(axis, values[t], edges, False, cmap=ACTIVATIONS), "mean |feature|")
        for axis, (name, factors) in zip(axes[len(explanation.strides) :], explanation.fusions.items(), strict=True):
            values = factors[t].mean(0)
            cell = (explanation.frame.canvas[0] / values.shape[0], explanation.frame.canvas[1] / values.shape[1])
            draw_image(axis, explanation.image, f"{name}, stride {cell[0]:g}: mean of {len(factors[t])} heads")
            edges = explanation.frame.edges((values.shape[0], values.shape[1]), cell)
            spread = max(float(np.ptp(values)), MIN_SPREAD) / 2  # rounding errors are no pattern
            middle = float(values.max() + values.min()) / 2
            look: Any = {"cmap": FACTORS, "vmin": middle - spread, "vmax": middle + spread}
            add_colour_bar(axis, draw_map(axis, values, edges, False, **look), "factor (1: as it is)")
    return figure


def routing_figure(explanation: Explanation) -> Figure:
    """Draw which expert each patch weighs most, how much, and the experts' shares of the image.

    Args:
        explanation: An image of a network with PL-MoE.

    Returns:
        The figure, to be saved.
    """
    title = f"{Path(explanation.path).name}: experts of the patches"
    figure, grid = panel_grid(len(explanation.routing), 3, explanation.frame.size, title, 1)
    for axes, (name, routing) in zip(grid, explanation.routing.items(), strict=True):
        experts = len(routing.gates)
        side = routing.cell[0]
        draw_lines_above(
            axes[0], [f"{name}: {experts} experts, {routing.top_k} kept per patch of {side:g} x {side:g} pixels"]
        )
        expert_map(axes[0], explanation.image, explanation.frame, routing, "expert of the largest weight")
        draw_image(axes[1], explanation.image, "its weight")
        edges = explanation.frame.edges((routing.gates.shape[1], routing.gates.shape[2]), routing.cell)
        lowest = 1 / routing.top_k if routing.top_k > 1 else 0
        weights = routing.gates.max(0)
        highest = max(float(weights.max()), lowest + MIN_SPREAD)
        image = draw_map(axes[1], weights, edges, False, cmap=WEIGHTS, vmin=lowest, vmax=highest)
        add_colour_bar(axes[1], image, f"gate weight (of {routing.top_k})")
        _shares(axes[2], routing, explanation.frame)
    return figure


def expert_map(axes: Axes, image: np.ndarray, frame: Frame, routing: Routing, title: str) -> None:
    """Colour an image's patches by the expert of the largest weight, with its number where there is room."""
    experts = len(routing.gates)
    rows, columns = routing.first.shape
    draw_image(axes, image, title, room=PANEL_WIDTH)
    edges = frame.edges((rows, columns), routing.cell)
    draw_map(axes, routing.first, edges, False, cmap=ListedColormap(colours(experts)), vmin=-0.5, vmax=experts - 0.5)
    if max(rows, columns) > NUMBERED:
        return
    width, height = frame.size
    for (row, column), expert in np.ndenumerate(routing.first):
        whole = [frame.to_image((column + i) * routing.cell[1], (row + i) * routing.cell[0]) for i in (0, 1)]
        (x1, y1), (x2, y2) = np.clip(whole, 0, (width, height))  # what is explanation of the patch
        if min((x2 - x1) / (whole[1][0] - whole[0][0]), (y2 - y1) / (whole[1][1] - whole[0][1])) > VISIBLE:
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


def _candidates(axes: Axes, explanation: Explanation, t: int) -> None:
    """Mark the candidates of an expression where their boxes are, by their scores after reranking."""
    found = explanation.candidates[t]
    draw_image(axes, explanation.image, f"{len(found)} candidates after reranking")
    x, y = (found[:, 0] + found[:, 2]) / 2, (found[:, 1] + found[:, 3]) / 2
    # the best ones last, over the others
    look: Any = {"c": found[::-1, 4], "cmap": SCORES, "vmin": 0, "vmax": found[0, 4], "edgecolors": "white"}
    marks = axes.scatter(x[::-1], y[::-1], s=26, linewidths=0.7, **look)
    for rank in range(min(NAMED, len(found))):
        upward = y[rank] > explanation.frame.size[1] / 4  # not into the panel's title
        axes.annotate(
            str(rank + 1), (x[rank], y[rank]), (4, 3 if upward else -9), textcoords="offset points", fontsize=8,
            color="white", path_effects=[withStroke(linewidth=1.8, foreground="black")],
        )  # fmt: skip
    draw_box(axes, explanation.boxes[t].box, explanation.boxes[t].found)
    add_colour_bar(axes, marks, "score")


def _inside(explanation: Explanation, values: np.ndarray, stride: float) -> float:
    """Highest value of a level over the image, padding cut off."""
    return float(explanation.frame.cut(values, (stride, stride), explanation.frame.grid(explanation.strides[0])).max())


def _caption(explanation: Explanation, t: int) -> str:
    """Return the confidence of an expression's best box and its anchor, in words."""
    best = explanation.boxes[t]
    anchor = f"anchor of {explanation.levels[best.level]}, row {best.cell[0]}, column {best.cell[1]}"
    conf = f"{best.conf:.3f}" if best.conf >= 0.001 else f"{best.conf:.1g}"
    given = f"confidence {conf}" + ("" if best.found else ": below the threshold, no box is given")
    return f"{given}; {anchor}"


def routing_sheets(explainer: Explainer, data: str | Path, split: str, n: int, folder: Path) -> list[Path]:
    """Draw the expert choices in images of each modality of a split: ``routing_<block>.png``.

    Args:
        explainer: Of a network with PL-MoE; for another network nothing is drawn.
        data: Dataset config.
        split: Its split.
        n: Images of each modality, chosen by a fixed seed.
        folder: Where the sheets go.

    Returns:
        One sheet per block.
    """
    images = load_split(load_dataset_config(data), split)
    order = [images[i] for i in choose_images(images, len(images), seed=0)]
    seen_by = dict.fromkeys((*MODALITIES, *(p.modality for p in order)))
    rows = [own[:n] for m in seen_by if (own := [p for p in order if p.modality == m])]
    blocks = explainer.routes(read_image(rows[0][0].path))[1]
    return [save_figure(_sheet(explainer, rows, block), folder / f"routing_{block}.png") for block in blocks]


def _sheet(explainer: Explainer, rows: list[list[ImageRecord]], block: str) -> Figure:
    """Draw one row of images per modality."""
    width = max(max(map(len, rows)) * (PANEL_WIDTH + PANEL_GAP) + PANEL_GAP, SHEET_NARROWEST)
    # images that are taller than wide become narrower
    heights = [PANEL_WIDTH * min(max(p.height / p.width for p in row), 1.0) for row in rows]
    height = PANEL_HEAD + sum(heights) + len(rows) * (PANEL_TITLE + PANEL_GAP)
    figure = Figure(figsize=(width, height))
    title = f"{block}: expert of the largest weight in each patch"
    draw_text(
        figure, PANEL_GAP / width, 1 - 0.5 * PANEL_HEAD / height, title, fontsize=12, fontweight="bold", va="center"
    )
    bottom = height - PANEL_HEAD
    for row, high in zip(rows, heights, strict=True):
        bottom -= PANEL_TITLE + high
        for column, image in enumerate(row):
            left = PANEL_GAP + column * (PANEL_WIDTH + PANEL_GAP)
            area = (left / width, bottom / height, PANEL_WIDTH / width, high / height)
            pixels = read_image(image.path)
            frame, routing = explainer.routes(pixels)
            name = f"{TITLES.get(image.modality, image.modality)}, {image.path.name}"
            expert_map(figure.add_axes(area, anchor="NW"), pixels, frame, routing[block], name)
        bottom -= PANEL_GAP
    return figure
