"""Training and validation samples: what a batch holds, and that it depends on seed, epoch and index alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader

from optisar_yolo import language
from optisar_yolo.data import dataset as module
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.dataset import EvaluationDataset, GroundingDataset, read_recorded
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import ImageRecord, load_split
from optisar_yolo.data.sampler import EpochSampler
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

PROMPTS = 9


def settings_of(**changes):
    base = {
        "imgsz": 64, "seed": 3, "epochs": 9, "close_mosaic": 0, "mosaic": 0.0, "crop": 0.0, "copy_paste": 0.0,
        "rot90": 0.0, "fliplr": 0.5, "flipud": 0.5, "scale": 0.3, "rewrite": True, "hsv_h": 0.0, "hsv_s": 0.0,
        "hsv_v": 0.4, "speckle": 0.0, "prompts": PROMPTS, "neg_ratio": 0.5, "reword": 0.0, "describe": 0.5,
        "negatives": "proven",
    }  # fmt: skip
    return SimpleNamespace(**OPTISAR_DEFAULTS | base | changes)


@pytest.fixture(scope="module")
def config(tiny):
    return load_dataset_config(tiny)


@pytest.fixture(scope="module")
def images(config):
    return load_split(config, "train")


@pytest.fixture(scope="module")
def samples(config, images):
    """Two epochs of augmented samples, with their (epoch, index)."""
    data = GroundingDataset(images, config.names, settings_of())
    return {(e, i): data[e, i] for e in range(2) for i in range(len(images))}


def same(a, b):
    """Tell whether two samples hold the same."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k] for k in a)


# order


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
def test_ranks_share_an_epoch(n, world, seed, epoch):
    """All samples are drawn, each rank gets as many, and only the padding is drawn twice."""
    ranks = []
    for rank in range(world):
        sampler = EpochSampler(n, seed, rank, world)
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == len(sampler) and all(e == epoch for e, _ in drawn)
        ranks.append([i for _, i in drawn])
    every = sum(ranks, [])
    assert set(every) == set(range(n)) and len({len(r) for r in ranks}) == 1
    assert len(every) - n < world
    if n % world == 0:
        assert len(set(every)) == len(every)


def order(epoch, seed=0, n=40):
    sampler = EpochSampler(n, seed)
    sampler.set_epoch(epoch)
    return [i for _, i in sampler]


def test_order_follows_from_seed_and_epoch():
    assert order(1) == order(1) != order(2)
    assert order(1) != order(1, seed=1)
    sampler = EpochSampler(40, 0)
    for epoch in (5, 0, 1):
        sampler.set_epoch(epoch)
        assert [i for _, i in sampler] == order(epoch)  # whatever was drawn before


def test_without_shuffling_the_order_is_that_of_the_images():
    assert list(EpochSampler(3, 7, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


# samples


def test_samples_are_of_the_fixed_form(samples, images):
    for (_, i), s in samples.items():
        n = len(images[i].boxes)
        assert s["img"].shape == (3, 64, 64) and s["img"].dtype == torch.uint8
        assert s["bboxes"].shape == (n, 4) and s["cls"].shape == (n,) and s["targets"].shape == (n, PROMPTS)
        assert len(s["texts"]) == len(set(s["texts"])) == PROMPTS
        assert set(s["targets"].unique().tolist()) <= {-1.0, 0.0, 1.0}
        assert s["im_file"] == str(images[i].path)


def test_own_column_of_every_object_is_true(samples):
    for s in samples.values():
        own = s["targets"][torch.arange(len(s["cls"])), s["cls"].long()]
        assert (own == 1).all()
        assert (s["targets"][:, s["guide"]] == 1).any()  # the neck is guided by an expression that means an object


def test_false_expressions_are_false(samples, config, images):
    """Against the boxes as they lie in the sample: flips would show as true expressions taught as false."""
    false = true = 0
    for (_, i), s in samples.items():
        image = images[i]
        x, y, w, h = s["bboxes"].T.numpy()
        left, top, right, bottom = s["extent"].numpy()
        boxes = np.stack((x - w / 2 - left, y - h / 2 - top, x + w / 2 - left, y + h / 2 - top), 1)
        scale = np.tile([image.width / (right - left), image.height / (bottom - top)], 2)
        objects = language.LabelledObjects(
            (boxes * scale).astype(np.float32), [config.names[c] for c in image.categories], (image.width, image.height)
        )
        for t, text in enumerate(s["texts"]):
            for verdict, target in zip(objects.truths(text), s["targets"][:, t].tolist(), strict=True):
                assert not (verdict is True and target == 0), text
                assert not (verdict is False and target == 1), text
                false += verdict is False and target == 0
                true += verdict is True and target == 1
    assert false > 50 and true > 10


def test_boxes_lie_on_what_is_drawn(samples, images):
    """In the optical ships' images the objects are the only bright ones."""
    checked = 0
    for (_, i), s in samples.items():
        if "opt" not in images[i].path.name or images[i].categories[0] != 1:
            continue
        # extent's inside is compared with itself: light changes all of it alike
        img = s["img"].float().mean(0)
        for x, y, w, h in (s["bboxes"] * 64).tolist():
            assert img[int(y), int(x)] > img[:, :].median() or w < 4
            inside = img[int(y - h / 4) : int(y + h / 4) + 1, int(x - w / 4) : int(x + w / 4) + 1]
            assert inside.min() > img.median()
            checked += 1
    assert checked


def test_epochs_differ_and_repeat(config, images, samples):
    again = GroundingDataset(images, config.names, settings_of())
    for key in reversed(samples):  # in another order, from a fresh data set
        assert same(again[key], samples[key])
    assert not any(same(samples[0, i], samples[1, i]) for i in range(len(images)))
    other = GroundingDataset(images, config.names, settings_of(seed=4))
    assert not same(other[0, 0], samples[0, 0])


EVERYTHING = {
    "background": 0.3, "mosaic": 0.5, "crop": 0.5, "copy_paste": 0.5, "rot90": 0.5, "hsv_h": 0.1, "hsv_s": 0.3,
    "speckle": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["default", "everything"])
def test_workers_change_nothing(config, images, changes):
    batches = []
    for workers in (0, 2):
        data = GroundingDataset(images, config.names, settings_of(**changes))
        sampler = EpochSampler(len(data), seed=3)
        sampler.set_epoch(1)
        loader = DataLoader(data, 2, sampler=sampler, num_workers=workers, collate_fn=data.collate)
        batches.append(list(loader))
    assert len(batches[0]) == 3
    assert all(same(a, b) for a, b in zip(*batches, strict=True))


def test_without_augmentation_images_are_letterboxed(config, images):
    data = GroundingDataset(images, config.names, settings_of(describe=0), augmented=False)
    first, later = data[0, 0], data[5, 0]
    assert torch.equal(first["img"], later["img"]) and torch.equal(first["bboxes"], later["bboxes"])
    left, top, right, bottom = first["extent"].tolist()
    assert (left, right) == (0, 1) and bottom - top == pytest.approx(2 / 3, abs=0.02)  # images are 96 x 64
    assert set(images[0].captions[0]) <= set(first["texts"])


def test_batch_tells_whose_objects_are_whose(samples):
    chosen = [samples[0, i] for i in (0, 1, 2)]
    batch = GroundingDataset.collate(chosen)
    assert batch["img"].shape == (3, 3, 64, 64) and batch["extent"].shape == (3, 4)
    counts = [len(s["cls"]) for s in chosen]
    assert batch["batch_idx"].tolist() == sum(([float(i)] * n for i, n in enumerate(counts)), [])
    assert batch["targets"].shape == (sum(counts), PROMPTS) and len(batch["texts"]) == 3
    assert batch["guide"].tolist() == [s["guide"] for s in chosen]


def test_images_are_read_once_and_small(config, images, monkeypatch):
    read = []
    monkeypatch.setattr(module, "read_image", lambda path: read.append(path) or read_image(path))
    data = GroundingDataset(images, config.names, settings_of(cache="auto"))
    before = data.load(0).copy()
    _ = data[0, 0], data[1, 0]
    assert len(read) == 1 and np.array_equal(data.load(0), before)  # and augmentation leaves the cached one alone
    assert before.shape == (43, 64, 3)
    data = GroundingDataset(images, config.names, settings_of(cache=False))
    data.load(0), data.load(0)
    assert len(read) == 3


def test_evaluation_groups_images_by_canvas(config):
    images = load_split(config, "test")
    data = EvaluationDataset(images, 128)
    index, canvas, extent = data[0]
    assert index == 0 and canvas.shape == (3, 96, 128) and canvas.dtype == torch.uint8 and extent.shape == (4,)
    assert torch.equal(data[(7, 0)][1], canvas)  # an epoch may come along
    tall = (1, torch.zeros(3, 128, 64, dtype=torch.uint8), extent)
    groups = data.collate([data[0], tall, data[2]])
    assert [g[0] for g in groups] == [[0, 2], [1]]
    assert groups[0][1].shape == (2, 3, 96, 128) and torch.equal(groups[0][1][0], canvas)


def test_the_setting_chooses_who_guides(config, images):
    """A right expression, any expression of the list, or all of them together."""

    def guides(kind):
        data = GroundingDataset(images, config.names, settings_of(guide=kind))
        drawn = [data[epoch, i] for epoch in range(6) for i in range(len(data))]
        return [(s["guide"], bool((s["targets"][:, s["guide"]] == 1).any())) for s in drawn]

    assert all(right for _, right in guides("positive"))
    assert {right for _, right in guides("any")} == {True, False}
    assert {guide for guide, _ in guides("union")} == {-1}


def test_an_image_of_another_shape_than_its_annotation_says_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optisar_yolo.data.tiff._SAID", set())
    monkeypatch.setattr("ultralytics.utils.LOGGER.propagate", True)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    record = ImageRecord(path, 60, 40, "sar", np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
    read_recorded(replace(record, width=120, height=80))
    assert "another shape" not in caplog.text  # the boxes are those of a larger copy
    read_recorded(replace(record, width=40, height=60))
    assert "another shape" in caplog.text and "a.png is 60 x 40, and not 40 x 60" in caplog.text
