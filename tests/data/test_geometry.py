"""Images on canvases and back, and augmentation that keeps boxes and captions true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo import language
from optisar_yolo.data.annotated import AnnotatedImage
from optisar_yolo.data.augment import ASPECT, jitter_tone, mirror, zoom
from optisar_yolo.data.geometry import GREY, STRIDE, canvas_for, draw_on_canvas, letterbox, to_canvas, to_image

sides = st.integers(1, 1500)
imgsz = st.integers(2, 32).map(lambda n: n * STRIDE)
share = st.floats(0, 1, width=32)


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def boxes_in(width, height, shares):
    """Boxes [N, 4] xyxy within an image from shares of its sides, in any order."""
    s = np.array(shares, np.float32).reshape(-1, 2, 2)
    return np.concatenate((s.min(1), s.max(1)), 1) * np.tile(np.array([width, height], np.float32), 2)


@settings(max_examples=200, deadline=None)
@given(sides, sides, imgsz, st.booleans(), st.lists(st.tuples(share, share, share, share), min_size=1, max_size=5))
def test_boxes_come_back(height, width, size, square, shares):
    """Image to canvas shares to canvas pixels to image, within a hundredth of a pixel for every shape."""
    _, extent = letterbox(np.zeros((height, width, 3), np.uint8), size, square)
    canvas = (size, size) if square else canvas_for(height, width, size)[:2]
    boxes = boxes_in(width, height, shares)
    on_canvas = to_canvas(boxes, (width, height), extent) * np.tile(np.array(canvas[::-1], np.float32), 2)
    assert (on_canvas >= -1e-3).all() and (on_canvas <= np.tile(canvas[::-1], 2) + 1e-3).all()
    back = to_image(on_canvas, (width, height), extent, canvas)
    assert back.dtype == np.float32
    assert np.abs(back - boxes).max() < 0.01


@settings(max_examples=100, deadline=None)
@given(sides, sides, imgsz)
def test_canvas_is_the_smallest_that_fits(height, width, size):
    ch, cw, h, w = canvas_for(height, width, size)
    assert max(h, w) == size and max(ch, cw) == size
    for canvas, drawn in ((ch, h), (cw, w)):
        assert canvas % STRIDE == 0 and 1 <= drawn <= canvas < drawn + STRIDE
    assert abs(h / w - height / width) <= 0.51 * (1 + height / width) / w or min(h, w) == 1


def test_letterbox_draws_where_its_extent_says():
    img = np.full((40, 100, 3), 200, np.uint8)
    canvas, extent = letterbox(img, 128)
    assert canvas.shape == (64, 128, 3) and extent.dtype == np.float32
    left, top, right, bottom = extent * (128, 64, 128, 64)
    assert (left, right) == (0, 128) and bottom - top == 51
    inside = np.zeros((64, 128), bool)
    inside[round(top) : round(bottom)] = True
    assert (canvas[inside] == 200).all() and (canvas[~inside] == GREY).all()


def test_square_letterbox_pads_the_short_side_evenly():
    canvas, extent = letterbox(np.zeros((30, 60, 3), np.uint8), 64, square=True)
    assert canvas.shape == (64, 64, 3)
    assert extent.tolist() == [0, 0.25, 1, 0.75]


def test_image_of_canvas_size_is_taken_as_it_is():
    img = image(64, 96)
    canvas, extent = letterbox(img, 96)
    assert np.array_equal(canvas, img) and extent.tolist() == [0, 0, 1, 1]


def test_boxes_are_clipped_to_the_image():
    extent = np.array([0.25, 0, 0.75, 1], np.float32)
    out = to_image(np.array([[-50, -50, 500, 500]], np.float32), (20, 40), extent, (64, 64))
    assert out.tolist() == [[0, 0, 20, 40]]


def test_no_boxes_stay_no_boxes():
    none, extent = np.zeros((0, 4), np.float32), np.array([0, 0, 1, 1], np.float32)
    assert to_canvas(none, (10, 10), extent).shape == to_image(none, (10, 10), extent, (32, 32)).shape == (0, 4)


# flips

SIZE = (200, 120)
BOXES = np.array([[10, 10, 40, 30], [150, 80, 190, 110], [90, 50, 110, 70]], np.float32)
NAMES = ["optical ship"] * 3
CAPTIONS = (
    ("The optical ship in the upper left corner of the image", "The leftmost optical ship"),
    ("The optical ship in the lower right corner of the image", "The ship on the far right"),
    ("The optical ship in the middle of the image", "A ship turned clockwise"),
)
BOTH = [(True, False), (False, True), (True, True)]


def paint(boxes, size):
    """An image whose objects have values of their own."""
    img = np.zeros((size[1], size[0], 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        img[y1:y2, x1:x2] = 50 * (i + 1)
    return img


def flip(img, boxes, captions, size, horizontal, vertical):
    """Mirror an image of optical objects."""
    return mirror(AnnotatedImage(img, boxes, NAMES, captions, size, "optical"), horizontal, vertical)


@pytest.mark.parametrize(("horizontal", "vertical"), BOTH)
def test_flip_moves_boxes_with_the_image(horizontal, vertical):
    out = flip(paint(BOXES, SIZE), BOXES, CAPTIONS, SIZE, horizontal, vertical)
    assert np.array_equal(out.img, paint(out.boxes, SIZE))
    assert (out.boxes[:, :2] < out.boxes[:, 2:]).all() and not np.array_equal(out.boxes, BOXES)
    assert BOXES[0].tolist() == [10, 10, 40, 30]  # the record is not changed


@pytest.mark.parametrize(("horizontal", "vertical"), BOTH)
def test_flipped_captions_stay_true(horizontal, vertical):
    """What the boxes proved before, they prove after; and unless rewritten the captions would be false."""
    out = flip(paint(BOXES, SIZE), BOXES, CAPTIONS, SIZE, horizontal, vertical)
    checked = stale = 0
    for i, texts in enumerate(CAPTIONS):
        objects, flipped = (
            language.LabelledObjects(BOXES, NAMES, SIZE),
            language.LabelledObjects(out.boxes, NAMES, SIZE),
        )
        for text in texts:
            if objects.truths(text)[i] is True:
                stale += flipped.truths(text)[i] is False
        for text in out.captions[i]:
            verdict = flipped.truths(text)[i]
            assert verdict is not False, text
            checked += verdict is True
    assert checked >= 4 and stale >= 2


def test_captions_that_no_mirror_keeps_true_are_left_out():
    out = flip(paint(BOXES, SIZE), BOXES, CAPTIONS, SIZE, True, False)
    assert [len(c) for c in out.captions] == [2, 2, 1]
    assert out.captions[0][0] == "The optical ship in the upper right corner of the image"
    kept = flip(paint(BOXES, SIZE), BOXES, CAPTIONS, SIZE, True, True)  # a rotation keeps it
    assert kept.captions[2][1] == "A ship turned clockwise"


@pytest.mark.parametrize(("horizontal", "vertical"), BOTH)
def test_flipping_twice_changes_nothing(horizontal, vertical):
    img, captions = paint(BOXES, SIZE), tuple(c[:1] for c in CAPTIONS)
    once = flip(img, BOXES, captions, SIZE, horizontal, vertical)
    twice = flip(once.img, once.boxes, once.captions, SIZE, horizontal, vertical)
    assert np.array_equal(twice.img, img) and np.array_equal(twice.boxes, BOXES) and twice.captions == captions
    assert twice.img.flags["C_CONTIGUOUS"]


def test_no_flip_is_no_change():
    img = paint(BOXES, SIZE)
    out = flip(img, BOXES, CAPTIONS, SIZE, False, False)
    assert out.img is img and out.boxes is BOXES and out.captions == CAPTIONS


# zoom and tone


@settings(max_examples=200, deadline=None)
@given(imgsz, sides, sides, st.floats(0, 0.9), st.integers(0, 99))
def test_zoom_stays_inside_the_canvas(size, height, width, scale, seed):
    (h, w), (top, left) = zoom(size, height, width, scale, np.random.default_rng(seed))
    assert h >= 1 and w >= 1 and top >= 0 and left >= 0 and top + h <= size and left + w <= size
    r = size / max(height, width)
    assert h <= max(round(height * r), 1) and w <= max(round(width * r), 1)
    least = (1 - scale) * (1 - min(ASPECT, scale))
    assert h >= height * r * least - 1 and w >= width * r * least - 1
    canvas, extent = draw_on_canvas(np.zeros((3, 5, 3), np.uint8), (size, size), (h, w), (top, left))
    assert canvas.shape == (size, size, 3) and (extent >= 0).all() and (extent <= 1).all()
    assert ((canvas == 0).all(2)).sum() == h * w


def test_zoom_without_scale_is_the_letterbox():
    rng = np.random.default_rng(0)
    (h, w), (top, left) = zoom(128, 50, 100, 0, rng)
    assert (h, w, top, left) == (64, 128, 32, 0)


def test_zoom_varies():
    rng = np.random.default_rng(0)
    drawn = {zoom(128, 100, 100, 0.5, rng) for _ in range(20)}
    assert len(drawn) > 15


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99))
def test_tone_keeps_the_order_of_brightness(amount, seed):
    """One curve for all pixels and channels: colours named in captions are not turned into others."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    out = jitter_tone(ramp, amount, np.random.default_rng(seed))
    assert out.dtype == np.uint8 and out.shape == ramp.shape
    assert (np.diff(out[..., 0].ravel().astype(int)) >= 0).all() and (out == out[..., :1]).all()
    if amount == 0:
        assert out is ramp


def test_tone_changes_images_by_different_amounts():
    rng = np.random.default_rng(0)
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert len({int(jitter_tone(grey, 0.5, rng)[0, 0, 0]) for _ in range(10)}) > 5
