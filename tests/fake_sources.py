"""Writes tiny stand-ins for the sources of all packaged recipes: `python tests/fake_sources.py FOLDER`.

Folders, file formats and words are those of the real sources; the images are noise with a bright rectangle per
object, and every caption is true of its object.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import torch
import yaml

from optisar_yolo.plugin import resources

SIZE = (128, 96)  # width, height
CELLS = (("upper left", 4, 4), ("lower right", 92, 68), ("upper right", 90, 6), ("lower left", 6, 66))  # name, x, y
SHIPS = (
    "Nimitz aircraft carrier",
    "Arleigh Burke-class destroyer",
    "Wasp",
    "container ship",
    "tugboat",
    "Other warship",
)
OPTICAL = ("ship", "ship", "ship", "ship", "airplane", "vehicle", "T junction", "storage tank")  # of uneven number
DIOR = ("vehicle", "golffield", "Expressway-Service-area", "windmill")
COUNTS = {"RSVGD": 8, "OPT-RSVG": 16, "SARVG": 8, "SARVG1.0": 8, "DIOR-RSVG": 10, "yolo": 6, "coco": 6}  # images


class Thing(NamedTuple):
    """One drawn object: the source's word, its box (xyxy in pixels) and a caption."""

    word: str
    box: tuple[int, int, int, int]
    caption: str


def make_sources(root: Path, seed: int = 0) -> None:
    """Write the sources of optsar-rsvg.yaml, dior-rsvg.yaml, opt-rsvg.yaml and own-boxes.yaml under one folder."""
    rng = np.random.default_rng(seed)
    _voc(root / "RSVGD", "JPEGImages", SHIPS, rng)
    _voc(root / "OPT-RSVG", "Image", OPTICAL, rng, decimals=True)
    _voc(root / "SARVG", "JPEGImages", ("ship",), rng, sar=True)
    _pickled(root / "SARVG1.0" / "sarvg", rng)
    _dior(root / "DIOR-RSVG", rng)
    _yolo(root / "yolo", rng)
    _coco(root / "coco", rng)


def fake_recipe(name: str, folder: Path) -> Path:
    """Write a copy of a packaged recipe without the numbers that only the real sources meet, and return its path."""
    content = yaml.safe_load(resources.find_packaged("datasets", f"recipes/{name}").read_text(encoding="utf-8"))
    content.pop("released", None)
    for source in content["sources"]:
        source.pop("expect", None)
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _scene(words: tuple[str, ...], rng: np.random.Generator) -> list[Thing]:
    """Place one to four objects, one in each of the first cells."""
    things = []
    for cell, x, y in CELLS[: int(rng.integers(1, 5))]:
        word = str(rng.choice(words))
        x, y, w, h = (int(v) for v in (x + rng.integers(0, 6), y + rng.integers(0, 6), *rng.integers(12, 24, 2)))
        noun = word.replace("-", " ").lower() if word in DIOR else word
        things.append(Thing(word, (x, y, x + w, y + h), f"The {noun} in the {cell} of the image"))
    return things


def _draw(path: Path, things: list[Thing], rng: np.random.Generator, sar: bool) -> None:
    """Write an image; SAR ones have one band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(20, 90, (SIZE[1], SIZE[0], 1 if sar else 3), dtype=np.uint8)
    for x1, y1, x2, y2 in (t.box for t in things):
        image[y1:y2, x1:x2] = rng.integers(180, 250)
    if not cv2.imwrite(str(path), image):
        raise OSError(f"{path} cannot be written")


def _voc(
    folder: Path,
    images: str,
    words: tuple[str, ...],
    rng: np.random.Generator,
    sar: bool = False,
    decimals: bool = False,
) -> None:
    for number in range(COUNTS[folder.name]):
        name, things = f"{number + 1:06d}", _scene(words, rng)
        _draw(folder / images / f"{name}.jpg", things, rng, sar)
        write_xml(folder / "Annotations" / f"{name}.xml", f"{name}.jpg", things, SIZE, shift=0.25 if decimals else 0)


def write_xml(
    path: Path, image: str, things: list[Thing], size: tuple[int, int] | None = SIZE, shift: float = 0
) -> None:
    """Write VOC XML with one object per thing.

    Args:
        path: The file.
        image: Name of its image.
        things: Its objects.
        size: Width and height in pixels; None leaves them out.
        shift: Added to all coordinates, so that they are no whole numbers.
    """
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image
    if size:
        sides = ET.SubElement(root, "size")
        for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
            ET.SubElement(sides, tag).text = str(value)
    for thing in things:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = thing.word
        corners = ET.SubElement(element, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), thing.box, strict=True):
            ET.SubElement(corners, tag).text = str(value + shift if shift else value)
        ET.SubElement(element, "description").text = thing.caption
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path, encoding="utf-8")


def _pickled(folder: Path, rng: np.random.Generator) -> None:
    """Write single-band TIFFs and lists in the forms that such files have had over the years, boxes xywh."""
    records: dict[str, list[tuple[str, object, str]]] = {"train": [], "val": [], "testA": [], "testB": []}
    for number in range(COUNTS["SARVG1.0"]):
        things = _scene(("transmission tower",), rng)
        _draw(folder / "images" / f"{number:05d}.tif", things, rng, sar=True)
        split = ("train", "train", "train", "val", "testA", "testB")[number % 6]
        for word, (x1, y1, x2, y2), caption in things:
            box = [x1, y1, x2 - x1, y2 - y1]
            kept: object = np.array(box) if split == "val" else box
            records[split].append((f"{number:05d}.tif", kept, caption.replace(word, "power transmission tower")))
    for split, listed in records.items():
        path = folder / f"sarvg_{split}.pth"
        if split == "testB":
            path.write_bytes(pickle.dumps(listed))
        else:
            torch.save(listed, path, _use_new_zipfile_serialization=split != "testA")


def _dior(folder: Path, rng: np.random.Generator) -> None:
    """Write XML and the split's running numbers, which put the objects of one image into several splits."""
    _voc(folder, "JPEGImages", DIOR, rng)
    total = sum(len(ET.parse(f).getroot().findall("object")) for f in (folder / "Annotations").glob("*.xml"))
    order = rng.permutation(total)
    parts = np.split(order, [int(0.7 * total), int(0.8 * total)])
    for split, numbers in zip(("train", "val", "test"), parts, strict=True):
        (folder / f"{split}.txt").write_text("".join(f"{n}\n" for n in sorted(numbers)), encoding="utf-8")


def _yolo(folder: Path, rng: np.random.Generator) -> None:
    words = ("boat", "plane")
    (folder / "labels").mkdir(parents=True)
    for number in range(COUNTS["yolo"]):
        things = _scene(words, rng)
        _draw(folder / "images" / f"flight-{number}.png", things, rng, sar=False)
        lines = []
        for word, (x1, y1, x2, y2), _ in things:
            box = ((x1 + x2) / 2 / SIZE[0], (y1 + y2) / 2 / SIZE[1], (x2 - x1) / SIZE[0], (y2 - y1) / SIZE[1])
            lines.append(f"{words.index(word)} " + " ".join(f"{v:.6f}" for v in box))
        (folder / "labels" / f"flight-{number}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _coco(folder: Path, rng: np.random.Generator) -> None:
    images, annotations = [], []
    for number in range(COUNTS["coco"]):
        things = _scene(("vessel",), rng)
        _draw(folder / "images" / f"pass-{number}.png", things, rng, sar=True)
        images.append({"id": number, "file_name": f"pass-{number}.png", "width": SIZE[0], "height": SIZE[1]})
        for _, (x1, y1, x2, y2), _ in things:
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 7, "bbox": box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "vessel"}]}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make_sources(Path(sys.argv[1]))
