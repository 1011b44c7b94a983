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
