"""The examples run as they stand, and the bundled weights answer them rightly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

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


def test_sentences_of_place_find_their_object() -> None:
    model = OptiSAR(BUNDLED_MODEL)
    hits = []
    for number in range(16):  # optical and SAR in turn; the first scenes of the test split, whatever they show
        made = draw(seed=0, split="test", number=number)
        asked = [(i, text) for i, text, kind in made["expressions"] if kind == "position"]
        if asked:
            found = model.encode(made["img"]).ground([text for _, text in asked], conf=0.0).boxes.xyxy
            targets = torch.tensor(made["boxes"][[i for i, _ in asked]], dtype=torch.float32)
            hits += (box_iou(found, targets).diagonal() >= 0.5).tolist()
    assert len(hits) >= 20
    assert np.mean(hits) >= 0.5


def test_a_changed_word_changes_the_answer() -> None:
    picture = draw(seed=0, split="test", number=7)["img"]  # SAR transmission towers, one in each lower corner
    texts = [f"The SAR transmission tower in the lower {side} corner of the image" for side in ("left", "right")]
    left, right = OptiSAR(BUNDLED_MODEL).encode(picture).ground(texts, conf=0.0).boxes.xywhn[:, 0].tolist()
    assert left < 1 / 3 and right > 2 / 3
