"""The examples run as they stand, and the bundled weights answer them rightly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.checkpoint import find_weights, load_shared
from optisar_yolo.cli import BUNDLED_MODEL
from optisar_yolo.data.render import draw
from optisar_yolo.nn.text import load_text_encoder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_quick_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "closest to the bottom" in done.stdout
    assert (tmp_path / "answer.png").stat().st_size > 0


def test_the_bundled_weights_belong_to_the_bundled_encoder() -> None:
    model = load_shared(find_weights(BUNDLED_MODEL))
    assert model.text_fingerprint == load_text_encoder("pocket").fingerprint
    assert model.yaml["scale"] == "n"


@pytest.mark.parametrize("number", [12, 9])  # an airport and a SAR coast
def test_opposite_sentences_get_different_objects(number: int) -> None:
    made = draw(seed=0, split="test", number=number)
    noun = "optical airplane" if made["modality"] == "optical" else "SAR ship"
    texts = [f"The leftmost {noun}", f"The rightmost {noun}"]
    boxes = OptiSAR(BUNDLED_MODEL).encode(made["img"]).ground(texts, conf=0.0).boxes.xyxy.numpy()
    mine = made["boxes"][[n == noun.lower() for n in made["names"]]]
    for box, target in zip(boxes, (mine[np.argmin(mine[:, 0])], mine[np.argmax(mine[:, 2])]), strict=True):
        low, high = np.maximum(box[:2], target[:2]), np.minimum(box[2:], target[2:])
        inter = np.prod(np.clip(high - low, 0, None))
        union = np.prod(box[2:] - box[:2]) + np.prod(target[2:] - target[:2]) - inter
        assert inter / union > 0.5
