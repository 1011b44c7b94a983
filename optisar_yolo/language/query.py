"""Expressions about a whole raster: what each tile is searched for, and how its objects are chosen from.

A tile holds neither its place in the raster nor the objects of other tiles. `parse_raster_query` therefore takes place
and superlative out of an expression: every tile is searched for "a ship" when the expression is "the leftmost ship".
`select` then applies them to all objects found: places are cells of the 3 x 3 grid of `verify` over the raster,
superlatives compare box centres or areas. Everything else, sizes and relations included, is decided within each tile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language.compass import has_compass, without_compass
from optisar_yolo.language.edit import agree, clean
from optisar_yolo.language.notes import read_notes
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import parse, read_place
from optisar_yolo.language.swaps import strip_position
from optisar_yolo.language.transform import IDIOM
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.language.vocabulary import ORDINALS, PLACE, SIDE_OF, SUPERLATIVE, Place

_ORDINAL = re.compile(rf"\b(?P<ordinal>{'|'.join(ORDINALS)})[ -](?P<superlative>{SUPERLATIVE.pattern})", re.IGNORECASE)


@dataclass(frozen=True)
class RasterQuery:
    """A parsed expression about a raster.

    Attributes:
        text: The expression.
        core: The expression for the tiles.
        place: (column, row) in the raster, as in `ParsedExpression.place`, or None.
        superlative: left, right, top, bottom, largest or smallest, or None.
        ordinal: 1 for "the leftmost", 2 for "the second leftmost" …
        note: A message to the user about how the expression was read; may be empty.
    """

    text: str
    core: str
    place: Place | None = None
    superlative: str | None = None
    ordinal: int = 1
    note: str = ""


def parse_raster_query(
    text: str, compass: Callable[[], Mapping[str, str]], vocabulary: Vocabulary = BUILT_IN
) -> RasterQuery:
    """Parse an expression about a raster.

    Args:
        text: An English expression.
        compass: Returns the sides of the image where north, east, south and west are. It is called only when the
            expression has compass words.
        vocabulary: The nouns that are read: those of the weights.

    Raises:
        ValueError: Not an expression, or compass words that have no meaning in this raster.
    """
    text = clean(text)
    asked = read_notes(text)
    if not asked.grounded:
        return RasterQuery(text, text, note=f'"{text}": {asked.message(0)}')
    hidden = vocabulary.hide(text)  # the "north pier" of a data set is a name
    core = hidden.restore(without_compass(hidden.text, compass())) if has_compass(hidden.text) else text
    found = _ORDINAL.search(core)
    ordinal = ORDINALS[found["ordinal"].lower()] if found else 1
    if found:
        core = core[: found.start()] + found["superlative"] + core[found.end() :]
    query = parse(core, vocabulary)
    local = f'"{text}" is read within each tile of the raster'
    if query.relation:
        note = f"{local}, as it compares with another object" if query.place or query.superlative else ""
        return RasterQuery(text, core, note=note)
    bare = strip_position(core, superlatives=True, vocabulary=vocabulary)
    if bare is None:
        return RasterQuery(text, core, note=f"{local}: without its place nothing would be left to look for")
    superlative = query.superlative or _lone_side(vocabulary.hide(core).text)
    if query.superlative in ("largest", "smallest"):
        bare = re.sub(r" +", " ", SUPERLATIVE.sub("", bare)).strip()
    # "a ship" for "the ship": all ships of a tile are candidates.
    bare = agree(re.sub(r"^(T|t)he ", lambda m: "A " if m[1] == "T" else "a ", bare))
    return RasterQuery(text, bare, query.place, superlative, ordinal)


def _lone_side(text: str) -> str | None:
    """Return the side in "the left ship", which means the one further left."""
    text = IDIOM.sub(lambda m: "_" * len(m[0]), text)  # "a boat left in the dock" is not on the left
    found = next((m for m in PLACE.finditer(text) if m["one"] and read_place(m) is None), None)
    return SIDE_OF[found["one"].lower()] if found else None


def select(
    query: RasterQuery, boxes: NDArray[np.floating], conf: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.intp]:
    """Select the objects that a query means from those found for its core.

    Args:
        query: The query.
        boxes: [N, 4] xyxy in pixels of the raster, one per object.
        conf: [N] confidences, all above the threshold.
        size: (width, height) of the raster in pixels.

    Returns:
        Indices of the objects of which the query is true or open, best first. Without a superlative, objects certainly
        in the place precede those at its border, and confidence orders each. A superlative orders the objects certainly
        in the place, or those at its border where there are none, and its ordinal skips the first ones.
    """
    order = np.argsort(-np.asarray(conf, float), kind="stable")
    if query.place is not None and len(order):
        objects = LabelledObjects(boxes, None, size)
        inside = [objects.in_place(int(i), query.place) for i in order]
        sure, unsure = (order[[v is truth for v in inside]] for truth in (True, None))
        order = sure if query.superlative and len(sure) else np.concatenate([sure, unsure])
    if query.superlative is not None:
        x1, y1, x2, y2 = np.asarray(boxes, float)[order].T
        area = (x2 - x1) * (y2 - y1)
        key = {
            "left": x1 + x2, "right": -(x1 + x2), "top": y1 + y2, "bottom": -(y1 + y2), "largest": -area,
            "smallest": area,
        }[query.superlative]  # fmt: skip
        order = order[np.argsort(key, kind="stable")][query.ordinal - 1 :]
    return order
