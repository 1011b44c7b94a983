"""Compass words become words of the image, which the network and the parser understand.

"The northernmost ship in the south-east" is "the topmost ship in the lower right" of a north-up raster, and "the
bottommost ship in the upper right" of a raster that is stored upside down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from optisar_yolo.language.edit import dress
from optisar_yolo.language.vocabulary import NOT_IMAGE, RELATIONS, UP_DOWN, UPPER_LOWER

# "running north-south" names a line, not a place
_D = (
    r"(?<!north-)(?<!south-)(?<!east-)(?<!west-)"
    r"(?:(?P<ns>north|south)[ -]?(?P<ew>east|west)|(?P<one>north|south|east|west))"
    r"(?!-(?:north|south|east|west))(?:ern|erly)?"
)
_PART = r"(?:corner|side|part|area|region|section|portion|edge|end|half|quarter|sector|zone)"
_EDGE = r"(?:edge|side|border)"
_MOST = re.compile(rf"\b{_D}[ -]?most\b", re.IGNORECASE)
_NEAR = re.compile(rf"\b(?P<near>(?:closest|nearest)(?: to)?) the {_D}\b(?: {_EDGE})?", re.IGNORECASE)
_FAR = re.compile(rf"\b(?P<far>furthest|farthest)(?: to the| to| towards? the)? {_D}\b", re.IGNORECASE)
_OF = re.compile(
    rf"\b(?:(?:located |lying )?(?:to|on|at|in) the )?(?:far )?{_D}(?: side)? of\b{NOT_IMAGE}", re.IGNORECASE
)
_FACING = re.compile(
    rf"\b(?P<verb>facing|heading|headed|pointing|pointed|oriented)(?: to| towards?)?(?: the)? {_D}(?:wards?)?\b",
    re.IGNORECASE,
)
_IN = re.compile(
    rf"\b(?P<prep>in|at|on|near|within|to) the (?:far |very )?{_D}\b(?:[ -](?P<part>{_PART})\b)?", re.IGNORECASE
)
_PLAIN = re.compile(rf"\b{_D}\b", re.IGNORECASE)
_PART_OF = {"half": "part", "quarter": "part", "sector": "part"}  # words that the parser does not know


def has_compass(text: str) -> bool:
    """Tell whether an expression holds compass words."""
    return any(p.search(text) for p in (_MOST, _PLAIN))


def without_compass(text: str, compass: Mapping[str, str]) -> str:
    """Replace compass words by words of the image.

    Args:
        text: An English expression.
        compass: The side of the image (top, bottom, left, right) where north, east, south and west are.

    Returns:
        The expression without compass words.

    Raises:
        ValueError: A superlative with two directions: "the north-easternmost".
    """

    def sides(found: re.Match[str]) -> tuple[str, str]:
        """Return the vertical and the horizontal side, or one side and an empty string."""
        if found["one"]:
            return compass[found["one"].lower()], ""
        a, b = compass[found["ns"].lower()], compass[found["ew"].lower()]
        return (a, b) if a in UPPER_LOWER else (b, a)

    def corner(found: re.Match[str]) -> str:
        vertical, side = sides(found)
        return f"{UPPER_LOWER[vertical]} {side}" if side else vertical

    def single(found: re.Match[str]) -> str:
        side, more = sides(found)
        if more:
            raise ValueError(f"\"{text}\": '{found[0]}' has two directions; say northernmost, or easternmost")
        return side

    def place(found: re.Match[str]) -> str:
        first, more = sides(found)
        part = (found["part"] or "").lower()
        if not (more or part):
            return f"at the {first}" if first in UPPER_LOWER else f"on the {first}"
        prep = "in" if found["prep"].lower() == "to" else found["prep"].lower()
        return f"{prep} the {corner(found)} {_PART_OF.get(part, part)}".rstrip()

    def beside(found: re.Match[str]) -> str:
        first, more = sides(found)
        return f"to the {corner(found)} of" if more else RELATIONS[first][0]

    def towards(found: re.Match[str]) -> str:
        side = corner(found)
        return f"{found['verb']} {UP_DOWN.get(side, side)}"

    steps = (
        (_MOST, lambda m: f"{single(m)}most"),
        (_NEAR, lambda m: f"{m['near']} the {single(m)} edge"),
        (_FAR, lambda m: f"{m['far']} to the {single(m)}"),
        (_OF, beside),
        (_FACING, towards),
        (_IN, place),
        (_PLAIN, corner),
    )
    for pattern, say in steps:
        text = pattern.sub(lambda m, say=say: dress(say(m), m[0]), text)  # type: ignore[misc]
    return text
