"""Ultralytics' keys in prediction: each is heeded, refused, or named as without effect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_net import settle

from optisar_yolo import OptiSAR
from optisar_yolo.data.images import read_image
from optisar_yolo.data.stretch import ImageRendering

TEXTS = ["The ship in the upper left", "the airplane at the bottom"]


@pytest.fixture(scope="module")
def model():
    """Random weights, but results that depend on image and expression."""
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": 64, "save": False, "verbose": False}
    return model


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), (100, 60), interpolation=cv2.INTER_CUBIC)


def ground(model, source, text=TEXTS, **kwargs):
    return model.predict(source, text=text, conf=0.0, **kwargs)


def test_classes_and_max_det_choose_among_the_boxes(model, image):
    everything = ground(model, image, topk=3)[0].boxes
    second = ground(model, image, topk=3, classes=[1])[0]
    assert second.names == dict(enumerate(TEXTS)) and torch.equal(
        second.boxes.data, everything.data[everything.cls == 1]
    )
    assert torch.equal(ground(model, image, topk=3, classes=0)[0].boxes.data, everything.data[everything.cls == 0])
    best = ground(model, image, topk=3, max_det=1)[0].boxes
    assert len(best) == 1 and best.conf.item() == everything.conf.max().item()
    two = ground(model, image, topk=3, max_det=2)[0].boxes
    assert sorted(two.conf.tolist()) == sorted(everything.conf.tolist())[-2:]
    assert len(ground(model, image, text=["the ship"] * 301)[0].boxes) == 301, "the default cuts nothing off"
    for wrong in ([2], [-1], ["ship"]):
        with pytest.raises(ValueError, match=r"classes|0 to 1"):
            ground(model, image, classes=wrong)
    assert len(ground(model, image)[0].boxes) == 2


def test_iou_sets_when_boxes_are_duplicates(model, image):
    counts = [len(ground(model, image, text=TEXTS[0], topk=20, iou=iou)[0].boxes) for iou in (0.05, 0.95)]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("key", [{"visualize": True}, {"agnostic_nms": True}, {"retina_masks": True}, {"dnn": True}])
def test_keys_without_meaning_are_named_once(model, image, log, key):
    expected = ground(model, [image, image])[0].boxes.data
    log.clear()
    assert torch.equal(ground(model, [image, image], **key)[0].boxes.data, expected)
    assert log.text.count(f"'{next(iter(key))}=True' has no effect") == 1
    log.clear()
    model.predictor = None  # Ultralytics keeps some keys, such as dnn, for its predictor's later calls
    ground(model, image)
    assert "no effect" not in log.text


def test_embed_is_refused(model, image):
    with pytest.raises(ValueError, match="encode"):
        ground(model, image, embed=[3])


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_batches_that_are_none_are_refused(batch: float, model: OptiSAR) -> None:
    with pytest.raises(ValueError, match="batch sizes are not found by trying"):
        model.predict(np.zeros((32, 32, 3), np.uint8), text="the ship", batch=batch)


def test_bands_and_stretch_are_those_of_rasters(model: OptiSAR, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    deep = np.random.default_rng(0).integers(300, 9000, (5, 60, 100)).astype(np.uint16)
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=100, height=60, count=5, dtype="uint16") as file:
        file.write(deep)
    options = {"bands": (4, 3, 2), "stretch": "percentile"}
    shown = read_image(path, ImageRendering(**options))
    for source in (path, [path], deep.transpose(1, 2, 0), tmp_path):
        result = ground(model, source, **options)[0]
        assert (result.orig_img == shown).all()
        assert torch.equal(result.boxes.data, ground(model, shown)[0].boxes.data)
    assert (model.encode(path, imgsz=64, bands=[4, 3, 2], stretch="percentile").image == shown).all()
    assert (ground(model, path, bands=2)[0].orig_img == read_image(path, ImageRendering((2,)))).all()
    for wrong, words in (
        ({"bands": (6,)}, "has 5 bands"),
        ({"bands": (1, 2)}, "one band, or three"),
        ({"stretch": "x"}, "not valid"),
    ):
        with pytest.raises(ValueError, match=words):
            ground(model, [path], **wrong)
