"""Expressions about a raster: compass words, expressions for tiles, and selection."""

import numpy as np
import pytest

from optisar_yolo.language import parse_raster_query
from optisar_yolo.language.choice import Found, order
from optisar_yolo.language.compass import has_compass, without_compass
from optisar_yolo.language.parser import parse

UP = {"north": "top", "south": "bottom", "east": "right", "west": "left"}
DOWN = {"north": "bottom", "south": "top", "east": "right", "west": "left"}
TURNED = {"north": "right", "south": "left", "east": "bottom", "west": "top"}


def read(text, compass=UP):
    return parse_raster_query(text, lambda: compass)


def select(query, boxes, conf, size):
    return order(query, {query.core: Found(boxes, conf)}, size)


@pytest.mark.parametrize(
    "text, core, place, superlative, ordinal",
    [
        ("The leftmost SAR ship", "A SAR ship", None, "left", 1),
        ("The northernmost SAR ship", "A SAR ship", None, "top", 1),
        ("the largest storage tank", "a storage tank", None, "largest", 1),
        ("the second largest storage tank", "a storage tank", None, "largest", 2),
        ("the third northernmost ship", "a ship", None, "top", 3),
        ("the ship in the north-east", "a ship", ("right", "top"), None, 1),
        ("the ship in the southwest corner of the image", "a ship", ("left", "bottom"), None, 1),
        ("the harbor in the northern part of the scene", "a harbor", (None, "top"), None, 1),
        ("a bridge in the east", "a bridge", ("right", None), None, 1),
        ("the ship closest to the western edge", "a ship", None, "left", 1),
        ("the vehicle furthest south", "a vehicle", None, "bottom", 1),
        ("the eastern ship", "a ship", None, "right", 1),
        ("the left ship", "a ship", None, "left", 1),
        ("the tank in the middle of the scene", "a tank", ("middle", "middle"), None, 1),
        ("the easternmost ship in the north", "a ship", (None, "top"), "right", 1),
        ("the small ship in the upper left", "a small ship", ("left", "top"), None, 1),
        ("the ship", "a ship", None, None, 1),
        ("the northernmost airplane", "an airplane", None, "top", 1),
    ],
)
def test_places_and_superlatives_are_of_the_raster_and_the_rest_of_tiles(text, core, place, superlative, ordinal):
    query = read(text)
    assert (query.core, query.place, query.superlative, query.ordinal) == (core, place, superlative, ordinal)
    assert query.text == text and not query.note
    assert parse(query.core).category == parse(text).category


@pytest.mark.parametrize(
    "text, words",
    [
        ("the ship north of the harbor", "the ship above the harbor"),
        ("the ship to the west of the bridge", "the ship to the left of the bridge"),
        ("the ship to the south-east of the bridge", "the ship to the lower right of the bridge"),
        ("The ship on the east side of the bridge", "The ship to the right of the bridge"),
        ("the airplane facing north", "the airplane facing up"),
        ("the airplane heading southwest", "the airplane heading lower left"),
        ("Northernmost ship", "Topmost ship"),
        ("the ship at the northern end", "the ship at the top end"),
        ("the ship in the northern half", "the ship in the top part"),
        ("the road running north-south", "the road running north-south"),
    ],
)
def test_compass_words_become_words_of_the_image(text, words):
    assert without_compass(text, UP) == words


def test_compass_words_follow_the_raster():
    assert without_compass("the northernmost ship in the south-east", DOWN) == "the bottommost ship in the upper right"
    assert without_compass("the ship in the north-east", TURNED) == "the ship in the lower right"
    assert without_compass("the ship north of the bridge", TURNED) == "the ship to the right of the bridge"


def test_a_superlative_has_one_direction():
    with pytest.raises(ValueError, match="northernmost, or easternmost"):
        read("the north-easternmost ship")


def test_the_compass_is_called_only_for_compass_words():
    def none():
        raise ValueError("no georeference")

    assert parse_raster_query("the leftmost ship", none).superlative == "left"
    assert not has_compass("the ship left of the bridge") and has_compass("the Western bridge")
    with pytest.raises(ValueError, match="no georeference"):
        parse_raster_query("the westernmost ship", none)


@pytest.mark.parametrize("text", ["the leftmost ship to the right of the bridge", "the leftmost"])
def test_expressions_that_only_tiles_can_decide_have_a_note(text):
    query = read(text)
    assert query.core == text and query.place is None and query.superlative is None
    assert "within each tile" in query.note


def test_relations_stay_as_they_are():
    assert read("the ship to the right of the bridge").core == "the ship to the right of the bridge"
    assert not read("the ship to the right of the bridge").note


BOXES = np.array(
    [[10, 10, 30, 30], [900, 40, 960, 80], [480, 500, 520, 560], [700, 900, 702, 904], [20, 500, 60, 520.0]]
)
CONF = np.array([0.5, 0.9, 0.6, 0.95, 0.7])


@pytest.mark.parametrize(
    "text, first",
    [
        ("the leftmost ship", 0), ("the second leftmost ship", 4), ("the rightmost ship", 1), ("the topmost ship", 0),
        ("the bottommost ship", 3), ("the largest ship", 1), ("the smallest ship", 3), ("the ship", 3),
        ("the ship in the upper right", 1), ("the ship in the middle", 2), ("the ship on the left", 4),
        ("the ship at the bottom", 3), ("the rightmost ship at the top", 1), ("the southernmost ship", 3),
    ],
)  # fmt: skip
def test_select_agrees_with_selection_by_hand(text, first):
    assert select(read(text), BOXES, CONF, (1000, 1000))[0] == first


def test_superlatives_agree_with_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        corner, side = rng.uniform(0, 900, (30, 2)), rng.uniform(5, 100, (30, 2))
        boxes = np.concatenate([corner, corner + side], 1)
        conf = rng.uniform(0, 1, 30)
        centre = corner + side / 2
        truth = {
            "westernmost": centre[:, 0].argsort(), "easternmost": (-centre[:, 0]).argsort(),
            "northernmost": centre[:, 1].argsort(), "southernmost": (-centre[:, 1]).argsort(),
            "largest": (-side.prod(1)).argsort(), "smallest": side.prod(1).argsort(),
        }  # fmt: skip
        for word, expected in truth.items():
            assert select(read(f"the {word} ship"), boxes, conf, (1000, 1000)).tolist() == expected.tolist()


def test_places_agree_with_the_thirds_of_the_raster():
    chosen = select(read("the ship in the lower right"), BOXES, CONF, (1000, 1000))
    assert chosen.tolist() == [3]
    nowhere = select(read("the ship in the lower left"), BOXES, CONF, (1000, 1000))
    assert nowhere.tolist() == []  # the one halfway down is not in the corner
    assert select(read("the ship"), np.zeros((0, 4)), np.zeros(0), (1000, 1000)).tolist() == []
