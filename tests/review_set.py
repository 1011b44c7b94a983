"""A work folder with two images and five objects to review."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from hand_samples import run as run_step

from optisar_yolo.construction import steps
from optisar_yolo.construction.samples import Instance, Sample

HOSTILE = "the <img src=x onerror=\"document.title='owned'\"> ship"
NAMES = ["optical ship", "optical airplane", "sar ship"]


def make_work(root: Path) -> Path:
    """Write images (a JPEG, a 16-bit TIFF) and the import step; return the work folder."""
    rng = np.random.default_rng(0)
    sea = cv2.GaussianBlur(rng.normal(0, 1, (480, 640, 3)), (0, 0), 5)
    optical = (np.array([96, 72, 40]) + 60 * sea).clip(0, 255).astype(np.uint8)
    for x, y in ((120, 150), (330, 260), (520, 90)):
        cv2.rectangle(optical, (x, y), (x + 60, y + 30), (214, 220, 224), -1)
    cv2.imwrite(str(root / "a.jpg"), optical)
    sar = (rng.rayleigh(300, (300, 300)) + 40).astype(np.uint16)
    sar[100:130, 150:210] += 3000
    cv2.imwrite(str(root / "b.tif"), sar)
    samples = [
        Sample("s/a.jpg", str(root / "a.jpg"), "s", "optical", 640, 480, [
            Instance("s/a.jpg#0", (120, 150, 181, 181), "optical ship", ["the ship on the left"]),
            Instance("s/a.jpg#1", (300, 230, 360, 260), "optical ship", ["the ship in the middle"],
                     flags=["screen: best IoU 0.12"]),
            Instance("s/a.jpg#2", (520, 90, 581, 121), "optical ship", [HOSTILE, "the upper right ship"],
                     flags=["ambiguous: said of two objects", f"screen: {HOSTILE}"]),
        ]),
        Sample("s/b.tif", str(root / "b.tif"), "s", "sar", 300, 300, [
            Instance("s/b.tif#0", (150, 100, 210, 130), "sar ship", ["the bright ship"],
                     flags=["screen: best IoU 0.25"]),
            Instance("s/b.tif#1", (20, 20, 60, 60), "sar ship", ["the ship in the corner"],
                     flags=["screen: best IoU 0.00"]),
        ]),
    ]  # fmt: skip
    recipe = {"name": "t", "names": NAMES}
    recipe["sources"] = [{"name": "s", "format": "yolo", "path": "s", "modality": "optical"}]
    steps.run(root / "work", "import", lambda _, report: samples, None, {"recipe": recipe})
    return root / "work"


def run(work: Path, **options: object) -> None:
    """Run the step `review` with some options."""
    run_step("review", work, **options)
