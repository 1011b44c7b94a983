"""Masks of our boxes by Ultralytics' SAM, with random weights: what docs/masks.md says of their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
from page_code import random_sam
from ultralytics import SAM

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_mask_names_its_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random_sam(tmp_path)
    image = render_image(seed=0, split="test", number=9)["img"]
    cv2.imwrite("port.jpg", image)
    result = OptiSAR(BUNDLED_MODEL).predict("port.jpg", text="all ships")[0]
    sam = SAM("mobile_sam.pt")
    assert not isinstance(sam, OptiSAR) and len(result.boxes) > 2
    segmented = sam.predict("port.jpg", bboxes=result.boxes.xyxy, conf=0, save=False)[0]
    assert segmented.masks.data.shape == (len(result.boxes), *image.shape[:2])
    assert segmented.boxes.cls.tolist() == list(range(len(result.boxes)))
    assert len(segmented.masks.xy) == len(result.boxes)
    best = result.boxes[torch.tensor([1])].xyxy
    alone = sam.predict("port.jpg", bboxes=best, conf=0, save=False)[0]
    assert alone.masks.data.shape[0] == 1
    assert (alone.masks.data[0] == segmented.masks.data[1]).float().mean() > 0.99, "masks have the order of the boxes"
