"""What people say: sides of other things, landmarks, misspelt words, and requests that no box can answer."""

from __future__ import annotations

import numpy as np
import pytest

from optisar_yolo.language import (
    LabelledObjects,
    agree,
    flip,
    parse,
    parse_raster_query,
    rotate90,
    strip_position,
    swap,
)
from optisar_yolo.language.notes import TAUGHT, read_notes, wordings
from optisar_yolo.language.parser import ParsedExpression


def claims(text: str) -> dict[str, object]:
    """What an expression claims, without the words that were not read."""
    skipped = ("rest", "definite", "landmark")
    parsed = parse(text)
    fields = ParsedExpression.__dataclass_fields__
    return {k: getattr(parsed, k) for k in fields if k not in skipped and getattr(parsed, k) is not None}


# places that are none


@pytest.mark.parametrize(
    "text",
    [
        "a ship left in the dry dock", "ships left unattended at the pier", "the ship was left at the dock",
        "a ship on the right bank of the river", "the ship at the left breakwater", "the ship on the lower quay",
        "the ship in the right-hand lane", "the ship in the left half of the dock",
        "the ship in the upper left quarter",
        "the ship in the top row", "the left ship", "the right-hand ship", "the middle ship", "the ship to the right",
        "middle ship of the three", "the ship closest to the middle", "the ship nearest the bottom left corner",
        "fourth ship counting from the top right", "ship slanting from lower left to upper right",
        "ship with a wake that reaches the top edge", "the ship in the lower left part of the basin",
        "the ship nearer the woods on the right", "the ship at the top centre",
    ],
)  # fmt: skip
def test_a_direction_of_something_else_is_no_place(text: str) -> None:
    found = claims(text)
    assert "place" not in found and "superlative" not in found
    assert found["category"] == "ship"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the ship on the right, white and long", ("right", None)),
        ("the ship on the left parked beside the crane", ("left", None)),
        ("the ship on the left in the harbor", ("left", None)),
        ("the ship in the left-hand corner", ("left", None)),
        ("the vehicle at the bottom far right", (None, "bottom")),
        ("lower one of the two ships near the left edge", ("left", None)),
        ("ship dead centre", ("middle", "middle")),
        ("the ship in the uper left", ("left", "top")),
        ("THE SHIP ON THE RIGTH SIDE", ("right", None)),
        ("ship, lower right corner", ("right", "bottom")),
    ],
)
def test_a_place_stays_a_place(text: str, place: tuple[str | None, str | None]) -> None:
    assert claims(text)["place"] == place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the port side of the ship", {}),
        ("the crane on the port side", {}),
        ("the dark speck on the dock", {}),
        ("the speck at the end of the bridge", {}),
        ("one of the ships", {"category": "ship"}),
        ("zoom in on the big ship", {"category": "ship", "size": "big"}),
        ("the port at the bottom", {"category": "harbor", "place": (None, "bottom")}),
        ("the car near the largest ship", {"category": "vehicle"}),
        ("a car by the big harbor", {"category": "vehicle"}),
        ("the big car by the harbor", {"category": "vehicle", "size": "big"}),
        ("the largest car near the harbor", {"category": "vehicle", "superlative": "largest"}),
        ("the ship not on the left", {"category": "ship"}),
        ("the ship on the right, not the big one", {"category": "ship", "place": ("right", None)}),
        ("the left of the two ships", {"category": "ship"}),
        ("the car left of the two ships", {"category": "vehicle", "relation": "other"}),
        ("lefmost ship", {"category": "ship", "superlative": "left"}),
    ],
)  # fmt: skip
def test_claims_of_a_landmark_are_not_claimed(text: str, expected: dict[str, object]) -> None:
    found = claims(text)
    found.pop("offset", None)
    found.pop("reference", None)
    if text.startswith("the car left of"):
        assert found["relation"] in ("left", "other")
        return
    assert found == expected


@pytest.mark.parametrize("text", ["the car a little right of the middle", "the car a little below the roof"])
def test_a_little_is_a_distance(text: str) -> None:
    assert parse(text).size is None and not [v for v in swap(text) if v.kind == "size"]
    assert parse("a little car").size == "small" and "a big car" in [v.text for v in swap("a little car")]


def test_the_last_noun_of_a_compound_is_the_object() -> None:
    assert parse("the ship dock at the top").category == "harbor"
    assert parse("the stadium parking lot").category == "parking lot"
    assert parse("the upper right one of the two ships").place is None


def test_a_superlative_among_the_objects_that_other_words_choose_is_open() -> None:
    """The second ship is the leftmost of those on the right, and may be the leftmost white one."""
    boxes = np.array([[10.0, 40, 20, 50], [70, 40, 80, 50], [85, 40, 95, 50]])
    objects = LabelledObjects(boxes, ["optical ship"] * 3, (100, 100))
    assert objects.truths("the leftmost ship") == [True, False, False]
    assert objects.truths("the leftmost white ship") == [None, None, None]
    assert objects.truths("the leftmost ship on the right side")[0] is False
    assert objects.truths("the leftmost ship on the right side")[1] is None


def test_sides_of_a_reference_with_hand() -> None:
    """The word "hand" does not make a place of the image out of a relation."""
    parsed = parse("the ship on the right-hand side of the bridge")
    assert (parsed.relation, parsed.reference, parsed.place) == ("right", "bridge", None)
    assert parse("the ship on the lower left-hand side of the grey bridge").offset == ("left", "bottom")


@pytest.mark.parametrize("stadium", ["the red and gray", "the large", "the huge green and orange", "the tiny"])
def test_a_field_in_a_stadium_has_no_size_of_the_stadium(stadium: str) -> None:
    """Such captions are DIOR-RSVG's: "A ground track field is in the white and gray huge stadium"."""
    parsed = parse(f"A ground track field is in {stadium} stadium in the middle")
    assert (parsed.category, parsed.relation, parsed.reference) == ("ground track field", "other", "stadium")
    assert parsed.size is None and parsed.place is None


# exchanging and turning


def test_left_as_a_verb_is_not_mirrored() -> None:
    for text in ("a boat left in the dry dock", "cars left there overnight", "the ship was left at the dock"):
        assert flip(text, horizontal=True) is None and rotate90(text) is None
        assert not [v for v in swap(text) if v.kind == "orientation"]
    assert flip("the plane farthest left in the photo", horizontal=True) == "the plane farthest right in the photo"
    assert flip("the boat at left in the photo", horizontal=True) == "the boat at right in the photo"


def test_sides_of_a_thing_are_not_turned() -> None:
    for text in ("the plane with a broken left wing", "sand on the right bank", "the port side of the ship"):
        assert flip(text, vertical=True) is None and rotate90(text) is None
    assert flip("the left runway", horizontal=True) == "the right runway"


@pytest.mark.parametrize(
    "text",
    [
        "the ship between the left pier and the right pier", "a bridge from left to right",
        "the ship between the upper and lower dock", "a bridge from top to bottom",
    ],
)  # fmt: skip
def test_a_pair_of_sides_is_not_made_equal(text: str) -> None:
    assert not [v for v in swap(text) if v.kind == "orientation"]


def test_two_places_can_still_be_exchanged() -> None:
    assert "The ship on the right of the bridge on the right" in [
        v.text for v in swap("The ship on the left of the bridge on the right")
    ]


def test_denied_words_are_neither_exchanged_nor_left_out() -> None:
    assert not swap("the ship not on the left") and strip_position("the ship not on the left") is None
    assert [v.text for v in swap("the big ship, not the red one")] == ["the small ship, not the red one"]


@pytest.mark.parametrize(
    "text", ["the ship in the left half", "the car on the lower road", "ship in the top row", "ship dead centre"]
)
def test_no_half_phrase_is_left_over(text: str) -> None:
    assert strip_position(text) is None


def test_modality_of_this_image_is_kept() -> None:
    text = "where is the ship in the upper left of this SAR scene?"
    assert strip_position(text) == "where is the ship in the SAR scene?"


def test_misspelt_directions_turn_with_the_image() -> None:
    assert flip("lefmost ship", horizontal=True) == "rightmost ship"
    assert flip("The ship on the rigth", horizontal=True) == "The ship on the left"
    assert rotate90("ship at the botom") == rotate90("ship at the bottom")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("a hourglass pool", "an hourglass pool"), ("a L-shaped pier", "an L-shaped pier"),
        ("an U-shaped pier", "a U-shaped pier"), ("a S shape", "an S shape"), ("an T-junction", "a T-junction"),
        ("a 8-sided roof", "an 8-sided roof"), ("an 1-lane road", "a 1-lane road"), ("a LNG tanker", "an LNG tanker"),
        ("an SAR ship", "a SAR ship"), ("a unidentified ship", "an unidentified ship"), ("an used car", "a used car"),
        ("an uniform field", "a uniform field"), ("an one-way road", "a one-way road"), ("a SUV", "an SUV"),
        ("an UAV", "a UAV"), ("a empty dock", "an empty dock"), ("an helicopter", "a helicopter"),
    ],
)  # fmt: skip
def test_articles_follow_the_sound(wrong: str, right: str) -> None:
    assert agree(wrong) == right and agree(right) == right


# requests beyond one object


SILENT = {"plural", "quantifier", "numeral"}  # kinds that get all their boxes


@pytest.mark.parametrize(
    ("text", "kinds", "grounded"),
    [
        *((t, ("negation",), False) for t in (
            "there is no airplane", "the airplane that is not at the gate", "the ship without a wake",
            "the ship that isn't moored", "a non-moored ship", "the plane other than the largest",
        )),
        *((t, ("count",), True) for t in (
            "how many airplanes are there?", "count the ships", "number of tanks", "What is the number of ships?",
        )),
        *((t, ("question",), False) for t in ("is the ship moored?", "why is the dock bare?", "what size is it?")),
        *((t, ("task",), False) for t in ("measure the runway", "describe this image", "please delete the ship")),
        *((t, ("language",), False) for t in (
            "le bateau à gauche", "das Schiff oben links", "el barco de la izquierda", "корабль слева", "船", "السفينة",
        )),
        *((t, ("existence",), True) for t in ("is there a ship?", "Is there a plane at the top?")),
        *((t, ("quantifier",), True) for t in ("all airplanes", "every tank", "each of them", "show me all ships")),
        *((t, ("plural",), True) for t in ("the ships", "where are the ships", "a pair of tennis courts")),
        *((t, ("numeral",), True) for t in ("the ten airplanes", "two tanks", "3 ships", "there are two planes")),
        *((t, ("colour",), True) for t in ("the white ship", "a reddish car", "the all-red plane")),
        *((t, ("command",), True) for t in ("draw a box around the ship", "zoom in on the ship", "box the ship")),
        *((t, (), True) for t in (
            "find the ship", "show me the ship", "where is the ship?", "which ship is the largest?",
            "what is the smallest plane here?", "can you see the ship?", "lowest of the five planes",
            "left one of the two ships", "the largest of all ships", "counting from the left, the third pier",
            "the two-lane bridge", "no. 5 storage tank", "gate 12 of the airport", "the crossroads", "the bus",
            "ship at Port de la Lune", "the ship near the two bridges", "the third ship from the left", "golf links",
            "A vehicle is on the upper left of all vehicles",
        )),
    ],
)  # fmt: skip
def test_kinds_of_requests(text: str, kinds: tuple[str, ...], grounded: bool) -> None:
    found = read_notes(text)
    assert (found.kinds, found.grounded) == (kinds, grounded)
    assert bool(found.message()) == bool(set(kinds) - SILENT) and "\n" not in found.message(0.5)
    one = read_notes(text, several=False)  # a run with one box per expression
    assert one.kinds == kinds and bool(one.message()) == bool(kinds)
    assert one.grounded == (grounded and "count" not in kinds)


def test_a_message_says_what_becomes_of_the_box() -> None:
    found = read_notes("there is no airplane")
    assert found.message(0.5).startswith("a negation ('no') is beyond these weights; no box is returned")
    assert "no box" not in found.message(0)
    assert "one box" in read_notes("3 ships", several=False).message(0.5)


def test_several_boxes_answer_a_plural() -> None:
    assert not read_notes("the ships").message() and not read_notes("two tanks").message()
    for topk in (5, "all"):
        assert not read_notes("the ships", topk).messages and not read_notes("two tanks", topk, several=False).messages
        assert read_notes("all white ships", topk).kinds == ("colour",)


def test_weights_say_what_their_training_had() -> None:
    colour, negation = "the white ship", "there is no ship"
    assert "not known" in read_notes(colour).message()
    assert "were not" in read_notes(colour, taught=()).message()
    assert not read_notes(colour, taught=("colour",)).messages
    assert read_notes(negation, taught=("negation",)).grounded
    assert read_notes("船", taught=("language",)).grounded


def test_kinds_of_a_data_set() -> None:
    plain = ["The ship on the left"] * 90
    assert wordings([*plain, *["A white ship"] * 10]) == ("colour",)
    assert wordings([*plain, *["a ship without a wake"] * int(TAUGHT * 80)]) == ()
    assert wordings([]) == ()


def test_a_raster_query_says_that_it_cannot_deny() -> None:
    found = parse_raster_query("there is no ship in the north", lambda: {})
    assert "negation" in found.note and found.place is None
    lone = parse_raster_query("a boat left in the dry dock", lambda: {})
    assert lone.superlative is None
