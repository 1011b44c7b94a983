"""The paraphrase bank: every phrase is read with its meaning, and none holds a word that is kept for tests."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import optisar_yolo.language.phrases as phrases
from optisar_yolo.language import RESERVED, Vocabulary, parse, read_notes, reword
from optisar_yolo.language.paraphrase import claims
from optisar_yolo.language.parser import ParsedExpression

NOUNS = ("ship", "solar panel", "ferry", "small-vehicle", "A220", "hay bale", "aircraft")
WORDS = Vocabulary.of([*NOUNS, "bridge", "container ship"], synonyms={"solar panel": ["PV module"]})
CLAIMS = (
    "The {} in the upper left corner of the image", "A {} at the bottom", "The {} on the right",
    "The big {} in the middle",
    "The leftmost {}", "The {} closest to the top of the image", "The largest {}", "The smallest {}", "A {}", "The {}",
    "The second {} from the right", "The third {} from the top", "The second largest {}",
    "The {} nearest to the bridge",
    "The {} furthest from the container ship", "The {} to the right of the bridge", "The {} below the bridge",
    "The small SAR {} in the lower right corner", "The optical {} in the left half of the image",
)  # fmt: skip
SETS = (
    "All {}", "The two {} on the left", "The five {} in the upper half of the image", "The two largest {}",
    "All SAR {}",
    "The 14 {} at the top", "The three {} to the left of the bridge", "Both {} in the lower left corner",
)  # fmt: skip


def said_of(text: str, draws: int, unread: float = 0.0) -> set[str]:
    return {reword(text, np.random.default_rng(seed), WORDS, unread) for seed in range(draws)}


@pytest.mark.parametrize("noun", NOUNS)
def test_every_wording_has_the_same_claims(noun: str) -> None:
    from optisar_yolo.language.inflect import plural

    for text in [*(c.format(noun) for c in CLAIMS), *(s.format(plural(noun)) for s in SETS)]:
        query = parse(text, WORDS)
        assert not query.rest and query.category == noun.replace("aircraft", WORDS.noun_of("aircraft")), text
        said = said_of(text, 15)
        assert len(said) >= 8, (text, said)
        assert not [t for t in said if claims(parse(t, WORDS)) != claims(query)], text
        assert not any(RESERVED.search(t) for t in said), said


def values(table: object) -> list[str]:
    if isinstance(table, str):
        return [table]
    return [text for part in (table.values() if isinstance(table, dict) else table) for text in values(part)]  # type: ignore[attr-defined]


TABLES = {name: table for name, table in vars(phrases).items() if name.isupper()}


def test_the_bank_holds_no_reserved_word_and_nothing_twice() -> None:
    for name, table in TABLES.items():
        for part in table.values() if isinstance(table, dict) else [table]:
            texts = values(part)
            assert not [t for t in texts if RESERVED.search(t)], name
            if name not in ("EXACTLY",):  # its first form is said more often
                assert len(texts) == len(set(texts)), name


@pytest.mark.parametrize("noun", ["ship", "solar panel"])
def test_every_frame_is_read(noun: str) -> None:
    """Each frame once, with a place or without one."""
    expected = {"THE": f"the {noun} on the left", "A": f"a {noun} on the left", "APART": f"the {noun} on the left",
                "FRONTED": f"the {noun} on the left", "SIZED": f"the largest {noun}",
                "RANKED": f"the second {noun} from the left",
                "RANKED_SIZE": f"the second largest {noun}"}  # fmt: skip
    for name, text in expected.items():
        wanted = claims(parse(text, WORDS))
        word = "largest"
        for frame in TABLES[name]:
            said = frame.format(
                x=f"{noun} on the left", n=noun, a="on the left", p=f"{noun}s", w=word, o="second", e="left"
            )
            assert claims(parse(said, WORDS)) == wanted, (said, parse(said, WORDS))
    for frame in phrases.SETS:
        said = frame.format(s=f"the two {noun}s on the left", c=f"the two {noun}s", a="on the left")
        assert claims(parse(said, WORDS)) == claims(parse(f"the two {noun}s on the left", WORDS)), said
    for forms, number in ((phrases.EXACTLY, 3), (phrases.TWO, 2), (phrases.ALL, "all")):
        for form in forms:
            query = parse(form.format(k="three", p=f"{noun}s", n=noun), WORDS)
            assert (query.category, query.number, query.rest) == (noun, number, ()), form
    for relation in ("nearest", "furthest"):
        for phrase in phrases.NEAREST[relation]:
            query = parse(f"the {noun} {phrase.format(r='bridge')}", WORDS)
            assert (query.relation, query.reference, query.rest) == (relation, "bridge", ()), phrase
        for frame in phrases.NEAREST_FRAMES[relation]:
            query = parse(frame.format(n=noun, r="bridge"), WORDS)
            assert (query.category, query.relation, query.reference, query.rest) == (noun, relation, "bridge", ()), (
                frame
            )
    for side, texts in phrases.BESIDE.items():
        for phrase in texts:
            query = parse(f"the {noun} {phrase.format(r='bridge')}", WORDS)
            assert (query.relation, query.reference, query.rest) == (side, "bridge", ()), phrase


def test_every_frame_is_grounded() -> None:
    slots = {"x": "ship on the left", "n": "ship", "a": "on the left", "p": "ships", "w": "largest", "o": "second",
             "e": "left", "s": "the two ships on the left", "c": "the two ships", "r": "bridge"}  # fmt: skip
    frames = (phrases.THE, phrases.A, phrases.APART, phrases.FRONTED, phrases.SETS, phrases.SIZED, phrases.RANKED,
              phrases.RANKED_SIZE, *phrases.NEAREST_FRAMES.values(), phrases.UNREAD["THE"])  # fmt: skip
    assert [f for table in frames for f in table if not read_notes(f.format(**slots)).grounded] == []


def test_every_place_is_read() -> None:
    corner = {f"{v} {h}": (h, row) for row, names in (("top", ("upper", "top")), ("bottom", ("lower", "bottom")))
              for v in names for h in ("left", "right")}  # fmt: skip
    cases = [(p.format(d=d, h=d.replace(" ", "-")), place) for d, place in corner.items() for p in phrases.CORNERS]
    cases += [(p.format(d=d), (d, None)) for d in ("left", "right") for p in phrases.SIDES]
    cases += [(p.format(d=d, u=u), (None, d)) for d, u in (("top", "upper"), ("bottom", "lower")) for p in phrases.ENDS]
    cases += [(p, ("middle", "middle")) for p in phrases.MIDDLES]
    cases += [(p.format(d="top", u="upper"), (None, "top half")) for p in phrases.HALVES]
    for phrase, place in cases:
        for text in (f"the ship {phrase}", f"the ship {phrase} of the image", f"the ferries {phrase}"):
            query = parse(text, WORDS)
            assert (query.place, query.rest) == (place, ()), (text, query)


def test_what_is_not_read_claims_nothing_else() -> None:
    other = {f.name for f in fields(ParsedExpression)} - {"category", "rest", "definite", "place", "number"}
    for side, texts in phrases.UNREAD.items():
        places = {
            "corner": ("left", "top"),
            "middle": ("middle", "middle"),
            "top": (None, "top"),
            "bottom": (None, "bottom"),
        }
        for phrase in texts:
            text = phrase.format(x="ship", d="upper left")
            query = parse(text if side == "THE" else f"the ship {text}", WORDS)
            assert query.place in (None, places.get(side, (side, None))), text
            assert query.category in ("ship", None) and (query.rest or query.relation or query.place or side == "THE")
            found = {n: getattr(query, n) for n in other if getattr(query, n) is not None}
            assert found in ({}, {"relation": "other"}), (text, found)


def test_one_expression_has_thousands_of_wordings() -> None:
    """2,000 draws of one place give 1,300 wordings and more: a bank of few templates would run out."""
    assert len(said_of("The solar panel in the upper left corner of the image", 2000)) > 1300
    assert len(said_of("The two ships on the left", 1000)) > 500


def test_phrases_that_no_rule_reads_are_said_where_asked() -> None:
    said = said_of("The ship in the middle of the image", 20, unread=1.0)
    unclear = [t for t in said if claims(parse(t, WORDS)) != claims(parse("The ship in the middle", WORDS))]
    assert len(unclear) == len(said) > 5


def test_an_expression_with_unread_words_stays() -> None:
    for text in ("the white ship", "the ship moored at the pier", "the second ship", "zeppelins on the left"):
        assert said_of(text, 5) == {text}
