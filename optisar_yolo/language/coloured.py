"""Colours of objects in expressions: "the blue car" is a search for "a car", and a choice by its pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from optisar_yolo.language.vocabulary import COLOUR, COLOUR_WORDS, SHADES

# "all-white", "blue-bodied"; not "white-roofed", which may be said of a part, nor "black-and-white"
_HYPHENED = re.compile(
    r"(?:(?:all|bright|light|dark|pale)-)?(?P<c>\w+?)(?:-(?:bodied|hulled|painted|colou?red))?", re.I
)
_DEGREE = re.compile(r"(?:ish|est|er)$")  # "brightest orange", "reddish"


def split_colour(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take the colour out of the adjectives of an object.

    Args:
        words: The adjectives, in their order.

    Returns:
        The colour, one of `COLOUR_WORDS`' values, and the other adjectives. None and all of them where they name no
        colour, several, or one that pixels do not tell well ("gray", "reddish").
    """
    colours: list[str] = []
    others: list[str] = []
    for word in words:
        found = _HYPHENED.fullmatch(word)
        colour = COLOUR_WORDS.get(found["c"].lower()) if found else None
        if colour:
            while others and _DEGREE.sub("", others[-1].lower()) in SHADES:
                others.pop()
            colours.append(colour)
        elif COLOUR.search(word):
            return None, list(words)
        else:
            others.append(word)
    return (colours[0], others) if len(colours) == 1 else (None, list(words))
