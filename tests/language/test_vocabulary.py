"""The nouns of a data set: any category name works as "ship" does, and categories that share a meaning are compared."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo.language import (
    BUILT_IN,
    NOUNS,
    LabelledObjects,
    Vocabulary,
    describe,
    flip,
    noun_of,
    parse,
    reword,
    rotate90,
    strip_position,
    swap,
)

SIZE = (600, 600)


def boxes_at(*centres: tuple[float, float], half: float = 20) -> np.ndarray:
    return np.array([(x - half, y - half, x + half, y + half) for x, y in centres], np.float64)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("van", ("the van", "Vans", "a small VAN")),
        ("optical small-vehicle", ("the small-vehicle", "two small vehicles", "the small_vehicle")),
        ("container_ship", ("The container ship", "container-ships")),
        ("sar bus", ("the bus", "buses")),
        ("lorry", ("the lorries",)),
        ("T junction", ("the T junction", "T-junctions")),
        ("A220", ("an A220", "the A220s")),
        ("Boeing 737", ("the Boeing 737 on the left",)),
        ("solar panels", ("the solar panel", "solar panels")),
        ("building", ("the buildings",)),
        ("ship under construction", ("ships under construction",)),
        ("F/A-18 (old)", ("the F/A-18 (old) at the top",)),
        ("middle school", ("the middle school in the upper left corner",)),
        ("aircraft", ("two aircraft", "the airplane", "a plane")),
        ("large vehicle", ("the small large vehicle",)),
    ],
)
def test_a_name_and_its_plurals_are_read(name: str, texts: tuple[str, ...]) -> None:
    words = Vocabulary.of([name])
    for text in texts:
        assert parse(text, words).category == words.noun_of(name), text


def test_the_name_is_said_as_the_user_wrote_it() -> None:
    spoken = {"plane": "plane", "oil tank": "oil tank", "boat": "boat", "Harbour": "harbour", "ships": "ship",
              "Ground-Track-Field": "ground track field", "small_vehicle": "small vehicle", "A220": "A220"}  # fmt: skip
    for name, noun in spoken.items():
        objects = LabelledObjects(boxes_at((100, 300), (500, 300)), [f"optical {name}"] * 2, SIZE)
        texts = describe(objects, 0, np.random.default_rng(0))
        assert any(t.endswith(f" {noun}") for t in texts) and all(f" {noun}" in t for t in texts), texts
        assert all(objects.truth(t, 0) and objects.truth(t, 1) is False for t in texts)


def test_words_of_a_name_are_no_size_place_or_colour() -> None:
    words = Vocabulary.of(["small-vehicle", "white ship", "top hat", "left-turn lane"])
    query = parse("The small-vehicle below the white ship", words)
    assert (query.size, query.relation, query.reference, query.rest) == (None, "bottom", "white ship", ())
    assert [v.text for v in swap("A white ship", vocabulary=words)] == []
    assert flip("The top hat at the top", vertical=True, vocabulary=words) == "The top hat at the bottom"
    assert flip("Left-turn lane on the left", horizontal=True, vocabulary=words) == "Left-turn lane on the right"
    assert strip_position("The top hat on the left", vocabulary=words) == "The top hat"
    assert rotate90("The left small-vehicle", vocabulary=words) == "The lower small-vehicle"
    assert rotate90("The leftmost top hat", vocabulary=words) == "The top hat closest to the bottom of the image"
    assert strip_position("A left airship", vocabulary=Vocabulary.of(["airship"])) == "An airship"


def test_paraphrases_keep_the_category() -> None:
    words = Vocabulary.of(["container ship", "boat", "ship"], synonyms={"container ship": ["box carrier"]})
    for text in ("The leftmost container ship", "The boat below the ship", "A container ship at the top"):
        said = [reword(text, np.random.default_rng(k), words) for k in range(60)]
        assert len(set(said)) > 10
        assert {parse(t, words).category for t in said} == {parse(text, words).category}
    assert any(
        "box carrier" in reword("A container ship at the top", np.random.default_rng(k), words) for k in range(9)
    )
    # Built-in categories without synonyms are read and not paraphrased, as before.
    assert reword("The airport at the top", np.random.default_rng(0)) == "The airport at the top"


def test_which_nouns_may_mean_which_objects() -> None:
    names = ["ship", "boat", "container ship", "small-vehicle", "large-vehicle", "truck", "dam", "speedboat"]
    words = Vocabulary.of(names, synonyms={"dam": ["weir"]}, parents={n: "vehicle" for n in names[3:5]})
    meant = {n: {m: words.means(n, m) for m in names if words.means(n, m) is not False} for n in (*names, "vehicle")}
    assert meant["ship"] == {"ship": True, "boat": None, "container ship": None, "speedboat": None}
    assert meant["container ship"] == {"ship": None, "boat": None, "container ship": True}
    assert meant["small-vehicle"] == {"small-vehicle": True}
    assert meant["vehicle"] == {"small-vehicle": True, "large-vehicle": True, "truck": None}
    assert meant["dam"] == {"dam": True} and parse("the weirs", words).category == "dam"
    assert not any(BUILT_IN.means(a, b) for a in NOUNS for b in NOUNS if a != b)
    assert not any(BUILT_IN.means(a, b) is None for a in NOUNS for b in NOUNS)


def test_a_boat_is_compared_with_ships() -> None:
    objects = LabelledObjects(boxes_at((100, 300), (300, 320), (500, 300)), ["ship", "boat", "boat"], SIZE)
    assert objects.others(1) == [0, 2]
    assert objects.truth("The leftmost boat", 1) is False and objects.truth("The leftmost vessel", 0) is True
    assert objects.truth("The rightmost boat", 2) is True and objects.truth("The ship", 0) is None
    assert not any("leftmost" in t for t in describe(objects, 1, np.random.default_rng(0)))
    reference = LabelledObjects(boxes_at((100, 300), (300, 320), (500, 300)), ["dam", "boat", "ship"], SIZE)
    assert not any("boat" in t or "ship" in t for t in describe(reference, 0, np.random.default_rng(0)))


def test_a_declared_parent_means_its_kinds() -> None:
    words = Vocabulary.of(["small-vehicle", "bus"], parents={"small-vehicle": "vehicle", "bus": "vehicle"})
    objects = LabelledObjects(boxes_at((100, 300), (500, 300)), ["bus", "small-vehicle"], SIZE, words)
    assert objects.truths("The leftmost vehicle") == [True, False]
    assert objects.truths("The leftmost small-vehicle") == [False, True]
    assert objects.truth("The car on the right side", 1) is True
    assert not objects.false_of_all("the red vehicle") and objects.false_of_all("the bus on the right side")


def test_a_hierarchy_of_several_steps_and_across_a_shared_meaning() -> None:
    names = ["boat", "ship", "yacht", "buoy"]
    words = Vocabulary.of(names, parents={"yacht": "boat", "boat": "ship", "ship": "floating object"})
    assert [words.means("floating object", n) for n in names] == [True, True, True, False]
    assert [words.means("ship", n) for n in names] == [True, True, True, False]
    assert [words.means(n, "ship") for n in names] == [None, True, None, False]
    assert len(Vocabulary.of([f"thing {k}" for k in range(1200)]).nouns) == 1200  # in a moment: no pairs are compared


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"synonyms": {"van": ["truck"], "ship": ["Trucks"]}}, "'Trucks' is claimed by 'van' and 'ship'"),
        ({"parents": {"van": "ship", "ship": "van"}}, "circle: van -> ship -> van"),
        ({"parents": {"van": "vans", "vans": "van"}}, "circle: van -> van"),
        ({"synonyms": {"wan": ["truck"]}}, "'wan', which is no category"),
        ({"parents": {"wan": "truck"}}, "'wan', which is no category"),
        ({"synonyms": {"van": ["on the left"]}}, "can name no object"),
    ],
)
def test_what_cannot_be_declared(declared: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary.of(["van", "ship"], **declared)
    assert "\n" not in str(error.value)


def test_one_vocabulary_for_the_same_nouns() -> None:
    words = Vocabulary.of(["sar van", "optical ship"], synonyms={"van": ["minibus"]})
    assert words is Vocabulary.of(["optical ship", "van"], synonyms={"optical van": ["minibus"]})
    assert words is words.including(["sar bridge", "van"]) is pickle.loads(pickle.dumps(words))
    assert Vocabulary.of(NOUNS) is BUILT_IN is LabelledObjects(boxes_at((9, 9)), ["sar ship"], SIZE).vocabulary
    assert parse("the zeppelin on the left", words).category is None
    assert [noun_of(n) for n in ("optical harbour", "port", "Foo")] == ["harbor", "harbor", "Foo"]


# Names by what people mean with them; names of one line share a meaning.
SENSES = (
    ("ship", "boat", "vessel", "sar container ship"), ("vehicle", "car", "small-vehicle", "van", "truck"),
    ("plane", "airplane", "aircraft"), ("tank", "storage tank", "oil_tank"), ("helipad",), ("T junction",), ("A220",),
    ("sheep",), ("solar panels",), ("top hat",), ("Middle School",), ("dam",),
)  # fmt: skip
SENSE = {name: sense for sense, names in enumerate(SENSES) for name in names}
# Names of one line that a noun does not confuse: one is no kind of the other.
APART = {frozenset(p) for p in (("small-vehicle", "van"), ("small-vehicle", "truck"), ("van", "truck"))}
_ROOM = st.floats(20, 580)
_OBJECTS = st.lists(st.tuples(st.sampled_from(sorted(SENSE)), _ROOM, _ROOM, st.floats(5, 90)), min_size=1, max_size=9)
_SIDE = {"leftmost": (0, -1), "rightmost": (0, 1), "closest to the top": (1, -1), "closest to the bottom": (1, 1)}


@settings(max_examples=400, deadline=None)
@given(_OBJECTS, st.integers(0, 2**32))
def test_siblings_never_get_a_false_caption(drawn: list[tuple[str, float, float, float]], seed: int) -> None:
    """Checked by plain geometry, and by hand which names share a meaning: the vocabulary is asked nothing."""
    names = [name for name, *_ in drawn]
    boxes = np.concatenate([boxes_at((x, y), half=half) for _, x, y, half in drawn])
    centres, areas = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).prod(1)
    objects = LabelledObjects(boxes, names, SIZE)
    for i, name in enumerate(names):
        siblings = [
            k
            for k, other in enumerate(names)
            if k != i and SENSE[other] == SENSE[name] and frozenset((name, other)) not in APART
        ]
        for text in describe(objects, i, np.random.default_rng(seed)):
            assert objects.truth(text, i) is True, text
            assert not any(objects.truth(text, k) for k in siblings), text
            if re.match(r"The (second|third|fourth) ", text) or re.search("nearest to|furthest from", text):
                continue  # test_expressions.py
            for words, (axis, sign) in _SIDE.items():
                if words in text:
                    assert all(sign * centres[i, axis] > sign * centres[k, axis] for k in siblings), text
            if "largest" in text or "smallest" in text:
                sign = 1 if "largest" in text else -1
                assert all(sign * areas[i] > sign * areas[k] for k in siblings), text
            if text.endswith(" of the image") and "closest" not in text:  # its cell of the grid is its own
                inside = (np.abs(centres - np.round(centres / 200) * 200) > 1).all(1)  # a cell's border has a tolerance
                alike = (centres // 200 == centres[i] // 200).all(1) & inside & inside[i]
                assert not alike[siblings].any(), text
            elif not re.search(r"most|closest|largest|smallest| of the | above | below ", text):
                assert not siblings, text


_ANY_NAME = st.from_regex(r"[A-Za-z][a-z0-9]{1,7}([ _-][a-z0-9]{1,6}){0,2}", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(_ANY_NAME, min_size=1, max_size=4), st.integers(0, 2**32))
def test_any_name_is_described_and_proven_as_ship_is(names: list[str], seed: int) -> None:
    """Any letters: also names made of words that mean a place, a size or nothing ("in", "top")."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(30, 570, (6, 2))
    drawn = [names[k] for k in rng.integers(len(names), size=6)]
    objects = LabelledObjects(boxes_at(*centres.tolist()), drawn, SIZE)
    for i in range(6):
        for text in describe(objects, i, np.random.default_rng(seed)):
            assert objects.truth(text, i) is not False, text
            assert not any(objects.truth(text, k) for k in objects.others(i)), text
