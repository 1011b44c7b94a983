"""Which words are about the whole scene, and how they choose among what the tiles found.

A tile does not know where in the scene it lies, nor what others see. So "the leftmost ship" is asked of every tile as
"a ship", which in training means all ships of an image, and of all ships found the leftmost is chosen. What
`parse_query` takes out of an expression is what `select` decides: places (cells of the 3 x 3 grid of `verify`, of the
scene) and extremes (of box centres, or of area). Everything else, size words and relations among it, is read within
each tile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language.compass import has_compass, without_compass
from optisar_yolo.language.parser import CELLS, EXTREME, PLACE, agree, clean, parse, read_place
from optisar_yolo.language.swaps import strip_position
from optisar_yolo.language.verify import LabelledObjects

_RANKS = {"second": 2, "third": 3, "fourth": 4, "fifth": 5, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5}
_RANK = re.compile(rf"\b(?P<rank>{'|'.join(_RANKS)})[ -](?P<extreme>{EXTREME.pattern})", re.IGNORECASE)
_SIDES = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}


@dataclass(frozen=True)
class Query:
    """An expression about a scene.

    Attributes:
        text: As the user said it.
        core: What every tile is asked.
        place: (column, row) of the scene, as in `optisar_yolo.language.parser.Meaning`, or None.
        extreme: left, right, top, bottom, largest or smallest, or None.
        rank: 1 for "the leftmost", 2 for "the second leftmost" …
        note: What the user should know of how the expression was read; may be empty.
    """

    text: str
    core: str
    place: tuple[str | None, str | None] | None = None
    extreme: str | None = None
    rank: int = 1
    note: str = ""


def parse_query(text: str, compass: Callable[[], Mapping[str, str]]) -> Query:
    """Read an expression about a scene.

    Args:
        text: An English expression.
        compass: Says at which side of the image north, east, south and west are; asked only where they are named.

    Raises:
        ValueError: Not an expression, or compass words that mean nothing in this scene.
    """
    text = clean(text)
    asked = without_compass(text, compass()) if has_compass(text) else text
    ranked = _RANK.search(asked)
    rank = _RANKS[ranked["rank"].lower()] if ranked else 1
    if ranked:
        asked = asked[: ranked.start()] + ranked["extreme"] + asked[ranked.end() :]
    said = parse(asked)
    local = f'"{text}" is read within each tile of the scene'
    if said.relation:
        scene_wide = said.place or said.extreme
        return Query(text, asked, note=f"{local}, as it compares with another object" if scene_wide else "")
    core = strip_position(asked, extremes=True)
    if core is None:
        return Query(text, asked, note=f"{local}: without its place nothing would be left to look for")
    extreme = said.extreme or _lone_side(asked)
    if said.extreme in ("largest", "smallest"):
        core = re.sub(r" +", " ", EXTREME.sub("", core)).strip()
    return Query(text, _any(core), said.place, extreme, rank)


def _any(core: str) -> str:
    """Say "a ship" for "the ship": of several ships in a tile all are wanted."""
    return agree(re.sub(r"^(T|t)he ", lambda m: "A " if m[1] == "T" else "a ", core))


def _lone_side(text: str) -> str | None:
    """Return the side in "the left ship": the one further left."""
    found = next((m for m in PLACE.finditer(text) if m["one"] and read_place(m) is None), None)
    return _SIDES[found["one"].lower()] if found else None


def select(
    asked: Query, boxes: NDArray[np.floating], conf: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.intp]:
    """Choose among the objects that were found for a question's core.

    Args:
        asked: The question.
        boxes: [N, 4] xyxy in pixels of the scene, one per object.
        conf: [N] confidences, all sufficient.
        size: (width, height) of the scene in pixels.

    Returns:
        Indices of the objects that the expression is true of, or may be, best first: by the extreme where one is said
        (of those surely in the place, where there are any); otherwise those surely in the place before those at its
        border, then by confidence.
    """
    order = np.argsort(-np.asarray(conf, float), kind="stable")
    if asked.place is not None and len(order):
        scene = LabelledObjects(boxes, None, size)
        phrase = f"the object {CELLS[asked.place]} of the image"
        there = [scene.claims(phrase, int(i))["place"] for i in order]
        sure, unsure = (order[[v is verdict for v in there]] for verdict in (True, None))
        order = sure if asked.extreme and len(sure) else np.concatenate([sure, unsure])
    if asked.extreme is not None:
        x1, y1, x2, y2 = np.asarray(boxes, float)[order].T
        area = (x2 - x1) * (y2 - y1)
        key = {
            "left": x1 + x2, "right": -(x1 + x2), "top": y1 + y2, "bottom": -(y1 + y2), "largest": -area,
            "smallest": area,
        }[asked.extreme]  # fmt: skip
        order = order[np.argsort(key, kind="stable")][asked.rank - 1 :]
    return order
