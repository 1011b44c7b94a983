"""Routing maps of a data split's images, modality by modality (the paper's Fig. 9)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from optisar_yolo.data import MODALITIES, ImageRecord, load_dataset_config, load_split, read_image
from optisar_yolo.engine import TITLES, choose_images
from optisar_yolo.explain.look import Explainer
from optisar_yolo.explain.maps import expert_map
from optisar_yolo.visualize import PANEL_GAP, PANEL_HEAD, PANEL_TITLE, PANEL_WIDTH, save, say

NARROWEST = 6.2  # inches: as much as the title needs


def routing_sheets(look: Explainer, data: str | Path, split: str, n: int, folder: Path) -> list[Path]:
    """Draw which experts the patches chose in images of each modality: ``routing_<block>.png``.

    Args:
        look: Of a network with PL-MoE; of another one nothing is drawn.
        data: Dataset config.
        split: Its split.
        n: Images of each modality, chosen by a fixed seed.
        folder: Where to.

    Returns:
        One sheet per block.
    """
    images = load_split(load_dataset_config(data), split)
    order = [images[i] for i in choose_images(images, len(images), seed=0)]
    rows = [own[:n] for m in MODALITIES if (own := [p for p in order if p.modality == m])]
    first = read_image(rows[0][0].path)
    return [save(_sheet(look, rows, block), folder / f"routing_{block}.png") for block in look.routes(first)[1]]


def _sheet(look: Explainer, rows: list[list[ImageRecord]], block: str) -> Figure:
    """Draw one row of images per modality."""
    width = max(max(map(len, rows)) * (PANEL_WIDTH + PANEL_GAP) + PANEL_GAP, NARROWEST)
    tall = [
        PANEL_WIDTH * min(max(p.height / p.width for p in row), 1.0) for row in rows
    ]  # taller images become narrower
    height = PANEL_HEAD + sum(tall) + len(rows) * (PANEL_TITLE + PANEL_GAP)
    figure = Figure(figsize=(width, height))
    title = f"{block}: expert of the largest weight in each patch"
    say(figure, PANEL_GAP / width, 1 - 0.5 * PANEL_HEAD / height, title, fontsize=12, fontweight="bold", va="center")
    bottom = height - PANEL_HEAD
    for row, high in zip(rows, tall, strict=True):
        bottom -= PANEL_TITLE + high
        for column, image in enumerate(row):
            area = (
                (PANEL_GAP + column * (PANEL_WIDTH + PANEL_GAP)) / width,
                bottom / height,
                PANEL_WIDTH / width,
                high / height,
            )
            pixels = read_image(image.path)
            frame, routing = look.routes(pixels)
            name = f"{TITLES.get(image.modality, image.modality)}, {image.path.name}"
            expert_map(figure.add_axes(area, anchor="NW"), pixels, frame, routing[block], name)
        bottom -= PANEL_GAP
    return figure
