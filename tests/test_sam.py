"""The how-to of docs/labelling.md: masks of our boxes by Ultralytics' SAM, here with random weights."""

import re
from pathlib import Path

import cv2
import pytest
import torch

from optisar_yolo.synthetic.render import render_image

PAGE = Path(__file__).resolve().parents[1] / "docs" / "labelling.md"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not part of this copy")
def test_masks_of_boxes(tmp_path, monkeypatch):
    from ultralytics.models.sam.build import build_mobile_sam

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build_mobile_sam().state_dict(), "mobile_sam.pt")
    cv2.imwrite("port.jpg", render_image(seed=0, split="test", number=2)["img"])
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "SAM(" in c]
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    result, masks = names["result"], names["masks"]
    assert len(result.boxes) == 2 and result.obb is None
    assert masks.data.shape == (2, *result.orig_img.shape[:2])  # one per box; what random weights fill says nothing
