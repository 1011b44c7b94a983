"""Colours of objects in expressions: "the blue car" is a search for "a car", and a choice by its pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from optisar_yolo.language.vocabulary import COLOUR, COLOUR_WORDS, SHADES

# "all-white", "blue-bodied"; not "white-roofed", which may be said of a part, nor "black-and-white"
_HYPHENED = re.compile(
    r"(?:(?:all|bright|light|dark|pale)-)?(?P<c>\w+?)(?:-(?:bodied|hulled|painted|colou?red))?", re.I
)
# A name, not a colour of the object: "the Red Sea ship", "the white water bridge"
_NAMED = frozenset(
    "sea seas bay river lake ocean water coast island islands valley mountain hill hills beach sand square county "
    "harbor harbour port creek canal star cross flag".split()
)
# How much of a colour, beside those of `SHADES`; with the others the colour is compared, or not the object's.
_FULLY = frozenset("very really quite completely entirely fully wholly totally so pure".split())
_COMPARED = frozenset(
    "more most less least almost nearly barely hardly half partly partially slightly somewhat non un semi "
    "formerly once".split()
)
_DEGREE = re.compile(r"(?:ish|est|er)$")  # "brightest orange", "reddish"


def split_colour(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take the colour out of the adjectives of an object.

    Args:
        words: The adjectives, in their order.

    Returns:
        The colour, one of `COLOUR_WORDS`' values, and the other adjectives. None and all of them where they name no
        colour, several, one that pixels do not tell well ("gray", "reddish"), one that is compared ("the less red
        ship") or one of a name ("the Red Sea ship").
    """
    colours: list[str] = []
    others: list[str] = []
    for i, word in enumerate(words):
        found = _HYPHENED.fullmatch(word)
        colour = COLOUR_WORDS.get(found["c"].lower()) if found else None
        near = {w.lower() for w in words[max(i - 1, 0) : i + 2]} - {word.lower()}
        if colour and (near & _COMPARED or (i + 1 < len(words) and words[i + 1].lower() in _NAMED)):
            return None, list(words)
        if colour:
            while others and _DEGREE.sub("", others[-1].lower()) in SHADES | _FULLY:
                others.pop()
            colours.append(colour)
        elif COLOUR.search(word):
            return None, list(words)
        else:
            others.append(word)
    return (colours[0], others) if len(colours) == 1 else (None, list(words))
