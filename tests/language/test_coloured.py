"""Expressions with colours: how they are read, and the choice by how much of the colour each object has."""

import numpy as np
import pytest

from optisar_yolo.language import (
    Found,
    Vocabulary,
    chosen,
    in_words,
    parse_raster_query,
    read_query,
    weigh,
    without_colour,
)

SIZE = (100, 100)
BOXES = np.array([[0, 0, 10, 10], [40, 0, 50, 10], [80, 80, 90, 90]], float)
SURE = np.array([0.95, 0.95, 0.95])


@pytest.mark.parametrize(
    ("text", "kind", "core", "colour"),
    [
        ("the blue aircraft", "colour", "an aircraft", "blue"),
        ("long red ship", "colour", "a long ship", "red"),
        ("show me the light blue car, please", "colour", "a car", "blue"),
        ("the brightest orange ship", "colour", "a ship", "orange"),
        ("the all-white jet", "colour", "a jet", "white"),
        ("the very white jet", "colour", "a jet", "white"),
        ("the green golf field", "colour", "a golf field", "green"),
        ("a blue-bodied airliner", "colour", "an airliner", "blue"),
        ("blue plane at the bottom", "colour", "a plane", "blue"),
        ("the white storage tank in the upper left", "colour", "a storage tank", "white"),
        ("the leftmost blue plane", "superlative", "a plane", "blue"),
        ("the second white car from the left", "ordinal", "a car", "white"),
        ("all white cars", "set", "a car", "white"),
        ("how many red ships are there?", "set", "a ship", "red"),
    ],
)
def test_a_colour_before_the_noun_is_one_of_the_objects(text: str, kind: str, core: str, colour: str) -> None:
    query = read_query(text)
    assert (query.kind, query.core, query.colour) == (kind, core, colour)
    assert query.reasoned and colour in str(query).split(", ") and colour in query.said
    words = in_words(query)
    assert words.core == query.said and words.colour is None
    assert words.reasoned == (kind != "colour")


@pytest.mark.parametrize(
    "text",
    [
        "the gray ship", "the dark grey plane", "the black-and-white car", "the red and white ship", "the bluish car",
        "the white-roofed building", "the SAR image's white ship", "the white ship in the SAR image",
        "the car that is white",
        "the ship with a red hull", "the bright ship", "the ship", "the yellow-green car",
    ],
)  # fmt: skip
def test_other_colours_are_left_to_the_network(text: str) -> None:
    assert read_query(text).colour is None


@pytest.mark.parametrize(
    "text", ["the less red ship", "the most red car", "the red most car", "an almost white ship", "the non white car"]
)
def test_a_colour_that_is_compared_or_denied_is_left_to_the_network(text: str) -> None:
    assert read_query(text).colour is None and not read_query(text).reasoned


@pytest.mark.parametrize("text", ["the Red Sea ship", "white water bridge", "the Green Bay harbor", "black sea ship"])
def test_a_colour_in_a_name_is_none_of_an_object(text: str) -> None:
    assert read_query(text).colour is None


def test_a_colour_in_the_name_of_a_category_is_none_of_an_object() -> None:
    words = Vocabulary.of(["white van", "van"])
    assert read_query("the leftmost white van", words).colour is None
    assert read_query("the red van", words).colour == "red"


def test_rasters_keep_the_colour_in_the_words() -> None:
    for text in ("the red ship", "all red ships", "the ship nearest to the red car", "the red ship left of the bridge"):
        assert "the network alone reads the colour" in parse_raster_query(text, dict).note, text
    assert not parse_raster_query("the leftmost ship", dict).note
    query = parse_raster_query("the leftmost red ship", dict)
    assert (query.core, query.colour, query.superlative) == ("a red ship", None, "left")


def found(**colours: list[float]) -> Found:
    return Found(BOXES, SURE, {colour: np.array(shares) for colour, shares in colours.items()})


def test_the_object_with_most_of_the_colour_is_meant() -> None:
    query = read_query("the blue plane")
    score = weigh(query, {"a plane": found(blue=[0.01, 0.02, 0.4])}, SIZE)
    assert score.argmax() == 2 and score[2] > 0.9 and score[:2].max() < 0.1


def test_a_landmark_has_a_colour() -> None:
    query = read_query("the plane nearest to the red car")
    assert query.cores == ("a plane", "a car") and query.reference[0].colour == "red"
    cars = Found(np.array([[0, 20, 10, 30], [80, 60, 90, 70]], float), SURE[:2], {"red": np.array([0.0, 0.5])})
    assert weigh(query, {"a plane": found(), "a car": cars}, SIZE).argmax() == 2


def test_an_unlikely_object_does_not_decide_how_much_is_blue() -> None:
    objects = Found(BOXES, np.array([0.95, 0.95, 0.05]), {"blue": np.array([0.2, 0.01, 0.9])})
    assert weigh(read_query("the blue plane"), {"a plane": objects}, SIZE).argmax() == 0


def test_without_the_colour_no_object_is_meant() -> None:
    query, objects = read_query("the blue plane"), {"a plane": found(blue=[0.0, 0.01, 0.02])}
    assert without_colour(query, objects) and not weigh(query, objects, SIZE).any()
    unlikely = {"a plane": found(blue=[0.0, 0.01, 0.02])._replace(conf=np.full(3, 0.02))}
    assert not without_colour(query, unlikely)  # no plane was found at all: the network decides


def test_a_colour_that_was_not_measured_decides_nothing() -> None:
    query = read_query("the blue plane")
    assert not without_colour(query, {"a plane": found()})
    np.testing.assert_array_equal(
        weigh(query, {"a plane": found()}, SIZE), weigh(query, {"a plane": found(blue=[0.3, 0.3, 0.3])}, SIZE)
    )


def test_colours_and_order() -> None:
    objects = found(white=[0.0, 0.8, 0.7])
    assert weigh(read_query("the leftmost white plane"), {"a plane": objects}, SIZE).argmax() == 1
    assert weigh(read_query("the second white plane from the left"), {"a plane": objects}, SIZE).argmax() == 2
    index, score = chosen(read_query("all white planes"), {"a plane": objects}, SIZE, 0.5)
    assert index.tolist() == [1, 2] and (score > 0.8).all()
    index, score = chosen(read_query("the two white planes"), {"a plane": objects}, SIZE, 0.5)
    assert index.tolist() == [1, 2]


def test_some_objects_are_kept_with_their_colours() -> None:
    kept = found(blue=[0.1, 0.2, 0.3]).kept(np.array([False, True, True]))
    assert len(kept.boxes) == len(kept.conf) == 2 and kept.colours["blue"].tolist() == [0.2, 0.3]
