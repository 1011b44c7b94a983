"""Writes a tiny data set in the released OptSAR-RSVG layout: `python tests/make_tiny.py FOLDER`.

Each image shows two to four bright rectangles ("ships") or crosses ("airplanes") on an optical-like (coloured) or
SAR-like (grey, speckled) ground. Boxes are exact, and every caption is true of one object only. The label files hold
all boxes; the JSON files describe the first two of an image.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

NAMES = ("optical airplane", "optical ship", "sar ship")
COUNTS = {"train": 6, "val": 2, "test": 4}  # images, half of them optical
SIZE = (96, 64)  # width, height: not square, so that mixing up x and y shows
CELLS = (("upper left", 6, 5), ("lower right", 54, 36), ("upper right", 58, 4), ("lower left", 5, 38))  # name, x, y


def make(root: Path, seed: int = 0) -> Path:
    """Write images, labels, annotations and a dataset config under `root`, and return the dataset config's path."""
    rng = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        coco: dict[str, list[dict[str, object]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        }
        for number in range(count):
            modality = "sar" if number % 2 else "optical"
            stem = f"{'sar' if number % 2 else 'opt'}_{number:06d}"
            category = 2 if modality == "sar" else number // 2 % 2
            objects = _place(2 + number % 3, rng)
            cv2.imwrite(str(root / "images" / split / f"{stem}.jpg"), _draw(objects, modality, category, rng))
            coco["images"].append({"id": number, "file_name": f"{stem}.jpg", "width": SIZE[0], "height": SIZE[1]})
            lines = []
            for cell, (x, y, w, h) in objects:
                centre = ((x + w / 2) / SIZE[0], (y + h / 2) / SIZE[1], w / SIZE[0], h / SIZE[1])
                lines.append(f"{category} " + " ".join(f"{v:.6f}" for v in centre))
                if len(lines) > 2:
                    continue
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]),
                        "image_id": number,
                        "category_id": category,
                        "category_name": NAMES[category],
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "caption": f"The {NAMES[category].replace('sar', 'SAR')} in the {cell} corner of the image",
                        "kind": "position",
                    }
                )
            (root / "labels" / split / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (root / f"{split}.json").write_text(json.dumps(coco), encoding="utf-8")
    config = root / "tiny.yaml"
    content = {"path": ".", **{split: f"{split}.json" for split in COUNTS}, "names": list(NAMES)}
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config


def _place(count: int, rng: np.random.Generator) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Put one object in each of the first cells, with a little shift; xywh in pixels."""
    shift = rng.integers(0, 8, (count, 2))
    size = rng.integers(12, 20, (count, 2))
    return [
        (cell, (x + int(dx), y + int(dy), int(w), int(h)))
        for (cell, x, y), (dx, dy), (w, h) in zip(CELLS, shift, size, strict=False)
    ]


def _draw(
    objects: list[tuple[str, tuple[int, int, int, int]]], modality: str, category: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw an image, uint8 [height, width, 3] BGR."""
    ground, ink = ((60, 60, 60), (230, 230, 230)) if modality == "sar" else ((90, 120, 60), (200, 220, 240))
    image = np.empty((SIZE[1], SIZE[0], 3), np.float32)
    image[:] = ground
    for _, (x, y, w, h) in objects:
        if category == 0:  # an airplane: fuselage and wings
            image[y : y + h, x + w // 2 - 2 : x + w // 2 + 2] = ink
            image[y + h // 2 - 2 : y + h // 2 + 2, x : x + w] = ink
        else:
            image[y : y + h, x : x + w] = ink
    speckle = rng.gamma(4, 1 / 4, image.shape[:2]) if modality == "sar" else rng.normal(1, 0.03, image.shape[:2])
    return (image * speckle[..., None]).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(make(Path(sys.argv[1])))
