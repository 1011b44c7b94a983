"""Makes a work folder of data-set construction with a few real image files, for the tests of `write` and after."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from optisar_yolo.construction.samples import Instance, Sample, write_lines
from optisar_yolo.data.config import SPLITS

NAMES = ("optical airplane", "optical ship", "sar ship")
SIZE = (96, 64)  # width, height
RECIPE = {
    "name": "Small",
    "names": NAMES,
    "sources": [
        {"name": "port", "format": "voc", "path": "port", "modality": "optical", "licence": "CC BY 4.0"},
        {"name": "radar", "format": "voc", "path": "radar", "modality": "sar"},
    ],
    "released": {"all": {"images": 12, "expressions": 24}, "train": {"images": 4}},
}
SHIPS = (("upper left", (4.0, 5.0, 20.5, 17.25)), ("lower right", (60.0, 40.0, 80.0, 60.0)))


def samples_of(root: Path, count: int = 12) -> list[Sample]:
    """Write image files under `root` and return their samples, four kinds in turn.

    A JPEG with two captions on one ship; a PNG with an object that nobody described; a 16-bit TIFF; and the JPEG of the
    image before, mirrored.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    samples: list[Sample] = []
    for number in range(count):
        kind = ("jpg", "png", "tif", "copy")[number % 4]
        split = SPLITS[number // 4 % 3]
        sar = kind == "tif"
        modality = "sar" if sar else "optical"
        image = rng.integers(40, 90, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        for _, (x1, y1, x2, y2) in SHIPS:
            image[int(y1) : int(y2), int(x1) : int(x2)] = 230
        image[5:12, 5:12] = (0, 0, 255)  # a corner that shows how a copy was turned
        file = root / f"{number:03d}.{kind}"
        if kind == "tif":
            cv2.imwrite(str(file), image[..., 0].astype(np.uint16) * 100)
        elif kind != "copy":
            cv2.imwrite(str(file), image)
        source = "radar" if sar else "port"
        name = f"{source}/{file.name}"
        word = "SAR ship" if sar else "ship"
        items = [
            Instance(f"{name}#{i}", box, f"{modality} ship", [f"The {word} in the {cell} corner of the image"], split)
            for i, (cell, box) in enumerate(SHIPS)
        ]
        if kind == "jpg":
            items[0].captions.append("The ship closest to the top of the image")
        if kind == "png":
            items[1].captions = []
        if kind == "copy":
            before = samples[-3]
            name, file = f"{before.name}@hflip", Path(before.path)
            words = {"upper left": "upper right", "lower right": "lower left"}
            items = [
                Instance(f"{name}#{i}", (SIZE[0] - b[2], b[1], SIZE[0] - b[0], b[3]), "optical ship",
                         [f"The ship in the {words[cell]} corner of the image"], split)
                for i, (cell, b) in enumerate(SHIPS)
            ]  # fmt: skip
        transform = "hflip" if kind == "copy" else ""
        samples.append(Sample(name, str(file), source, modality, *SIZE, items, transform, split))
    return samples


def make_work(root: Path, samples: list[Sample] | None = None, recipe: dict[str, object] | None = None) -> Path:
    """Write images, and a work folder as if `import` and `split` had been run; return the work folder."""
    work = root / "work"
    samples = samples_of(root / "sources") if samples is None else samples
    write_lines(work / "split" / "samples.jsonl", samples)
    (work / "split" / "manifest.json").write_text("{}", encoding="utf-8")
    (work / "import").mkdir()
    note = json.dumps({"options": {"recipe": recipe or RECIPE}})
    (work / "import" / "manifest.json").write_text(note, encoding="utf-8")
    return work
