"""Readings that were wrong in samples of free English, by kind: what belongs to another thing is no claim."""

from __future__ import annotations

import numpy as np
import pytest

from optisar_yolo.language import LabelledObjects, Vocabulary, parse, read_query, strip_position, swap


@pytest.mark.parametrize(
    ("text", "place", "rest"),
    [
        ("the ship right of the middle", ("right half", None), ()),
        ("vessel just below the centre of the image", (None, "bottom half"), ("just",)),
        ("bridge a little above and left of the centre", ("left half", "top half"), ("little",)),
        ("the ship up and to the right of the middle", ("right half", "top half"), ()),
        ("ship near the top, left of centre", ("left half", "top"), ()),
        ("a ship to the lower left of the image's centre", None, None),  # no English that is read
        ("plane at the left, slightly below the middle", ("left", "bottom half"), ("slightly",)),
        ("the car on the right of the center line", ("right half", None), ()),
        ("the ship in the middle, a bit above the middle", ("middle", "middle"), ("bit",)),
    ],
)
def test_a_side_of_the_middle_is_a_half(text: str, place: object, rest: tuple[str, ...] | None) -> None:
    query = parse(text)
    if rest is not None:
        assert (query.place, query.rest, query.relation) == (place, rest, None)


@pytest.mark.parametrize(
    "text",
    [
        "the ship left of the middle bridge", "the car below the central pier", "the plane left of the middle one",
        "the car above the middle of the harbor", "the ship above the bridge left of the centre",
    ],
)  # fmt: skip
def test_a_side_of_another_middle_is_no_half(text: str) -> None:
    query = parse(text)
    assert query.relation is not None and query.place is None


def test_halves_are_proven_by_boxes() -> None:
    boxes = np.array([[60, 10, 70, 20], [20, 10, 30, 20], [46, 40, 56, 50]])
    objects = LabelledObjects(boxes, ["ship", "ship", "ship"], (100, 100))
    assert objects.truths("the ship right of the middle") == [True, False, True]
    assert objects.truths("the ship just right of the middle") == [None, False, None]  # nobody says how far "just" is
    assert objects.truths("the ship at the top, left of the middle") == [False, True, False]
    assert strip_position("the ship right of the middle") is None
    assert "the ship left of the middle" in [v.text for v in swap("the ship right of the middle")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("aircraft close to the left edge", ("left", None)), ("the ship close to the bottom", (None, "bottom")),
        ("a car next to the right border", ("right", None)),
        ("the ship near to the upper left corner", ("left", "top")),
        ("the ship close to the middle", ("middle", "middle")), ("the ship close to the left pier", None),
        ("the ship next to the upper hangar", None), ("the ship close to the bridge", None),
    ],
)  # fmt: skip
def test_close_to_an_edge_is_a_place(text: str, place: object) -> None:
    assert parse(text).place == place
    if place:
        assert parse(text).relation is None and strip_position(text) == text.split(" close")[0].split(" ne")[0]


@pytest.mark.parametrize(
    ("text", "superlative"),
    [
        ("the ship nearest the left end of the breakwater", None), ("the car closest to the top of the hangar", None),
        ("the ship closest to the upper pier", None), ("the plane nearest the right edge of the apron", None),
        ("the plane farthest to the right of the terminal", None), ("the ship closest to the left bank", None),
        ("the ship nearest the left end of the image", "left"), ("the ship closest to the top of all", "top"),
        ("the ship closest to the left edge", "left"), ("the furthest left ship", "left"),
        ("the ship closest to the bottom that is white", "bottom"),
        ("the lowest plane", "bottom"), ("lowest of the three bridges", "bottom"),
        ("the second lowest plane", "bottom"),
    ],
)  # fmt: skip
def test_the_end_of_another_thing_is_no_superlative(text: str, superlative: str | None) -> None:
    assert parse(text).superlative == superlative


def test_lowest_is_exchanged_as_other_superlatives() -> None:
    assert {v.text for v in swap("the lowest plane", ["orientation"])} == {
        "the topmost plane", "the leftmost plane", "the rightmost plane"
    }  # fmt: skip
    assert strip_position("the lowest plane", superlatives=True) == "the plane"
    assert parse("the second lowest plane").ordinal == 2
    assert (read_query("the lowest plane").superlative, read_query("the second lowest plane").ordinal) == ("bottom", 2)


@pytest.mark.parametrize(
    "text",
    [
        "one of five parallel boat piers", "the boat ramp", "the ship's wake", "the airplane hangar on the left",
        "the bridge's shadow", "the ships\u2019 wakes", "the car wash", "a jet bridge", "the loading dock",
        "the cable car", "the tennis court fence",
    ],
)  # fmt: skip
def test_a_thing_named_after_a_category_is_none_of_it(text: str) -> None:
    query = parse(text)
    assert query.category is None and query.rest
    assert query == parse(text, Vocabulary.of(["ship", "airplane", "van"]))


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("the plane standing alone", "airplane"), ("the boat dock", "harbor"), ("which plane stands alone", "airplane"),
        ("the railway bridge", "bridge"), ("the tanks", "storage tank"), ("the car parked in the yard", "vehicle"),
        ("the plane nose up", "airplane"),
    ],
)  # fmt: skip
def test_a_category_stays_one_before_other_words(text: str, category: str) -> None:
    assert parse(text).category == category


def test_a_data_set_names_its_own_things() -> None:
    words = Vocabulary.of(["boat ramp", "jet bridge", "pier"])
    found = [parse(f"the {noun} on the left", words).category for noun in ("boat ramp", "jet bridge", "boat pier")]
    assert found == ["boat ramp", "jet bridge", "pier"]


@pytest.mark.parametrize(
    "text",
    [
        "top right diamond in the group",
        "the upper left plane in the row of five",
        "bottom right ship of the three",
        "the lower left car in a cluster of cars",
        "upper right small tank among the four tanks",
    ],
)
def test_a_corner_of_a_group_is_none_of_the_image(text: str) -> None:
    assert parse(text).place is None
    assert parse("the top right plane").place == parse("the top right plane in the image").place == ("right", "top")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("small vessel above the upper row, between its last two ships", None),
        ("the car left of the building behind the car park", None),
        ("the plane to the right of the hangar near the bridge", None),
        ("the ship below the jetty with two boats", None),
        ("the ship left of the boat ramp", None),
        ("the ship left of the bridge near the hangar", "bridge"),
        ("the ship left of the orange and grey bridge", "bridge"),
        ("the car left of the harbor bridge", "bridge"),
        ("the car right of the ship dock", "harbor"),
    ],
)
def test_the_reference_is_what_the_relation_names(text: str, reference: str | None) -> None:
    assert parse(text).reference == reference


def test_a_reference_behind_another_one_proves_nothing() -> None:
    """The car may well be left of the building and right of the car park."""
    objects = LabelledObjects(np.array([[50, 50, 60, 60], [5, 50, 30, 70]]), ["vehicle", "parking lot"], (100, 100))
    assert objects.truth("the car left of the building behind the car park", 0) is None


@pytest.mark.parametrize(
    "text",
    [
        "airliner nosed in toward the jet bridges on the right",
        "plane facing the terminal at the bottom",
        "the plane across the building from the white one on the right",
        "the plane with its nose against the building at the right edge",
        "the river bridge fed by the looping road at the bottom",
        "the car shaded by the trees on the left",
    ],
)
def test_the_place_of_another_thing_is_none_of_the_object(text: str) -> None:
    assert parse(text).place is None
    assert parse("jet towards the left side").place == ("left", None)
    assert parse("plane facing the terminal, at the bottom").place == (None, "bottom")


def test_a_group_of_a_group_is_left_to_the_network() -> None:
    assert read_query("rightmost court of the upper three tennis courts").kind == "whole"
    assert read_query("rightmost of the three tennis courts").core == "a tennis court"
