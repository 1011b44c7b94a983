"""How something is asked for changes no claim: every lead-in and every ending with every kind of claim."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import optisar_yolo.language.phrases as phrases
from optisar_yolo.language import (
    BUILT_IN,
    LabelledObjects,
    contrasts,
    flip,
    parse,
    parse_raster_query,
    read_query,
    reword,
    rotate90,
    strip_position,
    swap,
)
from optisar_yolo.language.idioms import split_request
from optisar_yolo.language.met import head_noun

# One of each alternative of the patterns in `idioms`.
LEADS = (
    "", "Find ", "please find me ", "can you locate ", "could you please show us ", "Let's look for ", "mark ",
    "point out ", "zoom in on ", "draw a box around ", "tell me where ", "Where is ", "where's ", "spot ", "see ",
    "I'm looking for ", "we are searching for ", "I can see ", "I need ", "We want to see ", "I'd like to find ",
    "the target is ", "the object: ", "the one I mean is ", "It's ", "that is ", "what about ", "which one is ",
    "what is ", "there's ", "here is ", "do you see ", "ok, ", "Hey, now ", "just ", "only ",
)  # fmt: skip
TAILS = (
    "", ".", "?", " !", " please", ", please.", " thanks", ", thank you!", " for me", " for us, please?", " of all",
    " if you can", ", if possible", " now", " here", " there", " over there", " you can see",
    " that I can see", " which we see here", " can you see?", " is", " is located", " is located here, please",
    " here for me please",
)  # fmt: skip
CLAIMS = (
    "the ship on the left", "the ship at the top", "the ship in the middle", "the ship in the center",
    "the ship in the upper left corner", "the small SAR ship at the lower right", "the bottom right ship",
    "the ship on the right side of the image", "the ship in the left half", "the leftmost ship",
    "the ship closest to the top", "the ship furthest right", "the largest ship", "the second ship from the left",
    "the third largest ship", "the second topmost ship", "the ship to the left of the bridge",
    "the ship above the bridge", "the ship nearest to the bridge", "the red ship", "the two ships on the left",
    "all ships at the bottom", "the ship",
)  # fmt: skip
REQUESTS = list(itertools.product(LEADS, TAILS))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_request_changes_no_claim(claim: str) -> None:
    read, query = parse(claim), read_query(claim)
    for lead, tail in REQUESTS:
        if (lead, claim[:3]) == ("what is ", "all"):
            continue  # no English
        text = f"{lead}{claim}{tail}"
        assert split_request(text) == (lead, claim, tail), text
        assert parse(text) == read, text
        found = read_query(text)
        core = claim if found.core == text else found.core  # read by the network as a whole
        assert (core, found.place, found.superlative, found.ordinal, found.relation, found.amount, found.kind) == (
            query.core, query.place, query.superlative, query.ordinal, query.relation, query.amount, query.kind
        ), text  # fmt: skip
        assert head_noun(text) == head_noun(claim), text


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_request_is_rewritten_as_its_claim(claim: str) -> None:
    def framed(rewritten: str | None) -> str | None:
        return rewritten if rewritten is None else f"{lead}{rewritten}{tail}"

    for lead, tail in REQUESTS:
        text = f"{lead}{claim}{tail}"
        assert [(v.text, v.kind) for v in swap(text)] == [(framed(v.text), v.kind) for v in swap(claim)], text
        assert [v.text for v in contrasts(text)] == [framed(v.text) for v in contrasts(claim)], text
        assert strip_position(text) == framed(strip_position(claim)), text
        assert strip_position(text, superlatives=True) == framed(strip_position(claim, superlatives=True)), text
        for across, down in ((True, False), (False, True), (True, True)):
            assert flip(text, across, down) == framed(flip(claim, across, down)), text
        for turns in (1, -1):
            assert rotate90(text, turns) == framed(rotate90(claim, turns)), text


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_request_is_as_true_as_its_claim(claim: str) -> None:
    boxes = np.array([[5, 5, 15, 12], [60, 60, 90, 95], [40, 45, 55, 60], [5, 80, 20, 95], [70, 10, 80, 20]])
    objects = LabelledObjects(boxes, ["optical ship", "sar ship", "ship", "bridge", "ship"], (100, 100))
    truths = objects.truths(claim)
    for lead, tail in REQUESTS[::7]:
        assert objects.truths(f"{lead}{claim}{tail}") == truths, (lead, tail)


def test_right_now_is_a_side_behind_another_one() -> None:
    assert parse("the ship on the left right now") == parse("the ship on the left")
    assert parse("the ship in the upper right now") == parse("the ship in the upper right")


def test_a_raster_is_searched_for_what_is_meant() -> None:
    for claim in CLAIMS:
        query = parse_raster_query(claim, dict)
        for lead, tail in (("Find ", " for me"), ("I'm looking for ", " here, please"), ("where is ", "?")):
            text = f"{lead}{claim}{tail}"
            found = parse_raster_query(text, dict)
            if query.core == claim:  # decided within each tile, by the network
                assert found.core == text
                continue
            assert found.core[1:] == query.core[1:], claim  # the first letter is a capital where the expression's is
            assert (found.place, found.superlative) == (query.place, query.superlative), claim


FRAMES = (*phrases.THE, *phrases.A)


@pytest.mark.parametrize("place", [*phrases.MIDDLES, *phrases.SIDES, *phrases.ENDS, *phrases.CORNERS])
def test_every_frame_of_the_bank_offers_the_same_exchanges(place: str) -> None:
    place = place.format(d="upper left" if place in phrases.CORNERS else "left" if place in phrases.SIDES else "top",
                         u="upper", h="upper-left")  # fmt: skip
    claim = f"small ship {place}"
    kinds = {v.kind for v in swap(f"the {claim}")}
    assert kinds == {"orientation", "size"}
    for frame in FRAMES:
        text = frame.format(x=claim)
        assert {v.kind for v in swap(text)} == kinds, text
        assert {v.kind for v in swap(reword(text, np.random.default_rng(1), BUILT_IN))} == kinds, text
        assert len(swap(text)) == len(swap(f"the {claim}")), text
        assert strip_position(text) == frame.format(x="small ship"), text
        assert (flip(text, True), flip(text, False, True)) == tuple(
            frame.format(x=flip(claim, *axes)) for axes in ((True, False), (False, True))
        ), text
