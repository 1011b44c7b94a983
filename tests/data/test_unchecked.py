"""The samplers that ours is compared with do what they are there for, mistakes included."""

from __future__ import annotations

import numpy as np
import pytest

from optisar_yolo.data.prompts import PromptSampler
from optisar_yolo.data.unchecked import UncheckedSampler, exchange
from optisar_yolo.language.swaps import swap
from optisar_yolo.plugin.settings import check
from optisar_yolo.utils.options import SettingError, weights_of

BOXES = np.array([[10, 10, 20, 20], [80, 80, 95, 95]], np.float32)
NAMES = ("optical ship", "optical ship")
CAPTIONS = (("The small optical ship in the upper left corner of the image",), ("The rightmost ship",))
POOL = [*(c for texts in CAPTIONS for c in texts), *[f"The large SAR ship number {i}" for i in range(40)]]


def lists(sampler, n: int = 30, captions=CAPTIONS):
    """Several prompt lists of the same image."""
    return [sampler(captions, BOXES, NAMES, (100, 100), np.random.default_rng(i)) for i in range(n)]


def test_exchange_finds_letters_anywhere():
    """The release's mistake, kept for comparison: words within words."""
    assert "The bleft ship" in exchange("The bright ship")
    assert not [v for v in exchange("The SAR ship") if "optical" in v]


def test_released_lists():
    """The ratio is rounded down, one caption has none, and padding may repeat a true expression as a false one."""
    two = lists(UncheckedSampler(POOL, 8, 0.5, released=True))
    assert all(p.kinds.count("swap") == 1 and len(p.texts) == 8 for p in two)
    one = lists(UncheckedSampler(POOL, 8, 0.5, released=True), captions=(CAPTIONS[0], ()))
    assert all(p.kinds.count("swap") == 0 for p in one)
    assert all((p.targets[0] == 1).sum() == 1 and (p.targets[1] == 0).all() for p in one)
    small = lists(UncheckedSampler(POOL[:3], 8, 0.5, released=True))
    assert any(p.texts[0] in p.texts[2:] for p in small)


def test_random_lists():
    """No exchanged words, no expression of the image among the false ones, targets of the own objects alone."""
    for p in lists(UncheckedSampler(POOL, 8, 1.5)):
        assert set(p.kinds) == {"positive", "other"} and len(p.texts) == 8
        assert not set(p.texts[:2]) & set(p.texts[2:])
        assert p.targets.sum() == 2 and set(np.unique(p.targets)) == {0.0, 1.0}


def test_no_captions_to_draw_from():
    """A set of boxes alone cannot be trained this way, and hears so."""
    with pytest.raises(ValueError, match="negatives=random"):
        UncheckedSampler([], 8)


def test_swap_kinds_choose_the_words():
    """Only the kinds that are named are exchanged."""
    sampler = PromptSampler(POOL, 12, 3.0, kinds="size:1,modality:0")
    swaps = {t for p in lists(sampler) for t, kind in zip(p.texts, p.kinds, strict=True) if kind == "swap"}
    allowed = {v.text for texts in CAPTIONS for c in texts for v in swap(c, ["size"])}
    assert swaps and swaps <= allowed


@pytest.mark.parametrize("value", ["size", "size:x", "flavour:1", "size:-1", "size:0", "", 3])
def test_bad_swap_kinds(value):
    """Refused with the key, the value and what would be right."""
    with pytest.raises(SettingError, match="swap_kinds.*orientation:2"):
        check({"swap_kinds": value})
    assert weights_of("size:1, colour:0") == {"size": 1.0, "colour": 0.0}
