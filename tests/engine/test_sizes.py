"""The side at which an image runs where none is set, and the word about images that are shrunk far."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.engine.sizes import shrink_note, side_for


@pytest.mark.parametrize(
    ("long", "sizes", "side"),
    [
        (64, [192, 576], 320),  # small images are drawn at the side of training
        (640, [192, 576], 320),
        (800, [192, 576], 416),  # 400 is no multiple of the stride
        (1020, [192, 576], 512),
        (4000, [192, 576], 576),
        (4000, None, 320),  # weights that do not say which sizes they know
        (4000, [192, 256], 320),
    ],
)
def test_the_side_follows_the_image_within_what_the_weights_know(long: int, sizes: list[int] | None, side: int) -> None:
    model = SimpleNamespace(facts={"sizes": sizes} if sizes else {})
    assert side_for(model, (long // 2, long), 320) == side_for(model, (long, long // 3), 320) == side


def test_shrinking_is_said_beyond_three_times_alone() -> None:
    assert shrink_note((960, 500), 320) == ""
    note = shrink_note((500, 1920), 320)
    assert "1920 pixels are shrunk 6.0 times to imgsz=320" in note and "optisar scene" in note


def test_predict_and_encode_choose_the_side_and_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    model = opened()
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((40, 64), (300, 200), (60, 900), (180, 170))]
    caplog.clear()
    model.predict(images, text="the ship", save=False, verbose=False)
    assert [w.message.count("are shrunk") for w in caplog.records].count(1) == 1
    groups = {tuple(x.shape[2:]) for _, x, _ in model.predictor.groups}
    assert {max(shape) for shape in groups} == {64, 96, 128}  # 300 / 2 is beyond what they know
    assert max(model.encode(images[1]).canvas) == 128 and max(model.encode(images[0]).canvas) == 64
    caplog.clear()
    model.predict(images, text="the ship", imgsz=64, save=False, verbose=False)
    assert {max(x.shape[2:]) for _, x, _ in model.predictor.groups} == {64}
    assert sum("are shrunk" in w.message for w in caplog.records) == 1
    assert max(model.encode(images[1], imgsz=96).canvas) == 96


def opened() -> OptiSAR:
    """A small network that knows sides of 32 to 128 pixels, 64 by default."""
    model = OptiSAR("optisar++n-late.yaml")
    model.model.facts = {"sizes": [32, 128]}
    model.overrides["imgsz"] = 64
    return model
