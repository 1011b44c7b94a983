"""Ordinals, sets and counts: what comes back, and that it is the same in every way of asking."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny_net import settle

from optisar_yolo import OptiSAR
from optisar_yolo.data import load_dataset_config, load_split
from optisar_yolo.engine import Detections, GroundingValidator, reasoning
from optisar_yolo.engine.calibrate import MATCH_ATTRIBUTE, Calibration, attach
from optisar_yolo.language import Found, read_query, weigh
from optisar_yolo.plugin import config_keys
from optisar_yolo.utils import SettingError

SIZE = 64
ORDINAL, SET, PLAIN = "the second ship from the left", "all ships", "the ship in the upper left"


@pytest.fixture(scope="module", params=["optisar++n.yaml", "optisar++n-late.yaml"])
def model(request):
    """Random weights, but answers that depend on image and expression."""
    torch.manual_seed(0)
    model = OptiSAR(request.param)
    settle(model.model)
    model.overrides |= {"imgsz": SIZE, "save": False, "verbose": False}
    return model


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), (100, 60), interpolation=cv2.INTER_CUBIC)


def ground(model, source, text, conf=0.0, **kwargs):
    return model.predict(source, text=text, conf=conf, **kwargs)


def rows(result, j=0):
    return result.boxes.data[result.boxes.cls == j].cpu().numpy()


def test_a_set_is_all_that_its_category_finds(model, image):
    every = rows(ground(model, image, "a ship", conf=0.3, topk="all")[0])
    found = ground(model, image, SET, conf=0.3)[0]
    assert len(every) > 2 and found.count == {SET: len(every)} and found.notes == {}
    np.testing.assert_allclose(rows(found), every, atol=1e-3)
    assert (rows(found)[:, 4] >= 0.3).all()
    stricter = ground(model, image, SET, conf=float(every[1, 4]) - 1e-4)[0]
    assert stricter.count == {SET: 2}
    assert len(rows(ground(model, image, SET, topk=3)[0])) == 3


def test_a_set_has_the_calibration_and_the_threshold_of_all_boxes(model, image):
    attach(model.model, calibrated(1.0, 0.0, 0.4))
    attach(model.model, calibrated(2.0, 0.5, 0.6), MATCH_ATTRIBUTE)
    model.predictor = None
    try:
        assert len(model.predict(image, text=PLAIN)[0].boxes) <= 1
        raw = rows(ground(model, image, "a ship", topk=40)[0])[:, 4]
        every = calibrated(2.0, 0.5, 0.6)(raw)
        for found in (model.predict(image, text=SET)[0], model.predict(image, text="a ship", topk="all")[0],
                      model.encode(image).ground(SET)):  # fmt: skip
            np.testing.assert_allclose(rows(found)[:, 4], every[every >= 0.6], atol=2e-3)
        alone = model.predict(image, text=SET, conf=0.2)[0]  # a threshold that is given holds as it is
        assert len(rows(alone)) == (every >= 0.2).sum() > (every >= 0.6).sum()
    finally:
        attach(model.model, None)
        attach(model.model, None, MATCH_ATTRIBUTE)
        model.predictor = None


def calibrated(a: float, b: float, threshold: float) -> Calibration:
    return Calibration(a=a, b=b, threshold=threshold)


def test_a_number_bounds_a_set_and_a_shortage_is_said(model, image):
    two, many = ground(model, image, ["two ships", "500 ships"], conf=0.1)[0].count.values()
    assert two == 2 < many
    result = ground(model, image, ["two ships", "500 ships"], conf=0.1)[0]
    assert result.notes == {"500 ships": f"{many} found, not 500"}


def test_a_question_about_a_number_is_counted(model, image, log):
    text = "how many ships are there?"
    result = ground(model, image, text, conf=0.3, verbose=True)[0]
    n = result.count[text]
    assert n == len(rows(ground(model, image, SET, conf=0.3)[0])) and result.notes == {text: f"{n} found"}
    assert any(f"{n} found" in r.getMessage() for r in log.records)
    nothing = ground(model, image, text, conf=1.0)[0]
    assert nothing.count[text] == 0 and nothing.notes == {text: "0 found"}


def test_an_ordinal_is_chosen_among_what_is_found(model, image):
    result = ground(model, image, ORDINAL)[0]
    found = rows(ground(model, image, "a ship", topk="all")[0])
    kept = found[found[:, 4] >= reasoning.LEAST]
    score = weigh(read_query(ORDINAL), {"a ship": Found(kept[:, :4], kept[:, 4])}, (100, 60))
    assert score.max() > reasoning.CHOICE_FIRST["ordinal"]
    (box,) = rows(result)
    np.testing.assert_allclose(box[:4], kept[score.argmax(), :4], atol=1e-2)
    assert box[4] == pytest.approx(score.max(), abs=1e-3)
    assert str(result.query[ORDINAL]) == '"a ship", counted from the left, number 2'


def test_the_network_alone_is_a_switch(model, image, monkeypatch):
    texts = [ORDINAL, SET, PLAIN, "the leftmost ship"]
    alone = ground(model, image, texts, reason=False)[0]
    monkeypatch.setattr(reasoning, "read_query", lambda *_: pytest.fail("an expression was read"))
    again = model.encode(image).ground(texts, conf=0, reason=False)
    assert len(alone.boxes) == 4 and SET in alone.notes and "one box" in alone.notes[SET]
    np.testing.assert_allclose(again.boxes.data.numpy(), alone.boxes.data.numpy(), atol=1e-2, rtol=1e-3)
    assert {str(q) for q in alone.query.values()} == {"as a whole, by the network"}


def test_all_ways_of_asking_agree(model, image):
    texts = [ORDINAL, SET, PLAIN, ORDINAL, "the third gizmo from the left", "the ship closest to the harbor"]
    other = np.ascontiguousarray(image[:, ::-1])
    one, two = ground(model, [image, other], texts, conf=0.2)
    for result, source in ((one, image), (two, other)):
        scene = model.encode(source).ground(texts, conf=0.2)
        np.testing.assert_allclose(scene.boxes.data.numpy(), result.boxes.data.numpy(), atol=2e-2, rtol=1e-3)
        for j, text in enumerate(texts):
            single = ground(model, source, text, conf=0.2)[0]
            np.testing.assert_allclose(rows(single)[:, :5], rows(result, j)[:, :5], atol=2e-2, rtol=1e-3)
    assert one[:1].query == one.query and one.cpu().query == one.query


def test_several_boxes_reach_every_output(model, image, tmp_path):
    result = ground(model, image, [SET, PLAIN], conf=0.3)[0]
    n = result.count[SET]
    result.save_txt(tmp_path / "labels.txt")
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    assert sum(line.startswith("0 ") for line in lines) == n > 2
    assert result.to_json().count(f'"{SET}"') == n and f'"{SET}" {n} found' in result.verbose()
    assert result.plot().shape[0] > 60


def test_topk_is_a_number_or_all(model, image):
    with pytest.raises(SettingError, match="all"):
        model.encode(image).ground(PLAIN, topk="most")
    assert len(model.encode(image).ground(PLAIN, conf=0, topk="all").boxes) > 3


def one_box(x, conf):
    return Detections(np.array([[x, 0, x + 5, 5]], np.float32), np.array([conf], np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("text", "network", "conf", "by_network"),
    [
        ("the leftmost ship", 0.9, 0.95, True), ("the leftmost ship", 0.2, 0.95, False),
        ("the leftmost ship", 0.2, 0.3, True), ("the second ship from the left", 0.99, 0.95, False),
        ("the ship closest to the bridge", 0.9, 0.95, False), ("the ship closest to the bridge", 0.9, 0.2, True),
    ],
)  # fmt: skip
def test_each_kind_has_its_better_witness(text, network, conf, by_network):
    query = read_query(text)
    boxes = np.array([[10, 0, 15, 5], [40, 0, 45, 5]], np.float32)
    found = {core: Found(boxes, np.full(2, conf, np.float32)) for core in query.cores}
    if "a bridge" in found:
        found["a bridge"] = Found(np.array([[50, 0, 60, 5.0]]), np.array([conf]))
    result = reasoning._single(query, one_box(80, network), found, (100, 100), 1)
    assert (result.boxes[0, 0] == 80) == by_network
    assert len(result) == 1


def test_an_ordinal_beyond_what_is_found_gets_no_confident_box():
    query = read_query("the fifth ship from the left")
    found = {"a ship": Found(np.array([[10, 0, 15, 5.0]]), np.array([0.9]))}
    result = reasoning._single(query, one_box(80, 0.95), found, (100, 100), 1)
    assert result.confidence[0] <= reasoning.NO_SUCH


def asked(image):
    """An image with expressions that are reasoned about, and a plain one."""
    texts = ["The leftmost ship", ORDINAL, "the ship closest to the airplane", PLAIN]
    return replace(image, captions=[texts for _ in image.captions], kinds=[[""] * 4 for _ in image.captions])


def test_validation_gives_the_boxes_of_prediction(tiny):
    model = OptiSAR("optisar++n-pocket.safetensors")
    about = {"data": str(tiny), "split": "val", "imgsz": SIZE, "plots": False, "verbose": False, "workers": 0}
    found = {}
    for reason in (True, False):
        with config_keys():
            args = {**model.overrides, "rect": True, "mode": "val", **about, "reason": reason}
            validator = GroundingValidator(args=args)
            validator.config = load_dataset_config(tiny)
            validator.images = [asked(image) for image in load_split(validator.config, "val")]
            validator(model=model.model)
        found[reason] = validator.cases
    assert any(read_query(case.caption).reasoned for case in found[True])
    for case in found[True]:
        (box,) = ground(model, str(case.path), case.caption, imgsz=SIZE)[0].boxes.data.numpy()
        np.testing.assert_allclose(box[:4], case.predicted_box, atol=0.5)
        assert box[4] == pytest.approx(case.conf, abs=0.02)
    for case in found[False]:
        (box,) = ground(model, str(case.path), case.caption, imgsz=SIZE, reason=False)[0].boxes.data.numpy()
        np.testing.assert_allclose(box[:4], case.predicted_box, atol=0.5)
