"""Quarter turns, half turns, expressions without their place, and colours."""

from __future__ import annotations

import pytest

from optisar_yolo.language.swaps import has_colour, strip_position
from optisar_yolo.language.transform import flip, rotate90, rotate180


@pytest.mark.parametrize(
    ("caption", "left", "right"),
    [
        ("A vehicle on the upper left", "A vehicle on the lower left", "A vehicle on the upper right"),
        ("An upper-left tank", "A lower-left tank", "An upper-right tank"),
        ("The ship at the top of the image", "The ship at the left of the image", "The ship at the right of the image"),
        ("The ship on the left side", "The ship on the lower side", "The ship on the upper side"),
        ("The ship on the far left", "The ship at the very bottom", "The ship at the very top"),
        ("the left ship", "the lower ship", "the upper ship"),
        ("A ship above the pier", "A ship to the left of the pier", "A ship to the right of the pier"),
        ("A ship on the left of the pier", "A ship below the pier", "A ship above the pier"),
        ("The leftmost SAR ship", "The SAR ship closest to the bottom of the image",
         "The SAR ship closest to the top of the image"),
        ("An eastern pier northeast of it", "A northern pier northwest of it", "A southern pier southeast of it"),
        ("The ship in the middle", "The ship in the middle", "The ship in the middle"),
        ("a horizontal bridge", "a vertical bridge", "a vertical bridge"),
    ],
)  # fmt: skip
def test_quarter_turns(caption: str, left: str, right: str) -> None:
    assert rotate90(caption) == left
    assert rotate90(caption, -1) == rotate90(caption, 3) == right
    assert rotate90(caption, 2) == rotate180(caption) == flip(caption, True, True)
    assert rotate90(caption, 0) == caption


@pytest.mark.parametrize(
    "caption",
    [
        "The ship on the far left of all ships",
        "The bridge over the river",
        "The right wing",
        "The ship in the first row",
        "The car doing a left turn",
        "The top of the hill",
        "The leftmost ship in the second dock",
    ],
)
def test_no_quarter_turn_without_a_partner(caption: str) -> None:
    assert rotate90(caption) is None and rotate90(caption, 3) is None


def test_hands_and_clocks_have_no_mirror_image() -> None:
    for caption in ("a car in a left turn", "the ship at 3 o'clock"):
        assert flip(caption, True) is flip(caption, False, True) is rotate180(caption) is None


@pytest.mark.parametrize(
    ("caption", "bare"),
    [
        ("A small ship in the upper left corner of the image", "A small ship"),
        ("The vehicle is at the bottom", "The vehicle"),
        ("There is a T junction on the left side of the image", "There is a T junction"),
        ("A left airplane", "An airplane"),
        ("The ship in the middle of the SAR image", "The ship in the SAR image"),
        ("The ship to the left of the bridge", "The ship to the left of the bridge"),
        ("A bright ship", "A bright ship"),
        ("The ship to the left of the bridge in the middle", None),
        ("The ship facing left", None),
        ("Upper left corner", None),
        ("The one on the left", None),
    ],
)
def test_strip_position(caption: str, bare: str | None) -> None:
    assert strip_position(caption) == bare


def test_strip_position_of_superlatives() -> None:
    for caption in ("The leftmost ship", "The ship closest to the top of the image"):
        assert strip_position(caption) == caption
        assert strip_position(caption, superlatives=True) == "The ship"
    assert strip_position("The largest ship", superlatives=True) == "The largest ship"


def test_has_colour() -> None:
    assert has_colour("A grey ship") and has_colour("A reddish roof") and has_colour("the White tank")
    assert not has_colour("A bright ship near the hundred-year-old bluegrass farm")
