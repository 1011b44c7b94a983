"""Numbers of nouns: plurals as English writes them, and categories said in the plural or without an article."""

from __future__ import annotations

import re

import numpy as np
import pytest

from optisar_yolo.language import LabelledObjects, Vocabulary, describe, describe_sets, mentions, parse, reword
from optisar_yolo.language.inflect import number_of, plural, plurals, singulars

PLURALS = {
    "ship": "ships", "ferry": "ferries", "quay": "quays", "box": "boxes", "person": "people", "child": "children",
    "stray goose": "stray geese", "field mouse": "field mice", "tumulus": "tumuli", "Tumulus": "Tumuli",
    "oasis": "oases", "volcano": "volcanoes", "silo": "silos", "wharf": "wharves", "roof": "roofs",
    "policeman": "policemen", "row of vines": "rows of vines", "sheep": "sheep", "sewage works": "sewage works",
    "barracks": "barracks", "hay bales": "hay bales", "people": "people", "rubble": "rubble", "GPU": "GPUs",
    "spacecraft": "spacecraft", "greenhouse": "greenhouses", "bus": "buses", "canvas": "canvases", "deer": "deer",
}  # fmt: skip


def test_plurals_are_written_as_english_does_and_read_back() -> None:
    assert {noun: plural(noun) for noun in PLURALS} == PLURALS
    for noun, several in PLURALS.items():
        assert several == noun or several in plurals(noun), noun
        assert Vocabulary.of([noun]).read(several) == noun
    assert singulars("tumuli") == ("tumulus",) and singulars("people") == ("person",) and not singulars("canvas")
    assert parse("the two tumuli on the left", Vocabulary.of(["tumulus"])).number == 2


@pytest.mark.parametrize(
    ("noun", "number"),
    [
        ("ship", "one"), ("hay bales", "several"), ("solar_panels", "several"), ("people", "several"),
        ("stairs", "several"), ("rubble", "mass"), ("piles of rubble", "several"), ("pile of rubble", "one"),
        ("crossroads", "one"), ("salt works", "one"), ("bus", "one"), ("glass", "one"), ("sheep", "one"),
        ("dense vegetation", "mass"), ("aircraft", "one"),
    ],
)  # fmt: skip
def test_number_of_a_noun(noun: str, number: str) -> None:
    assert number_of(noun) == number
    assert mentions(noun)[1].split(" {")[0] == {"one": "There is a", "several": "There are", "mass": "There is"}[number]


@pytest.mark.parametrize("noun", ["hay bales", "people", "rubble", "dense vegetation", "solar panels"])
def test_what_is_not_one_thing_has_no_article(noun: str) -> None:
    vocabulary = Vocabulary.of([noun, "tractor"])
    said: set[str] = set()
    for seed in range(120):
        rng = np.random.default_rng(seed)
        start = rng.uniform(0, 85, (4, 2))
        objects = LabelledObjects(
            np.concatenate([start, start + rng.uniform(4, 15, (4, 2))], 1), [noun, noun, noun, "tractor"], (100, 100),
            vocabulary,
        )  # fmt: skip
        made = [text for i in range(3) for text in describe(objects, i, rng)]
        made += [text for text, _ in describe_sets(objects, rng) if noun in text]
        said |= {*made, *(reword(text, rng, vocabulary) for text in made)}
    assert len(said) > 150
    # Not "a hay bales", "this people", "where is the solar panels", "the second rubble".
    one = "an?|one|every|each|second|third" + ("" if number_of(noun) == "mass" else "|this|that|is the|'s the")
    wrong = [t for t in said if re.search(rf"\b(?:{one}) (?:optical |small |big |little |large )*{noun}\b", t, re.I)]
    assert not [t for t in wrong if not re.match(r"(?:it|It)'s the ", t)], wrong
    if number_of(noun) == "several":
        assert any(t.startswith("There are ") for t in said)
    else:
        assert not any(re.search(rf"\b(?:two|three|both|all)\b.*{noun}", t) for t in said)
    assert all(parse(t, vocabulary).category in (noun, "tractor") for t in said)


def test_ranks_are_those_that_people_say() -> None:
    start = np.array([[5, 40], [25, 42], [50, 41], [70, 43]])
    sides = np.array([[4, 4], [8, 8], [13, 13], [20, 20]])
    objects = LabelledObjects(np.concatenate([start, start + sides], 1), ["optical silo"] * 4, (100, 100))
    said = [text for i in range(4) for text in describe(objects, i, np.random.default_rng(0), modality=0)]
    assert {"The second largest silo", "The second smallest silo", "The second silo from the left"} <= set(said)
    assert not [text for text in said if "third" in text and ("largest" in text or "smallest" in text)]
    words = Vocabulary.of(["silo"])
    for superlative in ("The leftmost silo", "The largest silo"):
        reworded = {reword(superlative, np.random.default_rng(seed), words) for seed in range(400)}
        assert len(reworded) > 60 and not [t for t in reworded if t.startswith(("this ", "that l", "that b"))], reworded
