"""Colours: the object that has the colour gets the box, in every way of asking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optisar_yolo import OptiSAR
from optisar_yolo.engine import reasoning
from optisar_yolo.language import Found, read_query

RED, BLUE, GROUND = (30, 40, 210), (210, 70, 40), (118, 124, 128)  # BGR
SIZE = (96, 64)
BOXES = np.array([[8, 20, 28, 44], [40, 20, 60, 44], [70, 20, 90, 44]], np.float32)


@pytest.fixture
def image() -> np.ndarray:
    """Three squares: gray, red and blue."""
    image = np.full((SIZE[1], SIZE[0], 3), GROUND, np.uint8)
    for (x1, y1, x2, y2), colour in zip(BOXES.astype(int), ((150, 150, 150), RED, BLUE), strict=True):
        image[y1:y2, x1:x2] = colour
    return image


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> OptiSAR:
    """A network of random weights, whose search finds the three squares as planes, the gray one most surely."""
    torch.manual_seed(0)
    model = OptiSAR("optisar++n-late.yaml")
    model.overrides |= {"imgsz": 96, "save": False, "verbose": False, "engine": "torch"}

    def search(_model: object, encoded: object, texts: torch.Tensor, _canvas: object, sizes: list, k: int) -> list:
        return [[(BOXES.copy(), np.array([0.97, 0.95, 0.9], np.float32))] * len(texts) for _ in sizes]

    monkeypatch.setattr(reasoning, "candidates", search)
    return model


def nearest(box: np.ndarray) -> int:
    return int(np.abs(BOXES - box).sum(1).argmin())


def test_predict_and_encoded_images_choose_by_pixels(model: OptiSAR, image: np.ndarray) -> None:
    for text, expected in (("the red plane", 1), ("the blue plane", 2), ("the leftmost blue plane", 2)):
        for result in (model.predict(image, text=text)[0], model.encode(image).ground(text)):
            assert len(result.boxes) == 1 and nearest(result.boxes.xyxy[0].numpy()) == expected, text
            assert result.query[text].colour in str(result.query[text])
    both = model.predict(image, text="all red planes", conf=0.5)[0]
    assert [nearest(b) for b in both.boxes.xyxy.numpy()] == [1]


def test_a_colour_that_no_object_has_finds_nothing(model: OptiSAR, image: np.ndarray) -> None:
    result = model.predict(image, text="the green plane", conf=0.0)[0]
    assert float(result.boxes.conf.max()) <= reasoning.NO_SUCH + 1e-6
    assert len(model.predict(image, text="the green plane", conf=0.25)[0].boxes) == 0


def test_the_network_alone_reads_the_words(model: OptiSAR, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "how_coloured", None)  # not called
    assert len(model.predict(image, text="the red plane", reason=False, conf=0.0)[0].boxes) == 1


def test_of_gray_images_the_network_reads_the_words(
    model: OptiSAR, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hues no box is a choice by colour, and no reading says so: neither of one object nor of a landmark."""
    gray = image.mean(2, keepdims=True).astype(np.uint8).repeat(3, 2)
    texts = ["the red plane", "all red planes", "the leftmost red plane", "the ship nearest to the red plane"]
    monkeypatch.setattr(reasoning, "how_coloured", None)  # not called
    own = model.predict(gray, text="the red plane", reason=False, conf=0.0)[0]
    said: list[str] = []
    monkeypatch.setattr(reasoning.LOGGER, "info", said.append)
    reasoning._say_gray.cache_clear()
    for result in (model.predict(gray, text=texts, conf=0.0)[0], model.encode(gray).ground(texts, conf=0.0)):
        assert str(result.query[texts[0]]) == "as a whole, by the network"
        assert all("a red plane" in str(result.query[text]) for text in texts[1:])
        assert not any(result.query[text].colour for text in texts)
        assert all("no hues" in result.notes[text] for text in texts)
        first = result.boxes[result.boxes.cls == 0]
        assert np.allclose(first.xyxy.numpy(), own.boxes.xyxy.numpy(), atol=1e-3)
    assert sum("no hues" in line for line in said) == len(texts)


def test_gray_and_coloured_images_of_one_batch_are_read_apart(model: OptiSAR, image: np.ndarray) -> None:
    gray = image.mean(2, keepdims=True).astype(np.uint8).repeat(3, 2)
    first, second = model.predict([gray, image], text="the blue plane", conf=0.0)
    assert first.query["the blue plane"].colour is None and second.query["the blue plane"].colour == "blue"
    assert nearest(second.boxes.xyxy[0].numpy()) == 2


def test_mirrored_views_claim_no_choice(model: OptiSAR, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    result = model.predict(image, text=["the red plane", "all red planes"], augment=True, conf=0.0)[0]
    assert {str(query) for query in result.query.values()} == {"as a whole, by the network"}
    assert "augment=True" in result.notes["all red planes"] and len(result.boxes) == 2
    said: list[str] = []
    monkeypatch.setattr("optisar_yolo.engine.predict.LOGGER.warning", said.append)
    model.predict(image, text="all red planes", augment=True, topk="all")
    assert sum("'augment=True' has no effect with topk=all" in line for line in said) == 1


def test_the_border_of_the_canvas_is_no_part_of_an_image(image: np.ndarray) -> None:
    """A wide image with a little colour has hues, however much of its canvas is empty."""
    faint = torch.full((1, 3, 96, 96), 114 / 255)
    faint[:, 0, :8] += 12 / 255
    extent = torch.tensor([[0.0, 0.0, 1.0, 8 / 96]])
    queries = [read_query("the red plane")]
    assert reasoning.queries_in(queries, faint, extent)[0][0].colour == "red"
    assert reasoning.queries_in(queries, faint, torch.tensor([[0.0, 0.2, 1.0, 1.0]]))[0][0].colour is None


def test_boxes_are_measured_where_the_image_lies_on_its_canvas(image: np.ndarray) -> None:
    canvas = torch.full((3, 96, 96), 114 / 255)
    canvas[:, 16:80] = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255
    extent = torch.tensor([0.0, 16 / 96, 1.0, 80 / 96])
    found = reasoning.with_colours(
        [read_query("the blue plane")], {"a plane": Found(BOXES, np.full(3, 0.9))}, canvas, extent, SIZE
    )
    shares = found["a plane"].colours["blue"]
    assert shares.argmax() == 2 and shares[2] > 0.5 and shares[:2].max() < 0.05
