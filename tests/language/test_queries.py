"""Queries: how expressions are read, and which of the objects found they mean."""

import json

import numpy as np
import pytest

from optisar_yolo.language import Found, Vocabulary, chosen, in_words, order, read_query, weigh

SIZE = (100, 100)


@pytest.mark.parametrize(
    ("text", "core", "superlative", "ordinal"),
    [
        ("the second ship from the left", "a ship", "left", 2),
        ("second leftmost ship", "a ship", "left", 2),
        ("third tank from the top", "a tank", "top", 3),
        ("The third largest tank", "a tank", "largest", 3),
        ("the third-largest storage tank", "a storage tank", "largest", 3),
        ("find the 2nd white ship from the right", "a white ship", "right", 2),
        ("counting from the left, the fourth airplane", "an airplane", "left", 4),
        ("third aircraft counting from the top", "an aircraft", "top", 3),
        ("fifth plane up from the bottom", "a plane", "bottom", 5),
        ("the second northernmost ship", "a ship", "top", 2),
        ("the middle tank", "a tank", "middle", 1),
        ("middle one of the three planes", "a plane", "middle", 1),
        ("the second van from the left", "a van", "left", 2),
    ],
)
def test_ordinals(text, core, superlative, ordinal):
    query = read_query(text)
    assert (query.kind, query.said or query.core, query.superlative, query.ordinal) == (
        "ordinal",
        core,
        superlative,
        ordinal,
    )


@pytest.mark.parametrize(
    ("text", "core", "superlative", "group"),
    [
        ("The leftmost SAR ship", "a SAR ship", "left", None),
        ("the ship closest to the bottom of the image", "a ship", "bottom", None),
        ("the ship closest to the top of the SAR image", "a SAR ship", "top", None),
        ("lowest of the five planes", "a plane", "bottom", 5),
        ("the upper of the two bridges", "a bridge", "top", 2),
        ("left one of the two blue tennis courts", "a blue tennis court", "left", 2),
        ("the bigger of the two ships", "a ship", "largest", 2),
        ("boat dock closest to the bottom left corner", "a boat dock", "lower left", None),
        ("the tank nearest the centre", "a tank", "centre", None),
        ("which vessel is closest to the right edge?", "a vessel", "right", None),
        ("the left ship", "a ship", "left", None),
    ],
)
def test_superlatives(text, core, superlative, group):
    query = read_query(text)
    assert (query.kind, query.said or query.core, query.superlative, query.group) == (
        "superlative",
        core,
        superlative,
        group,
    )


@pytest.mark.parametrize(
    ("text", "core", "relation", "references"),
    [
        ("the plane furthest from the harbor", "a plane", "furthest", ["a harbor"]),
        ("the ship closest to the bridge", "a ship", "nearest", ["a bridge"]),
        ("tennis court nearest the basketball court", "a tennis court", "nearest", ["a basketball court"]),
        ("the car next to the largest ship", "a car", "nearest", ["a ship"]),
        ("the ship between the two bridges", "a ship", "between", ["a bridge"]),
        ("the ship between the bridge and the harbor", "a ship", "between", ["a bridge", "a harbor"]),
        ("tank to the left of the bridge", "a tank", "left", ["a bridge"]),
        ("The vehicle is on the upper right of the red ship", "a vehicle", "upper right", ["a red ship"]),
        ("the car on the bridge", "a car", "inside", ["a bridge"]),
        ("the ship between the two piers", "a ship", "between", ["a pier"]),
    ],
)
def test_relations(text, core, relation, references):
    query = read_query(text)
    assert (query.kind, query.core, query.relation) == ("relation", core, relation)
    assert [reference.said or reference.core for reference in query.reference] == references
    assert in_words(query).cores == (core, *references)


@pytest.mark.parametrize(
    ("text", "core", "amount"),
    [
        ("all ships", "a ship", None), ("every tank", "a tank", None), ("show me the boats", "a boat", None),
        ("the airplanes on the apron", "an airplane on the apron", None), ("the two tanks in the middle", "a tank", 2),
        ("both bridges", "a bridge", 2), ("a pair of tennis courts", "a tennis court", 2), ("3 ships", "a ship", 3),
        ("the three largest storage tanks", "a storage tank", 3), ("all aircraft", "an aircraft", None),
        ("most of the white ships", "a white ship", None), ("all gizmos", "all gizmos", None),
    ],
)  # fmt: skip
def test_sets(text, core, amount):
    query = read_query(text)
    assert (query.kind, query.said or query.core, query.amount, query.counted) == ("set", core, amount, False)


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("how many planes are there", "a plane"), ("How many white ships are there on the left?", "a white ship"),
        ("count the storage tanks", "a storage tank"), ("the number of vehicles in the image", "a vehicle"),
    ],
)  # fmt: skip
def test_questions_about_a_number(text, core):
    query = read_query(text)
    assert (query.kind, query.said or query.core, query.amount, query.counted) == ("set", core, None, True)
    assert "counted" in str(query)


@pytest.mark.parametrize(
    "text",
    [
        "the ship", "any ship", "A small ship at the top of the image", "the crossroads", "the aircraft",
        "one of the ships", "there is no ship", "the third gizmo from the left", "second from the left",
        "third from the top",
        "the plane furthest from the terminal", "the court further away from the parked cars",
        "a boat left in the dry dock",
        "the wider of the two bridges", "fifth plane up from the bottom in the row by the pier", "the two-lane bridge",
        "river crossing near the top centre", "the north-easternmost ship", "the red ship not on the left",
    ],
)  # fmt: skip
def test_the_network_alone_decides_the_rest(text):
    query = read_query(text)
    assert not query.reasoned and str(query) == "as a whole, by the network"


def test_a_query_says_in_one_line_how_it_was_read():
    assert str(read_query("the second ship from the left")) == '"a ship", counted from the left, number 2'
    assert str(read_query("the two tanks in the middle")) == '"a tank", in the middle, 2 of them'
    assert str(read_query("the plane furthest from the harbor")) == '"a plane", furthest from "a harbor", number 1'
    assert "north" in read_query("the northernmost ship").note


def test_the_nouns_of_a_data_set_are_read():
    words = Vocabulary.of(["helipad", "small-vehicle"])
    assert read_query("the second helipad from the left", words).core == "a helipad"
    assert read_query("all small-vehicles", words).core == "a small-vehicle"
    assert not read_query("the second helipad from the left").reasoned


def test_no_caption_of_one_real_object_is_a_set(optsar_real):
    captions = [a["caption"] for a in json.loads((optsar_real / "val.json").read_text())["annotations"]]
    kinds = [read_query(caption).kind for caption in captions]
    assert "set" not in kinds and "ordinal" not in kinds
    extreme = [json_kind == "superlative" for json_kind in kinds]
    assert 0.3 < np.mean(extreme) < 0.4  # 135 of 381 are superlatives


# which of the objects found


def boxes(*centres, side=6.0):
    return np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres], float).reshape(
        -1, 4
    )


ROW = boxes((10, 20), (30, 80), (50, 50), (90, 30))


def best(text, conf=(0.95, 0.95, 0.95, 0.95), ships=ROW, **others):
    query = read_query(text)
    found = {query.core: Found(ships, np.array(conf)), **{k.replace("_", " "): Found(*v) for k, v in others.items()}}
    score = weigh(query, found, SIZE)
    return int(score.argmax()), float(score.max())


def test_the_kth_is_counted_over_objects_that_are_sure():
    assert best("the second ship from the left")[0] == 1
    assert best("the third ship from the left", (0.95, 0.1, 0.95, 0.95))[0] == 3  # the second is hardly a ship
    assert best("the second topmost ship")[0] == 3 and best("the third ship from the right")[0] == 1
    assert best("the fifth ship from the left")[1] < 0.01


def test_the_probability_is_that_of_the_other_objects_too():
    from optisar_yolo.language.choice import likelihood

    conf = np.array([0.3, 0.5, 0.7, 0.9])
    score = weigh(read_query("the second ship from the left"), {"a ship": Found(ROW, conf)}, SIZE)
    p = likelihood(conf)
    for i in range(4):  # by brute force over which objects exist
        total = 0.0
        for mask in range(16):
            there = [(mask >> k) & 1 for k in range(4)]
            if there[i] and sum(there[:i]) == 1:
                total += float(np.prod([p[k] if there[k] else 1 - p[k] for k in range(4)]))
        assert score[i] == pytest.approx(total)


def test_a_group_tells_how_many_there_are():
    conf = (0.95, 0.5, 0.95, 0.95)
    assert best("middle one of the three ships", conf)[0] == 2
    assert best("rightmost of the two ships", (0.95, 0.9, 0.3, 0.3))[0] == 1
    sure, doubtful = best("leftmost of the three ships", conf)[1], best("leftmost of the three ships")[1]
    assert doubtful < 0.2 < sure  # of four the expression may mean any three


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the ship closest to the bridge", 2), ("the ship furthest from the bridge", 0),
        ("the ship above the bridge", 2),
        ("the second ship closest to the bridge", 1), ("the ship to the left of the bridge", 1),
        ("the ship nearest the lower left corner", 1), ("the ship closest to the centre", 2),
    ],
)  # fmt: skip
def test_relations_and_corners(text, expected):
    assert best(text, a_bridge=(boxes((58, 70)), np.array([0.9])))[0] == expected


def test_between_and_inside():
    two = (boxes((20, 80), (40, 80)), np.array([0.9, 0.9]))
    assert best("the ship between the two bridges", a_bridge=two)[0] == 1
    pair = {"a_bridge": (boxes((5, 5)), np.array([0.9])), "a_harbor": (boxes((95, 95)), np.array([0.9]))}
    assert best("the ship between the bridge and the harbor", **pair)[0] == 2
    on = (np.array([[80, 20, 100, 40.0]]), np.array([0.9]))
    assert best("the ship on the bridge", a_bridge=on)[0] == 3


def test_without_the_reference_nothing_is_certain():
    assert best("the ship closest to the bridge", a_bridge=(np.zeros((0, 4)), np.zeros(0)))[1] == 0
    assert best("the ship closest to the bridge", a_bridge=(boxes((58, 70)), np.array([0.1])))[1] < 0.05
    assert weigh(read_query("the leftmost ship"), {"a ship": Found(np.zeros((0, 4)), np.zeros(0))}, SIZE).shape == (0,)


def test_an_object_is_no_reference_of_itself():
    query = read_query("the ship closest to the largest ship")
    ships = np.concatenate([ROW, [[60, 40, 90, 70.0]]])
    score = weigh(query, {"a ship": Found(ships, np.full(5, 0.95))}, SIZE)
    assert score.argmax() in (2, 3)


def members(text, conf=(0.9, 0.8, 0.7, 0.6), threshold=0.5, found=ROW):
    query = read_query(text)
    index, score = chosen(query, {query.core: Found(found, np.array(conf))}, SIZE, threshold)
    return index[score >= threshold].tolist()


def test_sets_of_objects():
    assert members("all ships") == [0, 1, 2, 3]
    assert members("the ships", (0.9, 0.2, 0.7, 0.6)) == [0, 2, 3]
    assert members("both ships") == [0, 1] and members("3 ships") == [0, 1, 2]
    assert members("the ships on the left") == [0, 1]
    assert members("all ships in the upper left corner") == [0]
    assert members("the two leftmost ships", (0.6, 0.2, 0.7, 0.8)) == [0, 2]
    assert members("the two rightmost ships") == [3, 2]


def test_certain_objects_are_put_in_order():
    found = {"a ship": Found(ROW, np.array([0.6, 0.7, 0.8, 0.9])), "a bridge": Found(boxes((58, 70)), np.array([0.9]))}
    assert order(read_query("the ship closest to the bridge"), found, SIZE).tolist() == [2, 1, 3, 0]
    assert order(read_query("the second ship from the left"), found, SIZE).tolist() == [1, 2, 3]
    assert order(read_query("the two leftmost ships"), found, SIZE).tolist() == [0, 1]
    assert order(read_query("all ships"), found, SIZE).tolist() == [3, 2, 1, 0]
