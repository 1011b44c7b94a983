"""Language on all distinct expressions of DIOR-RSVG and OPT-RSVG, which are not part of the repository."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from optisar_yolo.language.parser import parse
from optisar_yolo.language.swaps import has_colour, strip_position, swap
from optisar_yolo.language.transform import flip, rotate90, rotate180

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "captions"
FILES = [FOLDER / f"{data}_RSVG_{split}.json" for data in ("DIOR", "OPT") for split in ("train", "val", "test")]
VOWELS = tuple("aeiou")


@pytest.fixture(scope="module")
def captions() -> list[str]:
    """Return the distinct expressions in order; skip where they are missing."""
    for path in FILES:
        if not path.is_file():
            pytest.skip(f"real expressions are not part of the repository, and {path} does not exist")
    found = {r["phrase"] for path in FILES for r in json.loads(path.read_text(encoding="utf-8"))}
    assert len(found) > 10_000
    return sorted(found)


def plain(text: str) -> str:
    """Say "on the left of the bridge" as turning back says it: "to the left of the bridge"."""
    return re.sub(r"\b(?:on|in|at) the (left|right) of (?!the image)", r"to the \1 of ", text)


def wrong_articles(text: str) -> int:
    """Count a/an that disagree; the data sets' own captions say "A airplane", and keep doing so."""
    pairs = re.findall(r"\b(an?) ([A-Za-z]+)", text, re.IGNORECASE)
    return sum((article.lower() == "an") != word.lower().startswith(VOWELS) for article, word in pairs)


def assert_well_formed(new: str, old: str) -> None:
    assert new and new == new.strip() and "  " not in new, (old, new)
    assert new[0].isupper() == old[0].isupper(), (old, new)
    assert wrong_articles(new) <= wrong_articles(old), (old, new)
    assert not re.search(r"\b(\w+) \1\b", new) or re.search(r"\b(\w+) \1\b", old), (old, new)  # "the the", "of of"
    assert not re.search(r"\b(?:the|an?|of|in|on|at|to|is|and)[.]?$", new), (old, new)
    assert new.count(",") == old.count(",") and new.endswith(".") == old.endswith("."), (old, new)


def test_every_category_is_read_and_most_captions_whole(captions: list[str]) -> None:
    read = [parse(c) for c in captions]
    assert all(query.category for query in read)
    whole = sum(all(has_colour(w) for w in query.rest) for query in read)
    assert whole > 0.6 * len(captions)


def test_mirrors_twice_are_identity_and_a_half_turn_is_both(captions: list[str]) -> None:
    for caption in captions[::2]:
        once = [flip(caption, True), flip(caption, False, True), rotate180(caption)]
        for text, axes in zip(once, ((True, False), (False, True), (True, True)), strict=True):
            if text is not None:
                assert flip(text, *axes) == caption
                if text != caption:
                    assert_well_formed(text, caption)
        if once[0] is not None and once[1] is not None:
            assert flip(once[0], False, True) == flip(once[1], True) == once[2] == rotate90(caption, 2)


def test_quarter_turns_come_back(captions: list[str]) -> None:
    turned = 0
    captions = captions[::4]  # neighbours in the alphabet differ in a word; all of them would take a minute
    for caption in captions:
        once = rotate90(caption)
        assert rotate90(caption, 4) == caption and rotate90(caption, -3) == once
        if once is None:
            continue
        turned += once != caption
        assert rotate90(once, -1) == plain(caption)
        twice = rotate90(once)
        assert twice is not None and twice == plain(rotate180(caption) or ""), (caption, once, twice)
        thrice = rotate90(twice)
        assert thrice is not None and thrice == rotate90(caption, 3) and rotate90(thrice) == plain(caption)
        if once != caption:
            assert_well_formed(once, caption)
            assert parse(once).category == parse(caption).category
    assert turned > 0.5 * len(captions)


def test_a_swap_changes_one_place(captions: list[str]) -> None:
    exchanged = 0
    for caption in captions:
        old = caption.split(" ")
        for text, _ in swap(caption):
            assert text != caption
            assert_well_formed(text, caption)
            new = text.split(" ")
            room = min(len(old), len(new))
            head = next((i for i in range(room) if old[i] != new[i]), room)
            tail = next((i for i in range(room - head) if old[-1 - i] != new[-1 - i]), room - head)
            # One phrase, with the article in front of it: "on the upper left" is the longest of the data sets' own,
            # "is located in the upper right corner" changes two words of many.
            assert len(old) - head - tail <= 6 and len(new) - head - tail <= 6, (caption, text)
            assert head + tail < max(len(old), len(new)), (caption, text)
            exchanged += 1
    assert exchanged > 5 * len(captions)


def test_a_caption_without_its_place_keeps_everything_else(captions: list[str]) -> None:
    stripped = 0
    for caption in captions:
        bare = strip_position(caption)
        if bare is None or bare == caption:
            continue
        stripped += 1
        assert_well_formed(bare, caption)
        query, left = parse(caption), parse(bare)
        assert left.place is None and not re.search(r"\b(?:left|right|top|bottom|upper|lower|middle)\b", bare)
        assert (left.category, left.size, left.relation) == (query.category, query.size, query.relation), (
            caption,
            bare,
        )
        assert has_colour(bare) == has_colour(caption) and strip_position(bare) == bare
    assert stripped > 0.1 * len(captions)
