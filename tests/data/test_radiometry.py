"""Grey values and colours: what changes, by how much, and what is left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from optisar_yolo.data import augment
from optisar_yolo.language.swaps import has_colour


@pytest.mark.parametrize("text", ["The red car", "a Gray-roofed shed", "light-blue pools", "The coloured field"])
def test_colour_words_are_found(text):
    assert has_colour(text)
    assert not has_colour("The covered harbor in the greenhouse")  # parts of words are none


def test_colour_jitter_changes_hue_and_saturation_alone():
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (20, 20, 3), np.uint8)
    done = augment.jitter_colour(img, 0.3, 0.5, rng)
    value = [cv2.cvtColor(x, cv2.COLOR_BGR2HSV)[..., 2].astype(int) for x in (img, done)]
    assert not np.array_equal(done, img) and np.abs(value[0] - value[1]).max() <= 1
    grey = np.repeat(img[..., :1], 3, axis=2)
    assert np.array_equal(augment.jitter_colour(grey, 0.5, 0.9, rng), grey)
    assert augment.jitter_colour(img, 0, 0, rng) is img and augment.add_speckle(img, 0, rng) is img


def test_speckle_has_the_documented_looks():
    img = np.full((200, 200, 3), 40, np.uint8)
    spread = []
    for seed in range(20):
        done = augment.add_speckle(img, 0.5, np.random.default_rng(seed)).astype(float)
        assert np.array_equal(done[..., 0], done[..., 2])
        assert done.mean() == pytest.approx(39.5, abs=0.6)  # rounding down takes half a level
        spread.append(done[..., 0].std() / 40)
    assert 0.4 < max(spread) < 0.52 and min(spread) < 0.15


def test_degradation_keeps_shape_and_place_and_reaches_every_step():
    img = np.full((64, 48, 3), 60, np.uint8)
    img[20:40, 12:30] = 220
    assert augment.degrade(img, 0, np.random.default_rng(0)) is img
    done = [augment.degrade(img, 1, np.random.default_rng(seed)) for seed in range(60)]
    assert all(d.shape == img.shape and d.dtype == np.uint8 for d in done)
    changed = [d for d in done if not np.array_equal(d, img)]
    assert 40 < len(changed) < 60  # each of five steps is left out of 60 %: 8 % stay as they are
    for d in changed:  # the bright block stays where it was
        y, x = np.where(d[..., 0] > (int(d.max()) + int(d.min())) / 2)
        assert abs(np.median(y) - 29.5) <= 1 and abs(np.median(x) - 20.5) <= 1
    assert any(d.min() > 90 for d in changed)  # haze
    assert any(len(np.unique(d)) > 40 for d in changed)  # noise
    assert not any(augment.degrade(img, 1, np.random.default_rng(seed), haze=False).min() > 90 for seed in range(60))


def test_degradation_draws_no_random_numbers_where_it_is_off():
    rng = np.random.default_rng(3)
    augment.degrade(np.zeros((4, 4, 3), np.uint8), 0, rng)
    assert rng.random() == np.random.default_rng(3).random()
