"""A contact sheet of augmented training images, to check by eye that every expression is true.

Beside each image stand its expressions: the true ones in the colour of their boxes and with the boxes' numbers, the
false ones in grey. The images are those that a training with the same settings, seed and epoch uses.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from optisar_yolo.data import MODALITIES, GroundingDataset, choose_images, load_dataset_config, load_split
from optisar_yolo.plugin import SETTINGS, config_keys
from optisar_yolo.utils import UsageError, nearest
from optisar_yolo.visualize import add_box, save_figure

COLUMNS = 2  # images beside each other
SIDE, LEGEND, GAP, TOP = 3.3, 3.9, 0.2, 0.5  # inches: image, its expressions, space between, heading
LINES, WRAP, LINE = 12, 60, 0.172  # expressions beside an image, characters of a line, inches from line to line
NUMBERS = 6  # boxes that an expression lists by number
# Legible both on an image and as text on white.
COLOURS = (
    "#118c11", "#d62728", "#1f6fb4", "#d97000", "#8a4fbf", "#c2187f", "#7a4b3a", "#008b8b", "#6b7a00", "#3b3bd6",
)  # fmt: skip
FALSE, UNCERTAIN = "#8c8c8c", "#b0b0b0"


def training_settings(changes: Mapping[str, str], **values: Any) -> Any:
    """Return the settings of a training with some changes.

    Args:
        changes: Settings of Ultralytics or ours, as typed.
        **values: More settings, as their values.

    Raises:
        UsageError: An unknown setting, or a value of a wrong type or out of range.
    """
    from ultralytics.cfg import get_cfg, smart_value

    from optisar_yolo.engine.train import TRAIN_DEFAULTS  # not needed where a batch is drawn, and slow to load

    known = {*DEFAULT_CFG_DICT, *SETTINGS, *values}
    for key, text in changes.items():
        if key not in known:
            raise UsageError(f"unknown argument '{key}'{nearest(key, known)}")
        values[key] = SETTINGS[key].parse(text) if key in SETTINGS else smart_value(text)
    try:
        with config_keys():
            return get_cfg(overrides=TRAIN_DEFAULTS | values)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def view_samples(args: Any, count: int, epoch: int, save: str | Path, note: str = "") -> Path:
    """Write a sheet of the samples that a training uses in an epoch.

    Args:
        args: Settings of the training; ``data``, ``split`` and ``seed`` choose the images.
        count: Number of images, of both modalities in turn.
        epoch: Which epoch.
        save: PNG or JPEG file to write.
        note: Added to the title.

    Returns:
        The file.

    Raises:
        DataError: The data set cannot be read.
    """
    config = load_dataset_config(args.data)
    images = load_split(config, args.split, args.fraction or 1.0, args.seed)
    dataset = GroundingDataset(images, config.names, args, vocabulary=config.vocabulary, modalities=config.modalities)
    samples = [dataset[epoch, i] for i in choose_images(images, count, args.seed)]
    title = f"{Path(str(args.data)).name}, {args.split}, seed {args.seed}, epoch {epoch}: {note}"
    path = save_figure(view_sheet(samples, title, tuple(config.modalities)), Path(save))
    true = sum(int((s["targets"] == 1).any(0).sum()) for s in samples)
    LOGGER.info(f"{path}: {len(samples)} of {len(images)} images with {true} true expressions")
    return path


def view_sheet(samples: list[dict[str, Any]], title: str, modalities: Sequence[str] = MODALITIES) -> Figure:
    """Draw samples with their boxes and expressions.

    Args:
        samples: Items of a `GroundingDataset`, at least one.
        title: Heading.
        modalities: Those of the data set.

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
        _expressions(words, sample, ink, modalities[sample["modality"]])
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
    """Draw an image with numbered boxes; thin dashed ones are objects that no expression means."""
    image = np.asarray(sample["img"]).transpose(1, 2, 0)
    h, w = image.shape[:2]
    axes.imshow(image, interpolation="none", extent=(0, w, h, 0))
    axes.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i, (x, y, bw, bh) in enumerate((np.asarray(sample["bboxes"]) * [w, h, w, h]).tolist()):
        colour, line, style = (own, 1.8, "-") if (own := ink[i]) else ("black", 0.9, "--")
        left, top = x - bw / 2, y - bh / 2
        halo = add_box(axes, (left, top, bw, bh), colour, line, style, "white", 1.6)
        number, at = str(i + 1), (max(left, 1), max(top, 9))
        axes.text(*at, number, fontsize=7, color=colour, fontweight="bold", va="bottom", path_effects=halo)


def _expressions(axes: Axes, sample: dict[str, Any], ink: list[str | None], modality: str) -> None:
    """List an image's expressions: true ones first, false ones in grey."""
    axes.set_axis_off()
    targets = np.asarray(sample["targets"])
    listed: list[tuple[int, str, str]] = []
    for t, text in enumerate(sample["texts"]):
        matched = np.flatnonzero(targets[:, t] == 1).tolist()
        uncertain = np.flatnonzero(targets[:, t] < 0).tolist()
        tail = f"  [left out: {_numbers(uncertain)}]" if uncertain else ""
        if matched:
            listed.append((0, f"{text}  → {_numbers(matched)}{tail}", ink[matched[0]] or "black"))
        else:
            listed.append((1, text + tail, UNCERTAIN if uncertain else FALSE))
    listed.sort(key=lambda entry: entry[0])
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
    """List objects by their numbers in the image."""
    shown = ", ".join(str(i + 1) for i in objects[:NUMBERS])
    return shown + (f", … ({len(objects)} objects)" if len(objects) > NUMBERS else "")
