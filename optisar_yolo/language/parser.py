"""Reading a referring expression: `parse` turns text into a `ParsedExpression`, which holds what the expression claims.

Whether a claim holds for given boxes is decided in `verify`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from optisar_yolo.language.edit import clean
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.vocabulary import (
    FILLERS,
    MODALITY,
    NOUN,
    OF_IMAGE,
    PLACE,
    RELATION,
    SIDE_OF,
    SIZE,
    SUPERLATIVE,
    Place,
    cell_of,
)

_WORD = re.compile(r"[\w'-]+")
# OPT-RSVG's way to say a relation: "There is a bridge, and the ship that needs to be found is located in ... of it".
_OF_IT = re.compile(
    r"there is (?P<reference>an? .+?) ?,? ?and (?P<head>the .+? )that needs to be found "
    r"(?P<relation>is (?:.+? of|(?:located )?(?:above|below))) it",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ParsedExpression:
    """A parsed referring expression: what it claims.

    Attributes:
        category: Noun of the target object, as `Vocabulary.read` gives it ("ship"); None without a known noun.
        modality: "sar", "optical" or None.
        size: "big", "small" or None.
        place: (column, row), column left/middle/right/None and row top/middle/bottom/None; None without a place.
        superlative: left/right/top/bottom/largest/smallest, or None.
        relation: left/right/top/bottom of `reference`; "other" for a relation that is not modelled, or whose reference
            has attributes of its own; None without a relation.
        reference: Noun of the reference object of the relation.
        offset: (column, row) of the target relative to `landmark`, for an "other" relation that has a direction.
        landmark: The words for the reference object of `offset` ("the small bridge in the middle").
        rest: Words that were not parsed, each an unknown claim ("white", "rounded").
        definite: The expression points at one object ("the …", "find the …") rather than mentions one ("a …").
    """

    category: str | None
    modality: str | None = None
    size: str | None = None
    place: Place | None = None
    superlative: str | None = None
    relation: str | None = None
    reference: str | None = None
    offset: Place | None = None
    landmark: str | None = None
    rest: tuple[str, ...] = ()
    definite: bool = False


def _take(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """Return the pattern's first match, and the text with a bar in its place."""
    found = pattern.search(text)
    return found, text if found is None else f"{text[: found.start()]}|{text[found.end() :]}"


def read_place(found: re.Match[str]) -> Place | None:
    """Return (column, row) of a match of `PLACE`; None for a lone direction that is no place ("the left ship")."""
    if found["v"]:
        return found["h"].lower(), SIDE_OF[found["v"].lower()]
    one = (found["mh"] if found["m"] else found["one"]) or ""
    if found["m"] and not one:
        return "middle", "middle"
    return cell_of(SIDE_OF[one.lower()]) if found["prep"] or found["side"] else None


def _offset(found: re.Match[str]) -> Place | None:
    """Return (column, row) of the side that a match of `RELATION` names."""
    if found["diagonal"]:
        row, column = re.split(r"[ -]", found["diagonal"].lower())
        return column, SIDE_OF[row]
    word = found["h"] or found["v"] or found["w"]
    return cell_of(SIDE_OF[word.lower()]) if word else None


@lru_cache(maxsize=1 << 17)
def parse(text: str, vocabulary: Vocabulary = BUILT_IN) -> ParsedExpression:
    """Parse a referring expression into its claims.

    Args:
        text: An English expression, any case.
        vocabulary: The nouns that are read.

    Returns:
        The claims; words that were not understood are in `ParsedExpression.rest`.

    Raises:
        ValueError: The text is empty.
    """
    hidden = vocabulary.hide(clean(text))
    head = hidden.text.rstrip(".?!")
    found = _OF_IT.fullmatch(head)
    if found:
        head = f"{found['head']}{found['relation']} {found['reference']}"
    head = re.sub(r" +", " ", head.replace(",", " "))
    relation = reference = offset = landmark = None
    found = RELATION.search(head)
    if found:
        word = found["h"] or found["v"] or found["w"]
        relation = SIDE_OF[word.lower()] if word else "other"
        head, tail = head[: found.start()], head[found.end() :]
        noun = NOUN.search(tail)
        reference = vocabulary.read(hidden.restore(noun[1])) if noun else None
        # A reference with its own attributes ("the grey bridge in the middle") is more than a category: not modelled.
        others = NOUN.sub(" ", re.sub(OF_IMAGE, " ", tail)).lower()
        if reference is None or set(_WORD.findall(others)) - FILLERS - {"sar", "optical", "radar"}:
            offset = _offset(found) if reference else None
            landmark = hidden.restore(tail.strip()) if offset else None
            relation = "other"
    found, head = _take(SUPERLATIVE, head)
    superlative = None
    if found:
        side = found["most"] or found["near"] or found["far"]
        superlative = SIDE_OF[side.lower()] if side else "largest" if found["big"] else "smallest"
    modality = None
    while True:
        found = MODALITY.search(head)
        if not found:
            break
        modality = "sar" if found["a"] or found["sar"] else "optical"
        head = f"{head[: found.start()]} {head[found.end() :]}"
    head = re.sub(r" +", " ", head).replace("the of the", "the")
    place = None
    found, without = _take(PLACE, head)
    if found:
        place = read_place(found)
        head = without if place else head
    found, head = _take(SIZE, head)
    size = ("big" if found["big"] else "small") if found else None
    found, head = _take(NOUN, head)
    category = vocabulary.read(hidden.restore(found[1])) if found else None
    rest = tuple(hidden.restore(w) for w in _WORD.findall(head.lower()) if w not in FILLERS)
    definite = superlative is not None or bool(re.search(r"\bthe \|", head.lower()))
    return ParsedExpression(
        category, modality, size, place, superlative, relation, reference, offset, landmark, rest, definite
    )
