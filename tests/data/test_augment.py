"""Augmentation: whatever is done to an image, its boxes stay on its objects and its expressions stay true."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo import language
from optisar_yolo.data import augment, dataset
from optisar_yolo.data.annotated import AnnotatedImage, mask_uncertain_targets, revalidate_captions
from optisar_yolo.data.compose import background, background_window, copy_paste, mosaic
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.records import load_split
from optisar_yolo.language import parse
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

NOUNS = ("ship", "harbor", "bridge")
STEPS = {
    "flip": {"fliplr": 0.5, "flipud": 0.5}, "rot90": {"rot90": 1.0}, "mosaic": {"mosaic": 1.0}, "crop": {"crop": 1.0},
    "copy_paste": {"copy_paste": 1.0}, "zoom": {"scale": 0.5},
    "all": {"fliplr": 0.5, "flipud": 0.5, "rot90": 0.7, "mosaic": 0.4, "crop": 0.7, "copy_paste": 0.5, "scale": 0.5,
            "reword": 0.3},
}  # fmt: skip


def settings_of(**changes):
    base = {
        "imgsz": 96, "seed": 1, "epochs": 50, "close_mosaic": 0, "mosaic": 0.0, "crop": 0.0, "copy_paste": 0.0,
        "rot90": 0.0, "fliplr": 0.0, "flipud": 0.0, "scale": 0.0, "rewrite": True, "hsv_h": 0.0, "hsv_s": 0.0,
        "hsv_v": 0.0, "speckle": 0.0, "prompts": 12, "neg_ratio": 0.5, "reword": 0.0, "describe": 0.5,
        "negatives": "proven",
    }  # fmt: skip
    return SimpleNamespace(**OPTISAR_DEFAULTS | base | changes)


@pytest.fixture(scope="module")
def config(tiny):
    return load_dataset_config(tiny)


def painted(seed, modality="optical"):
    """An image of up to seven objects that do not overlap, each filled with a grey value of its own."""
    rng = np.random.default_rng(seed)
    w, h = int(rng.integers(80, 160)), int(rng.integers(80, 160))
    img = np.full((h, w, 3), 5, np.uint8)
    boxes, names = [], []
    for cell in rng.permutation(9)[: int(rng.integers(1, 8))].tolist():
        x0, y0 = cell % 3 * w / 3, cell // 3 * h / 3
        bw, bh = rng.uniform(8, w / 3 - 2), rng.uniform(8, h / 3 - 2)
        x, y = round(x0 + rng.uniform(0, w / 3 - bw - 1)), round(y0 + rng.uniform(0, h / 3 - bh - 1))
        boxes.append([x, y, x + round(bw), y + round(bh)])
        names.append(f"{modality} {NOUNS[int(rng.integers(len(NOUNS)))]}")
        img[y : y + round(bh), x : x + round(bw)] = 20 + 25 * len(boxes)
    array = np.array(boxes, np.float32)
    objects = language.LabelledObjects(array, names, (w, h))
    return AnnotatedImage(
        img,
        array,
        tuple(names),
        tuple(tuple(language.describe(objects, i, rng)) for i in range(len(names))),
        (w, h),
        modality,
    )


def shades(image):
    """The grey value in the middle of each box, where the box is wide enough to have one."""
    scale = np.array(image.img.shape[1::-1]) / image.size
    middle = ((image.boxes[:, :2] + image.boxes[:, 2:]) / 2 * scale).astype(int)
    return [int(image.img[y, x, 0]) for x, y in middle]


def assert_captions_true(image, strict):
    objects = image.objects
    for i, texts in enumerate(image.captions):
        assert not (image.remnant[i] and texts)
        for text in texts:
            truths = objects.truths(text)
            assert truths[i] is (True if strict else truths[i] or True), (text, truths)
            if strict:
                alike = [k for k in objects.groups[objects.names[i]] if k != i]
                if parse(text, image.vocabulary).number is not None:  # all objects of a set have its caption
                    assert all((truths[k] is True) == (text in image.captions[k]) for k in alike), (text, truths)
                    alike = [k for k in alike if text not in image.captions[k]]
                assert all(truths[k] is False for k in alike), (text, truths)


# one step at a time, on made images


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_mirrored_captions_stay_true(seed, horizontal, vertical):
    image = painted(seed)
    done = augment.mirror(image, horizontal, vertical)
    assert shades(done) == shades(image)
    assert_captions_true(done, strict=False)
    assert [len(t) for t in done.captions] == [len(t) for t in image.captions]  # rule-made ones can all be rewritten
    back = augment.mirror(done, horizontal, vertical)
    assert np.array_equal(back.img, image.img) and np.allclose(back.boxes, image.boxes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_rotated_captions_stay_true(seed, turns):
    image, rng = painted(seed), np.random.default_rng(seed)
    done = augment.rotate(image, turns, rng)
    assert shades(done) == shades(image)
    assert done.size == done.img.shape[1::-1]
    assert_captions_true(done, strict=False)
    back = augment.rotate(done, -turns, rng)
    assert np.array_equal(back.img, image.img) and np.allclose(back.boxes, image.boxes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_crops_keep_an_object_and_have_true_captions(seed):
    image = painted(seed)
    done = augment.crop(image, np.random.default_rng(seed))
    assert done.size == done.img.shape[1::-1]
    assert all(2 * a >= b for a, b in zip(done.size, image.size, strict=True))
    areas = sorted(np.prod(image.boxes[:, 2:] - image.boxes[:, :2], axis=1).tolist())
    left = np.prod(done.boxes[:, 2:] - done.boxes[:, :2], axis=1).tolist()
    assert any(min(abs(a - b) for b in areas) < 0.5 for a in left)  # one is there as a whole
    assert set(shades(done)) <= set(shades(image))
    assert_captions_true(done, strict=True)
    assert done.revalidated


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_mosaics_have_true_captions(seed):
    images = [painted(seed + k) for k in range(4)]
    done = mosaic(images, 128, np.random.default_rng(seed))
    assert done.img.shape == (128, 128, 3) and done.size == (128, 128) and done.fills_canvas
    assert (done.boxes >= 0).all() and (done.boxes <= 128).all() and (done.boxes[:, 2:] > done.boxes[:, :2]).all()
    assert all(s > 5 for s, box in zip(shades(done), done.boxes, strict=True) if (box[2:] - box[:2]).min() > 6)
    assert_captions_true(done, strict=True)


def test_crops_do_not_depend_on_the_scale_of_the_boxes():
    for seed in range(20):
        image = painted(seed)
        coarse = replace(image, size=(4 * image.size[0], 2 * image.size[1]), boxes=image.boxes * [4, 2, 4, 2])
        done, same = (augment.crop(one, np.random.default_rng(seed)) for one in (image, coarse))
        assert np.array_equal(done.img, same.img) and np.allclose(done.boxes, same.boxes, atol=1e-4)


@pytest.mark.parametrize("side", [150, 151])  # 151 pixels reduced to 96 are a little more than 96 in float32
def test_crops_keep_an_object_as_large_as_the_image(side):
    whole = np.array([[0, 0, side, side]], np.float32)
    image = AnnotatedImage(np.zeros((96, 96, 3), np.uint8), whole, ("sar ship",), ((),), (side, side), "sar")
    assert augment.crop(image, np.random.default_rng(0)).img.shape == (96, 96, 3)


def test_a_mosaic_is_of_one_modality():
    with pytest.raises(ValueError, match="four images of one modality"):
        mosaic([painted(k, "sar" if k else "optical") for k in range(4)], 64, np.random.default_rng(0))


def test_images_without_objects_pass():
    empty = AnnotatedImage(np.zeros((50, 70, 3), np.uint8), np.zeros((0, 4), np.float32), (), (), (70, 50), "sar")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for done in (augment.crop(empty, rng), mosaic([empty] * 4, 64, rng), augment.rotate(empty, 1, rng)):
            assert done.boxes.shape == (0, 4) and done.captions == () and min(done.img.shape[:2]) >= 25


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_background_windows_overlap_no_object(seed):
    image, rng = painted(seed), np.random.default_rng(seed)
    window = background_window(image, rng)
    assert window is None or (window.img == 5).all() and not len(window.boxes) and min(window.img.shape[:2]) >= 20
    empty = AnnotatedImage(
        np.full((90, 120, 3), 5, np.uint8), np.zeros((0, 4), np.float32), (), (), (120, 90), "optical"
    )
    drawn = cycle((lambda: painted(int(rng.integers(10**6))), lambda: empty))  # some painted images have no free window
    canvas = background(lambda: next(drawn)(), 96, rng)
    assert canvas is not None and canvas.img.shape == (96, 96, 3) and canvas.size == (96, 96) and canvas.fills_canvas
    assert (canvas.img == 5).all() and canvas.boxes.shape == (0, 4) and canvas.captions == ()


def test_without_a_free_window_there_is_no_background():
    box = np.array([[0, 0, 70, 50]], np.float32)
    covered = AnnotatedImage(np.zeros((50, 70, 3), np.uint8), box, ("sar ship",), (("a",),), (70, 50), "sar")
    assert background_window(covered, np.random.default_rng(0)) is None
    assert background(lambda: covered, 64, np.random.default_rng(0)) is None


def test_of_background_every_expression_is_false(config):
    data = GroundingDataset(load_split(config, "train"), config.names, settings_of(background=1.0))
    for index in range(len(data)):
        sample = data[0, index]
        assert sample["targets"].shape == (0, 12) and len(set(sample["texts"])) == 12
        assert sample["extent"].tolist() == [0, 0, 1, 1]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6))
def test_pasted_objects_lie_where_nothing_was(seed):
    image, rng = painted(seed), np.random.default_rng(seed)
    whole = image.img.copy()
    coarse = replace(image, size=(2 * image.size[0], 2 * image.size[1]), boxes=2 * image.boxes)
    done = copy_paste(coarse, lambda: painted(int(rng.integers(10**6))), rng)
    old = len(image.boxes)
    assert np.array_equal(image.img, whole) and np.array_equal(done.boxes[:old], coarse.boxes)
    assert shades(done)[:old] == shades(image) and done.names[:old] == image.names
    assert all(s > 5 for s in shades(done))
    assert (done.boxes >= 0).all() and (done.boxes <= np.tile(coarse.size, 2)).all()
    for i, box in enumerate(done.boxes[old:], old):
        others = np.delete(done.boxes, i, 0)
        assert not ((others[:, :2] < box[2:]) & (others[:, 2:] > box[:2])).all(1).any()
        x1, y1, x2, y2 = (box / 2).round().astype(int)
        assert (done.img[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] == shades(done)[i]).mean() > 0.9  # the box fits
    assert (
        done is coarse or len(done.boxes) > old and done.revalidated and done.visible.tolist() == [1] * len(done.boxes)
    )
    if done is not coarse:
        assert_captions_true(done, strict=True)


def test_objects_are_pasted_often_and_rotated():
    rng = np.random.default_rng(0)
    empty = AnnotatedImage(
        np.full((200, 300, 3), 5, np.uint8), np.zeros((0, 4), np.float32), (), (), (300, 200), "optical"
    )
    box = np.array([[20, 20, 60, 30]], np.float32)
    long = AnnotatedImage(np.full((60, 90, 3), 5, np.uint8), box, ("optical ship",), ((),), (90, 60), "optical")
    done = [copy_paste(empty, lambda: long, rng) for _ in range(40)]
    boxes = np.concatenate([d.boxes for d in done])
    sides = boxes[:, 2:] - boxes[:, :2]
    upright = (sides[:, 1] > sides[:, 0]).mean()
    assert 40 <= len(boxes) <= 160 and 0.25 < upright < 0.75
    assert sides.max(1).min() > 40 * 0.65 and sides.max(1).max() < 40 * 1.45


def test_nothing_is_pasted_where_there_is_no_room_or_nothing_to_paste():
    rng = np.random.default_rng(0)
    box = np.array([[0, 0, 70, 50]], np.float32)
    full = AnnotatedImage(np.zeros((50, 70, 3), np.uint8), box, ("sar ship",), (("a",),), (70, 50), "sar")
    none = replace(full, boxes=np.zeros((0, 4), np.float32), names=(), captions=(), visible=np.zeros(0, np.float32))
    ship = painted(1, "sar")
    assert copy_paste(full, lambda: ship, rng) is full
    assert copy_paste(ship, lambda: full, rng) is ship  # it fills its image: nothing around it to fade over
    assert copy_paste(ship, lambda: none, rng) is ship


def test_captions_can_be_left_as_they_were():
    image, rng = painted(5), np.random.default_rng(0)
    before = {c for texts in image.captions for c in texts}
    assert augment.mirror(image, True, True, rewrite=False).captions == image.captions
    assert augment.rotate(image, 1, rng, rewrite=False).captions == image.captions
    for done in (augment.crop(image, rng, rewrite=False), mosaic([image] * 4, 128, rng, rewrite=False)):
        left = [texts for texts, gone in zip(done.captions, done.remnant, strict=True) if not gone]
        assert left and {c for texts in left for c in texts} <= before and not done.revalidated


# what a cut leaves


def test_cut_gives_visible_parts_and_shares():
    boxes = np.array([[0, 0, 10, 10], [8, 8, 12, 12], [20, 20, 30, 30], [9.5, 2, 19, 8], [2, 2, 2.5, 2.5]], np.float32)
    visible, share = augment.clip_to_window(boxes, (5, 0, 10, 10))
    assert share == pytest.approx([0.5, 0.25, 0, 0, 0], abs=1e-6)  # of the fourth, half a pixel could be seen
    assert visible[:2].tolist() == [[0, 0, 5, 10], [3, 8, 5, 10]]
    assert augment.clip_to_window(boxes, (0, 0, 10, 10))[1][4] == 1  # small, but there as a whole
    with np.errstate(all="raise"):
        assert augment.clip_to_window(np.array([[3, 3, 3, 9]], np.float32), (0, 0, 10, 10))[1] == 0  # without an area


def test_the_visible_share_of_an_object_that_was_cut_before_is_kept():
    image, rng = painted(3), np.random.default_rng(0)
    cut = replace(image, visible=np.full(len(image.boxes), 0.5, np.float32))
    for done in (augment.crop(cut, rng), mosaic([cut] * 4, 128, rng)):
        assert done.visible.max() == pytest.approx(0.5) and done.cut == set(range(len(done.names)))


def test_a_remnant_is_neither_a_positive_nor_background():
    boxes = np.array([[10, 40, 30, 60], [95, 40, 100, 60], [40, 80, 60, 95]], np.float32)
    names = ("sar ship", "sar ship", "sar bridge")
    image = AnnotatedImage(
        np.zeros((100, 100, 3), np.uint8),
        boxes,
        names,
        ((), (), ()),
        (100, 100),
        "sar",
        np.array([1, 0.1, 1], np.float32),
    )
    kept = revalidate_captions(image, np.random.default_rng(0))
    assert kept.captions[0] and all("left" in c for c in kept.captions[0]) and not kept.captions[1]
    texts = ["A SAR ship", "The bridge", "The ship on the left side of the image", "The rightmost ship"]
    targets = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]], np.float32)
    masked = mask_uncertain_targets(image, texts, targets)
    assert masked[1].tolist() == [-1, 0, 0, -1]
    assert np.array_equal(masked[[0, 2]], targets[[0, 2]])
    gone = AnnotatedImage(image.img, boxes, names, ((), (), ()), (100, 100), "sar", np.array([1, 1, 0.1], np.float32))
    assert not any(
        "bridge" in c for texts in revalidate_captions(gone, np.random.default_rng(0)).captions for c in texts
    )


def test_colours_survive_where_nothing_can_be_mistaken():
    boxes = np.array([[10, 40, 30, 60], [70, 40, 95, 60], [40, 80, 60, 95]], np.float32)
    captions = (("The red ship",), ("The white ship",), ("The grey bridge", "The new bridge"))
    image = AnnotatedImage(
        np.zeros((100, 100, 3), np.uint8),
        boxes,
        ("optical ship",) * 2 + ("optical bridge",),
        captions,
        (100, 100),
        "optical",
    )
    kept = revalidate_captions(image, np.random.default_rng(0))
    assert kept.captions[2] == ("The grey bridge",)
    assert not any("red" in c.split() or "white" in c for texts in kept.captions[:2] for c in texts)


def test_no_caption_claims_sizes_where_an_object_is_cut():
    boxes = np.array([[10, 10, 50, 50], [95, 40, 100, 60], [40, 80, 60, 95]], np.float32)
    names = ("sar ship", "sar ship", "sar bridge")
    texts = ["The smallest ship", "The big SAR ship", "The big bridge", "The smallest optical ship"]
    targets = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    for share, expected in ((0.5, [[-1, -1, 0, 0], [-1, -1, 0, 0], [0, 0, 0, 0]]), (1, targets.tolist())):
        image = AnnotatedImage(
            np.zeros((100, 100, 3), np.uint8), boxes, names, (("The largest ship",), (), ()), (100, 100), "sar",
            np.array([1, share, 1], np.float32),
        )  # fmt: skip
        kept = revalidate_captions(image, np.random.default_rng(1))
        assert ("The largest ship" in kept.captions[0]) == (share == 1)
        assert mask_uncertain_targets(kept, texts, targets).tolist() == expected


# whole samples


@pytest.mark.parametrize("step", STEPS)
def test_targets_agree_with_the_boxes(config, step, monkeypatch):
    """Expressions taught as true are not false, and those taught as false are proven so, on the boxes of the sample."""
    # What is said in words that the parser does not know was proven before it was reworded, and cannot be here.
    monkeypatch.setattr("optisar_yolo.data.prompts.UNREAD", 0.0)
    data = GroundingDataset(load_split(config, "train"), config.names, settings_of(**STEPS[step]))
    true = false = changed = 0
    for epoch in range(6):
        for index in range(len(data)):
            sample = data[epoch, index]
            image = data.augment(epoch, index, np.random.default_rng([1, epoch, index]))
            changed += not np.array_equal(image.img, data.load(index)) or sample["extent"].tolist() != [0, 0, 1, 1]
            x, y, w, h = sample["bboxes"].T.numpy()
            left, top, right, bottom = sample["extent"].numpy()
            assert step != "mosaic" or (left, top, right, bottom) == (0, 0, 1, 1)
            shares = np.stack((x - w / 2 - left, y - h / 2 - top, x + w / 2 - left, y + h / 2 - top), 1)
            objects = language.LabelledObjects(shares, image.names, (right - left, bottom - top))
            for t, text in enumerate(sample["texts"]):
                column = sample["targets"][:, t].tolist()
                for i, target in enumerate(column):
                    truth = objects.truth(text, i)
                    assert target != 1 or (truth is not False and not image.remnant[i]), (text, truth)
                    # Who says "the ship at the top" of one object means no other, even where a second comes close.
                    close = truth is None and 1 in column and not image.revalidated
                    assert target != 0 or truth is False or close, (text, truth)
                    true, false = true + (target == 1), false + (target == 0)
    assert true > 40 and false > 300 and changed > 20


def test_captions_left_as_they_were_become_false(config):
    """What the test above looks for is there to be found."""
    data = GroundingDataset(load_split(config, "train"), config.names, settings_of(fliplr=1, rewrite=False, describe=0))
    wrong = 0
    for index in range(len(data)):
        sample, image = data[0, index], data.augment(0, index, np.random.default_rng([1, 0, index]))
        for t, text in enumerate(sample["texts"]):
            truths = [image.objects.truth(text, i) for i in np.flatnonzero(sample["targets"][:, t] == 1)]
            wrong += any(v is False for v in truths)
    assert wrong > 3


def test_mosaic_is_closed_for_the_last_epochs(config):
    args = settings_of(mosaic=1, epochs=4, close_mosaic=1)
    data = GroundingDataset(load_split(config, "train"), config.names, args)
    assert [data.augment(epoch, 0, np.random.default_rng(0)).fills_canvas for epoch in range(5)] == [1, 1, 1, 0, 0]


# grey values and colours


def test_colour_is_changed_in_optical_and_speckle_added_in_sar_images(config):
    images = load_split(config, "train")
    plain = GroundingDataset(images, config.names, settings_of())
    tinted = GroundingDataset(images, config.names, settings_of(hsv_h=0.5, hsv_s=0.5))
    noisy = GroundingDataset(images, config.names, settings_of(speckle=1))
    for i, image in enumerate(images):
        optical = image.modality == "optical"
        before, colour, noise = (np.asarray(d[0, i]["img"]) for d in (plain, tinted, noisy))
        assert np.array_equal(before, colour) != optical and np.array_equal(before, noise) == optical


def test_named_colours_are_left_alone(config):
    images = [p for p in load_split(config, "train") if p.modality == "optical"]
    data = GroundingDataset(images, config.names, settings_of(hsv_h=0.5, hsv_s=0.5, describe=0))
    before = data.load(0)
    assert not np.array_equal(data.augment(0, 0, np.random.default_rng(0)).img, before)
    object.__setattr__(images[0], "captions", (("The reddish airplane",), *images[0].captions[1:]))
    assert np.array_equal(data.augment(0, 0, np.random.default_rng(0)).img, before)


def test_the_fast_forms_of_pixels_are_those_of_plain_arrays():
    """Tables, flips and channel copies of OpenCV give the bytes of NumPy's, so that a seed means the same samples."""
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    image = replace(painted(1), img=img, boxes=np.zeros((0, 4), np.float32), names=(), captions=(), size=(53, 37))
    for horizontal, vertical in ((True, False), (False, True), (True, True)):
        plain = img[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        assert np.array_equal(augment.mirror(image, horizontal, vertical).img, plain)
        for bands in (1, 2, 5):
            some = rng.integers(0, 256, (37, 53, bands), dtype=np.uint8)
            plain = some[:: -1 if vertical else 1, :: -1 if horizontal else 1]
            assert np.array_equal(augment.mirror(replace(image, img=some), horizontal, vertical).img, plain)
            assert augment.jitter_tone(some, 0.4, rng).shape == some.shape
    gain, gamma, shift = (1 + (np.random.default_rng(3).random(3) * 2 - 1) * 0.4 * (0.5, 0.5, 0.25)).tolist()
    x = np.linspace(0, 1, 256, dtype=np.float32) ** gamma
    table = (np.clip((x - 0.5) * gain + 0.5 * shift, 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(augment.jitter_tone(img, 0.4, np.random.default_rng(3)), table[img])
    assert np.array_equal(dataset._to_tensor(img).numpy(), img[..., ::-1].transpose(2, 0, 1))
