"""Nouns that a training never met."""

from __future__ import annotations

import pytest

from optisar_yolo.language.met import head_noun, met_words, unmet_noun

CATEGORIES = ("optical ship", "optical storage tank", "sar ship", "optical airplane")
WORDS = met_words(
    ["The ship in the upper left corner of the image", "the storage tank next to the pier", "two white airplanes"], 1000
)


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("the hedgehog on the left", "hedgehog"),
        ("where is the big white hedgehog?", "hedgehog"),
        ("leftmost hedgehog", "hedgehog"),
        ("the hedgehog", "hedgehog"),
        ("hedgehog, upper right", "hedgehog"),
        ("draw a box around the second hedgehog from the left", "hedgehog"),
        ("the hedgehog that is next to the ship", "hedgehog"),
        ("all hedgehogs", "hedgehogs"),
        ("the SAR ship in the middle", "ship"),
        ("the leftmost one", ""),
        ("the largest object", ""),
    ],
)
def test_the_noun_an_expression_is_about(text: str, noun: str) -> None:
    assert head_noun(text) == noun


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("the hedgehog on the left", "hedgehog"),
        ("the windmill in the upper left corner", "windmill"),
        ("a stadium with a green roof", "stadium"),
        ("find the solar farm", "farm"),
        ("the largest ship", None),
        ("ships on the left", None),
        ("the vessel at the top", None),  # a built-in synonym of a category
        ("the tank", None),
        ("an aircraft facing left", None),
        ("the airplanes", None),
        ("the pier on the left", None),  # met as a landmark
        ("the leftmost one", None),
        ("das Schiff links oben im Bild", None),  # the note on the language says more
    ],
)
def test_a_noun_that_was_never_met(text: str, noun: str | None) -> None:
    assert unmet_noun(text, WORDS, CATEGORIES) == noun


def test_the_most_frequent_words_are_kept() -> None:
    assert met_words(["ship ship", "ship tank"], 1) == ("ship",)
    assert met_words([], 5) == ()
