"""What ``cache=`` keeps of the training images, how much of it, and that it changes no sample."""

import os
import pickle
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo.data import GroundingLoader, image_cache
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.image_cache import ImageCache, reduced
from optisar_yolo.data.records import ImageRecord, load_split
from optisar_yolo.data.sampler import EpochSampler
from optisar_yolo.engine.before import check_given
from optisar_yolo.engine.train import TRAIN_DEFAULTS
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

SIDE = 32
SIZE = SIDE * SIDE // 2 * 3  # bytes of an image of 64 x 32 that is reduced


@pytest.fixture
def images(tmp_path):
    """Five images of 64 x 32 pixels."""
    out = []
    for i in range(5):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), np.full((32, 64, 3), 10 * i, np.uint8))
        out.append(ImageRecord(path, 64, 32, "optical", np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ()))
    return out


@pytest.fixture
def log(monkeypatch):
    said = []
    monkeypatch.setattr(image_cache.LOGGER, "warning", said.append)
    return said


class Reads:
    """Reads through a cache, and counts what is decoded."""

    def __init__(self, cache):
        self.cache, self.decoded = cache, []

    def __call__(self, *indices):
        for i in indices:
            value = np.full((SIDE // 2, SIDE, 3), 10 * i, np.uint8)
            assert np.array_equal(
                self.cache.read(i, lambda i=i, value=value: (self.decoded.append(i), value)[1]), value
            )
        return self.decoded


@pytest.mark.parametrize(
    ("mode", "decoded"),
    [(m, [0, 3, 3, 0]) for m in (False, None)] + [(m, [0, 3]) for m in (True, "ram", "auto", "disk")],
)
def test_what_is_kept(images, mode, decoded, tmp_path):
    assert Reads(ImageCache(images, SIDE, mode))(0, 3, 3, 0) == decoded
    assert sorted(p.name for p in tmp_path.glob("*.npy")) == (
        ["0.png.32.npy", "3.png.32.npy"] if mode == "disk" else []
    )


def test_memory_is_bounded_over_all_workers(images, monkeypatch):
    monkeypatch.setattr(image_cache, "AUTO", 3 * SIZE + 5)
    cache = ImageCache(images, SIDE, "auto", workers=2)
    assert Reads(cache)(*range(5), *range(5)) == [0, 1, 2, 3, 4, 3, 4]
    # A process that is not forked has memory of its own, and its part of the bound.
    monkeypatch.setattr(image_cache, "AUTO", 4 * SIZE)
    copy = pickle.loads(pickle.dumps(ImageCache(images, SIDE, "auto", workers=2)))
    assert Reads(copy)(*range(5), *range(5)) == [0, 1, 2, 3, 4, 2, 3, 4]


def test_ram_that_is_short_is_said(images, monkeypatch, log):
    monkeypatch.setattr(image_cache, "_free_memory", lambda: int(2 * SIZE * 1.5))
    assert Reads(ImageCache(images, SIDE, "ram"))(*range(5), *range(5)) == [0, 1, 2, 3, 4, 2, 3, 4]
    assert len(log) == 1 and "cache=ram" in log[0] and "cache=disk" in log[0]
    monkeypatch.setattr(image_cache, "world_size", lambda: 2)
    assert Reads(ImageCache(images, SIDE, "ram"))(0, 0, 1, 1) == [0, 1, 1], "each of two processes has a half"


def test_files_that_are_stale_or_damaged_are_made_anew(images, tmp_path):
    cache = ImageCache(images, SIDE, "disk")
    Reads(cache)(0, 1, 2)
    os.utime(tmp_path / "0.png.32.npy", (1, 1))
    (tmp_path / "1.png.32.npy").write_bytes((tmp_path / "1.png.32.npy").read_bytes()[:-100])
    np.save(tmp_path / "2.png.32.npy", np.zeros((3, 3)))
    again = Reads(ImageCache(images, SIDE, "disk"))
    assert again(0, 1, 2, 0, 1, 2) == [0, 1, 2]
    assert Reads(ImageCache(images, 16, "disk")).decoded == [], "another size has other files"


def test_a_disk_that_is_full_or_read_only_is_said(images, monkeypatch, log, tmp_path):
    usage = SimpleNamespace(free=SIZE * 7)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: usage)
    assert Reads(ImageCache(images, SIDE, "disk"))(0, 0) == [0, 0]
    assert len(log) == 1 and "do not fit" in log[0] and str(tmp_path) in log[0]
    usage.free = SIZE * 8
    cache = ImageCache(images, SIDE, "disk")
    monkeypatch.setattr(image_cache, "appearing", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert Reads(cache)(0, 0, 1) == [0, 0, 1] and len(log) == 2 and "No space left" in log[1]
    monkeypatch.setattr(image_cache.os, "access", lambda *_: False)
    assert Reads(ImageCache(images, SIDE, "disk"))(0, 0) == [0, 0] and "cannot be written" in log[2]


def test_an_image_of_another_size_than_its_record_is_not_kept(images):
    decoded = []
    cache = ImageCache(images, SIDE, "ram")
    for _ in range(2):
        assert cache.read(0, lambda: (decoded.append(0), np.ones((9, 9, 3), np.uint8))[1]).shape == (9, 9, 3)
    assert len(decoded) == 2


def test_no_images_and_small_ones():
    assert reduced(10, 20, 32) == (10, 20) and reduced(1, 1000, 32) == (1, 32)
    for mode in ("ram", "disk"):
        ImageCache([], SIDE, mode)


@pytest.mark.parametrize("mode", ["rams", 3, "False"])
def test_another_mode_is_refused_before_the_run(mode):
    with pytest.raises(ValueError, match=f"cache={mode} is none of"):
        check_given({"cache": mode})


def test_workers_share_what_is_kept_and_samples_stay(tiny, monkeypatch):
    """Two forked workers decode each image about once, not once each, and the samples are those without a cache."""
    config = load_dataset_config(tiny)
    records = load_split(config, "train")
    decoded = torch.zeros(len(records)).share_memory_()
    whole = ImageCache.read

    def read(self, index, decode):
        def counted():
            decoded[index] += 1
            return decode()

        return whole(self, index, counted)

    monkeypatch.setattr(ImageCache, "read", read)

    def epochs(cache, workers):
        args = {"imgsz": 64, "seed": 1, "epochs": 9, "mosaic": 0.5, "cache": cache, "workers": workers}
        args = DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | TRAIN_DEFAULTS | args
        dataset = GroundingDataset(records, config.names, SimpleNamespace(**args))
        loader = GroundingLoader(dataset, 2, EpochSampler(len(dataset), 1), workers)
        decoded.zero_()
        out = []
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            out += [batch["img"] for batch in loader]
        return out, int(decoded.sum())

    plain, all_reads = epochs(False, 0)
    shared, reads = epochs("ram", 2)
    assert all(map(torch.equal, plain, shared)) and len(plain) == len(shared)
    assert reads < all_reads and reads <= len(records) + 4  # both workers may read an image at the same time
