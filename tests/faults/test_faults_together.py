"""Threads that share a model, processes that share a folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart import command, optisar, outcome, start
from tiny_net import settle

from optisar_yolo import OptiSAR

KIND = "many at once"
TEXTS = ["the ship in the upper left", "the airplane at the bottom", "the harbor", "the largest SAR ship"]


@pytest.fixture
def model() -> OptiSAR:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": 64, "save": False, "verbose": False}
    return model


@pytest.mark.fault(KIND, "two threads x 1,000 predictions with different expressions and images")
@pytest.mark.timeout(900)
def test_two_threads(model: OptiSAR) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2)]
    expected = [model.predict(images[i], text=TEXTS[i], conf=0.0)[0] for i in range(2)]
    assert not torch.equal(expected[0].boxes.data, expected[1].boxes.data)
    mixed: list[Any] = []

    def ask(i: int) -> None:
        for _ in range(1000):
            (got,) = model.predict(images[i], text=TEXTS[i], conf=0.0)
            if got.names != expected[i].names or not torch.allclose(got.boxes.data, expected[i].boxes.data, atol=1e-2):
                mixed.append((i, got.names))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed


@pytest.mark.fault(KIND, "four threads that set their own topk, conf and classes")
@pytest.mark.timeout(600)
def test_settings_of_a_call(model: OptiSAR) -> None:
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    wanted: list[dict[str, Any]] = [
        {"topk": 1, "conf": 0.0}, {"topk": 3, "conf": 0.0}, {"topk": 2, "conf": 0.9999}, {"conf": 0.0, "classes": [1]}
    ]  # fmt: skip
    expected = [len(model.predict(image, text=TEXTS[:2], **k)[0].boxes) for k in wanted]
    wrong: list[Any] = []

    def ask(i: int) -> None:
        for _ in range(100):
            if (n := len(model.predict(image, text=TEXTS[:2], **wanted[i])[0].boxes)) != expected[i]:
                wrong.append((wanted[i], n))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and expected[0] == 2 < expected[1]


@pytest.mark.fault(KIND, "two validations, two trainings and two rasters that are given one folder")
@pytest.mark.parametrize("verb", ["val", "train", "scene"])
@pytest.mark.timeout(400)
def test_two_processes(tmp_path: Path, tiny: Path, verb: str) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8))
    own = [f"project={tmp_path}/r", "name=run", "exist_ok=True", "imgsz=64"]
    words = {
        "val": ["val", f"data={tiny}", "device=cpu", "plots=False", "save_json=True", *own],
        "train": ["train", "model=optisar++n.yaml", f"data={tiny}", "epochs=1", "batch=2", "prompts=8", "plots=False",
                  "workers=0", "device=cpu", *own],
        "scene": ["scene", f"source={tmp_path}/p.png", "text=the ship", "map=False", *own],
    }[verb]  # fmt: skip
    children = [start(optisar, *words, folder=tmp_path) for _ in range(2)]
    got = [outcome(*child, seconds=300) for child in children]
    alone = command(tmp_path, *[w.replace("name=run", "name=alone") for w in words], seconds=300)
    assert alone.status == 0, alone.err[-1500:]
    assert any(o.status == 0 for o in got), [o.err[-800:] for o in got]
    for each in got:
        assert each.status == 0 or "writes to this run folder" in each.err or "another" in each.err, each.err[-1500:]
    results = {"val": "predictions.json", "train": "weights/last.pt", "scene": "objects.csv"}[verb]
    found = [next((tmp_path / "r").rglob(f"{name}/**/{Path(results).name}"), None) for name in ("run", "alone")]
    if verb != "train" and all(found):
        assert found[0].read_bytes() == found[1].read_bytes()  # type: ignore[union-attr]
    else:
        assert all(found)
