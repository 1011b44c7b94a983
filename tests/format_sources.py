"""Small sources of data-set construction: a folder of two images with annotations, and what is read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from optisar_yolo.construction.importing import read_source
from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report

SIZE = (100, 80)


def save(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / name), np.zeros((SIZE[1], SIZE[0]), np.uint8))


def source(tmp_path: Path, format_: str, content: Any = None, **entries: Any) -> Source:
    """Write a JSON file and the images a.png and b.png, and return their source."""
    for name in ("a.png", "b.png"):
        save(tmp_path / "x" / "images", name)
    if content is not None:
        (tmp_path / "x" / "all.json").write_text(json.dumps(content))
        entries.setdefault("files", {"train": "all.json"})
    return Source("x", format_, "x", "sar", **entries)


def read(given: Source, root: Path, report: Report | None = None) -> list[Sample]:
    return list(read_source(given, root, report or Report()))


def coco(boxes: list[Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 3, "bbox": b, "caption": f"thing {n}"} for n, b in enumerate(boxes)
        ],
        "categories": [{"id": 3, "name": "ship"}],
    }
