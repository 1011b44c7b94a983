"""``optisar view``: a contact sheet of augmented training images, to check by eye that every expression is true.

Beside each image stand its expressions: the true ones in the colour of their boxes and with the boxes' numbers, the
false ones in grey. What is drawn is what a training with the same settings, seed and epoch is fed.
"""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from optisar_yolo.data import MODALITIES, GroundingDataset, ImageRecord, by_modality, load_dataset_config, load_split
from optisar_yolo.plugin import OPTISAR_DEFAULTS, config_keys
from optisar_yolo.utils import UsageError
from optisar_yolo.visualize import save_figure

OWN: dict[str, Any] = {
    "data": "optsar.yaml", "split": "train", "n": 12, "seed": 0, "epoch": 0, "imgsz": 320, "save": "view.jpg",
}  # fmt: skip
FORMATS = (".jpg", ".jpeg", ".png")
COLUMNS = 2  # images beside each other
SIDE, LEGEND, GAP, TOP = 3.3, 3.9, 0.2, 0.5  # inches: image, its expressions, space between, heading
LINES, WRAP, LINE = 12, 60, 0.172  # expressions beside an image, characters of a line, inches from line to line
NUMBERS = 6  # boxes that an expression lists by number
# Legible both on an image and as text on white.
COLOURS = (
    "#118c11", "#d62728", "#1f6fb4", "#d97000", "#8a4fbf", "#c2187f", "#7a4b3a", "#008b8b", "#6b7a00", "#3b3bd6",
)  # fmt: skip
FALSE, OPEN = "#8c8c8c", "#b0b0b0"


def main(options: dict[str, str]) -> None:
    """Run ``optisar view``.

    Args:
        options: ``data``, ``split``, ``n`` (images), ``seed``, ``epoch``, ``imgsz``, ``save``, and any setting of a
            training; what is not given is as in training.

    Raises:
        UsageError: An unknown argument.
        ValueError: A value that cannot be used, or no data.
    """
    args, own = configure(options)
    config = load_dataset_config(args.data)
    images = load_split(config, args.split, args.fraction or 1.0, args.seed)
    dataset = GroundingDataset(images, config.names, args)
    chosen = choose_images(images, own["n"], args.seed)
    samples = [dataset[own["epoch"], i] for i in chosen]
    title = f"{Path(str(args.data)).name}, {args.split}, seed {args.seed}, epoch {own['epoch']}: "
    figure = view_sheet(samples, title + _said(options))
    path = save_figure(figure, own["save"])
    true = sum(int((s["targets"] == 1).any(0).sum()) for s in samples)
    LOGGER.info(f"{path}: {len(samples)} of {len(images)} images with {true} true expressions")


def configure(options: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """Read the command's words.

    Args:
        options: As of `main`.

    Returns:
        The settings of a training, and the values of ``n``, ``epoch`` and ``save``.

    Raises:
        UsageError: An unknown argument.
        ValueError: A value of a wrong type or out of range.
    """
    from ultralytics.cfg import get_cfg, smart_value

    from optisar_yolo.engine.train import TRAIN_DEFAULTS  # not needed where a batch is drawn, and slow to load

    known = {*OWN, *DEFAULT_CFG_DICT, *OPTISAR_DEFAULTS}
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(OWN)} and the settings of training"
            raise UsageError(f"unknown argument '{key}'; {hint}")
    values = OWN | {k: smart_value(v) if k != "save" else v for k, v in options.items()}
    for key, low in (("n", 1), ("epoch", 0), ("seed", 0), ("imgsz", 32)):
        if isinstance(values[key], bool) or not isinstance(values[key], int) or values[key] < low:
            raise ValueError(f"'{key}={values[key]}' is not valid: it must be a whole number of at least {low}")
    own = {"n": values.pop("n"), "epoch": values.pop("epoch"), "save": Path(values.pop("save"))}
    if own["save"].suffix.lower() not in FORMATS:
        raise ValueError(f"'save={own['save']}' is not valid: the file's name must end with {', '.join(FORMATS)}")
    try:
        with config_keys():
            return get_cfg(overrides=TRAIN_DEFAULTS | values), own
    except TypeError as error:  # what Ultralytics raises for a value of a wrong type
        raise ValueError(str(error)) from error


def choose_images(images: list[ImageRecord], count: int, seed: int) -> list[int]:
    """Choose images of both modalities in turn, in an order that follows from the seed."""
    rng = np.random.default_rng(seed)
    sides = [rng.permutation(side).tolist() for side in by_modality(images).values()]
    longest = max(map(len, sides))
    return [side[k] for k in range(longest) for side in sides if k < len(side)][:count]


def view_sheet(samples: list[dict[str, Any]], title: str) -> Figure:
    """Draw samples with their boxes and expressions.

    Args:
        samples: Items of a `GroundingDataset`, at least one.
        title: Heading.

    Returns:
        The figure, to be saved.
    """
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    width = columns * (SIDE + LEGEND + GAP) + GAP
    height = TOP + rows * (SIDE + GAP)
    figure = Figure(figsize=(width, height))
    figure.text(
        GAP / width, 1 - 0.5 * TOP / height, title, fontsize=12, fontweight="bold", va="center", parse_math=False
    )
    for number, sample in enumerate(samples):
        left = GAP + number % columns * (SIDE + LEGEND + GAP)
        bottom = height - TOP - (number // columns + 1) * (SIDE + GAP) + GAP
        axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
        words = figure.add_axes(((left + SIDE + 0.08) / width, bottom / height, LEGEND / width, SIDE / height))
        ink = colours(np.asarray(sample["targets"]))
        _image(axes, sample, ink)
        _expressions(words, sample, ink)
    return figure


def colours(targets: np.ndarray) -> list[str | None]:
    """Give each object the colour of its first expression, and each such expression a colour of its own.

    Args:
        targets: [N, T], 1 where an expression means an object.

    Returns:
        A colour for each object, None where no expression means it.
    """
    ink: list[str | None] = [None] * len(targets)
    used = 0
    for column in targets.T:
        new = [i for i in np.flatnonzero(column == 1).tolist() if ink[i] is None]
        for i in new:
            ink[i] = COLOURS[used % len(COLOURS)]
        used += bool(new)
    return ink


def _image(axes: Axes, sample: dict[str, Any], ink: list[str | None]) -> None:
    """Draw an image with numbered boxes; thin dashed ones are objects that no expression asks for."""
    image = np.asarray(sample["img"]).transpose(1, 2, 0)
    h, w = image.shape[:2]
    axes.imshow(image, interpolation="none", extent=(0, w, h, 0))
    axes.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i, (x, y, bw, bh) in enumerate((np.asarray(sample["bboxes"]) * [w, h, w, h]).tolist()):
        colour, line, style = (ink[i], 1.8, "-") if ink[i] else ("black", 0.9, "--")
        corner = (x - bw / 2, y - bh / 2)
        box = Rectangle(corner, bw, bh, fill=False, edgecolor=colour, linewidth=line, linestyle=style)
        halo: list[AbstractPathEffect] = [withStroke(linewidth=line + 1.6, foreground="white")]
        box.set_path_effects(halo)
        axes.add_patch(box)
        at = (max(corner[0], 1), max(corner[1], 9))
        axes.text(*at, str(i + 1), fontsize=7, color=colour, fontweight="bold", va="bottom", path_effects=halo)


def _expressions(axes: Axes, sample: dict[str, Any], ink: list[str | None]) -> None:
    """List an image's expressions: true ones first, false ones in grey."""
    axes.set_axis_off()
    targets = np.asarray(sample["targets"])
    listed: list[tuple[int, str, str]] = []
    for t, text in enumerate(sample["texts"]):
        meant = np.flatnonzero(targets[:, t] == 1).tolist()
        unsure = np.flatnonzero(targets[:, t] < 0).tolist()
        tail = f"  [left out: {_numbers(unsure)}]" if unsure else ""
        if meant:
            listed.append((0, f"{text}  → {_numbers(meant)}{tail}", ink[meant[0]] or "black"))
        else:
            listed.append((1, text + tail, OPEN if unsure else FALSE))
    listed.sort(key=lambda entry: entry[0])
    modality = MODALITIES[sample["modality"]]
    y = 1.0
    axes.text(0, y, f"{Path(sample['im_file']).name}, {modality}", fontsize=8.5, va="top", parse_math=False)
    for order, text, colour in listed[:LINES]:
        mark = "\N{BLACK SQUARE}" if order == 0 else "\N{MULTIPLICATION SIGN}"
        lines = textwrap.wrap(text, WRAP, max_lines=2, placeholder=" …")
        y -= LINE / SIDE * (1.25 if y == 1.0 else 1.0)
        weight = "bold" if order == 0 else "normal"
        axes.text(0, y, mark, fontsize=8, va="top", color=colour)
        axes.text(0.035, y, "\n".join(lines), fontsize=7.6, va="top", color=colour, weight=weight, parse_math=False)
        y -= LINE / SIDE * 0.8 * (len(lines) - 1)
    if len(listed) > LINES:
        rest = f"… and {len(listed) - LINES} more, {sum(order == 0 for order, _, _ in listed[LINES:])} of them true"
        axes.text(0.035, y - LINE / SIDE, rest, fontsize=7.6, va="top", color=FALSE)


def _numbers(objects: list[int]) -> str:
    """Name objects by their numbers in the image."""
    shown = ", ".join(str(i + 1) for i in objects[:NUMBERS])
    return shown + (f", … ({len(objects)} objects)" if len(objects) > NUMBERS else "")


def _said(options: Mapping[str, str]) -> str:
    """Repeat the settings that differ from those of training."""
    return " ".join(f"{k}={v}" for k, v in options.items() if k not in OWN) or "settings of training"
