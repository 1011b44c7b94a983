"""Small images and a manifest for the tests of batches."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from optisar_yolo.synthetic.render import render_image

IMGSZ = 224


def make(folder: Path, count: int) -> Path:
    """Write rendered images and ``asks.jsonl`` with two expressions for each; return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        made = render_image(0, "test", i, (160, 224))
        cv2.imwrite(str(folder / f"p{i}.png"), made["img"])
        for text in (made["expressions"][0][1], "the ship in the upper left"):
            lines.append(json.dumps({"image": f"p{i}.png", "text": text, "modality": made["modality"], "number": i}))
    # the two expressions of an image lie far from each other: the rows must be brought together
    manifest = folder / "asks.jsonl"
    manifest.write_text("\n".join(lines[::2] + lines[1::2]) + "\n")
    return manifest
