"""Queries about rasters, which are searched in tiles: what a tile cannot tell is taken out of the expression."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from optisar_yolo.language.compass import has_compass, without_compass
from optisar_yolo.language.edit import REWRITTEN, agree, clean
from optisar_yolo.language.idioms import split_request
from optisar_yolo.language.notes import read_notes
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import parse, read_place
from optisar_yolo.language.query import ObjectQuery, in_words, read_query
from optisar_yolo.language.query_words import BETWEEN, FURTHEST, NEAREST
from optisar_yolo.language.swaps import strip_position
from optisar_yolo.language.transform import IDIOM
from optisar_yolo.language.vocabulary import PLACE, SIDE_OF, SUPERLATIVE


def parse_raster_query(
    text: str, compass: Callable[[], Mapping[str, str]], vocabulary: Vocabulary = BUILT_IN
) -> ObjectQuery:
    """Read an expression about a raster, which is searched in tiles.

    A tile holds neither its place in the raster nor the objects of other tiles. Places, superlatives, ordinals, sets
    and distances to other kinds are therefore taken out of the expression, and applied to the objects of the whole
    raster. Everything else, sizes and sides of other objects included, is decided within each tile.

    Args:
        text: An English expression.
        compass: Returns the sides of the image where north, east, south and west are. It is called only when the
            expression has compass words.
        vocabulary: The nouns that are read: those of the weights.

    Raises:
        ValueError: Not an expression, or compass words that have no meaning in this raster.
    """
    text = clean(text, REWRITTEN)
    asked = read_notes(text)
    if not asked.grounded:
        return ObjectQuery(text, text, note=f'"{text}": {asked.message(0)}')
    hidden = vocabulary.hide(text)  # the "north pier" of a data set is a name
    whole = hidden.restore(without_compass(hidden.text, compass())) if has_compass(hidden.text) else text
    query = read_query(whole, vocabulary)
    alone = f'"{text}": in a raster the network alone reads the colour, not its pixels' if query.coloured else ""
    query = in_words(query)
    if query.reasoned and query.relation in (None, NEAREST, FURTHEST, BETWEEN):
        core = query.core[0].upper() + query.core[1:] if text[0].isupper() else query.core
        return replace(query, text=text, core=core, note=alone)
    parsed = parse(whole, vocabulary)
    local = f'"{text}" is read within each tile of the raster'
    if parsed.relation:
        note = f"{local}, as it compares with another object" if parsed.place or parsed.superlative else alone
        return ObjectQuery(text, whole, note=note)
    body = _meant(whole, vocabulary)
    bare = strip_position(body, superlatives=True, vocabulary=vocabulary)
    if bare is None:
        return ObjectQuery(text, whole, note=f"{local}: without its place nothing would be left to look for")
    superlative = parsed.superlative or _lone_side(vocabulary.hide(body).text)
    if parsed.superlative in ("largest", "smallest"):
        bare = re.sub(r" +", " ", SUPERLATIVE.sub("", bare)).strip()
    # "a ship" for "the ship": all ships of a tile are candidates.
    bare = agree(re.sub(r"^(T|t)he ", lambda m: "A " if m[1] == "T" else "a ", bare))
    kind = "superlative" if superlative else "place" if parsed.place else "category"
    return ObjectQuery(text, bare, parsed.place, superlative, note=alone, kind=kind)


def _meant(text: str, vocabulary: Vocabulary) -> str:
    """Return an expression without the words that only ask for it."""
    hidden = vocabulary.hide(text)
    body = split_request(hidden.text).body
    return hidden.restore(body[:1].upper() + body[1:] if text[0].isupper() else body)


def _lone_side(text: str) -> str | None:
    """Return the side in "the left ship", which means the one further left."""
    text = IDIOM.sub(lambda m: "_" * len(m[0]), text)
    found = next((m for m in PLACE.finditer(text) if m["one"] and read_place(m) is None), None)
    return SIDE_OF[found["one"].lower()] if found else None
