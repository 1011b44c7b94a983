"""Reading a referring expression: `parse` turns text into a `ParsedExpression`, which holds what the expression claims.

Whether a claim holds for given boxes is decided in `verify`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from optisar_yolo.language.edit import REWRITTEN, clean, correct
from optisar_yolo.language.idioms import (
    A_LITTLE,
    CONTINUES,
    IDLE,
    IN_GROUP,
    NEGATION,
    NO_NOUN,
    OF_NOUN,
    OTHER_KIND,
    PREPOSITIONS,
    split_request,
)
from optisar_yolo.language.nouns import BUILT_IN, Hidden, Vocabulary
from optisar_yolo.language.vocabulary import (
    BESIDE_CENTRE,
    DISTANCE,
    FILLERS,
    HALF,
    HALVES,
    HIDDEN_MODALITY,
    MODALITY,
    NOUN,
    OF_IMAGE,
    ORDINAL_FROM,
    ORDINAL_SUPERLATIVE,
    ORDINALS,
    PLACE,
    RELATION,
    SET,
    SIDE_OF,
    SIZE,
    SUPERLATIVE,
    Place,
    cell_of,
    count_of,
    superlative_of,
)

_WORD = re.compile(r"[\w'-]+")
# What may stand before a place without a preposition of its own: "along the left edge", not "reaches the top edge".
_AT = re.compile(rf"(?:^|[^\w ] ?|\b(?:{PREPOSITIONS}) )(?:the )?$", re.IGNORECASE)
# Where a distance or a count starts: "closest to the middle", "fourth from the top right".
_FROM = re.compile(
    r"\b(?:from|(?:closest|nearest|furthest|farthest)(?: away)?(?: to(?:wards?)?| from)?)(?: the)? $", re.IGNORECASE
)
# What follows belongs to another object: "infields that have grass in the middle", "closest to the woods on the right".
_OTHERS = re.compile(
    r"\b(?:have|has|having|whose|near(?:er|est)|clos(?:er|est)|f[ua]rthe(?:r|st))\b|\bfrom\b.* to(?: the)? $"
    # "toward the jet bridges on the right", "fed by the road at the bottom"
    r"|\b(?:towards?|against|facing|from|by) (?:the|an?)"
    r" (?!(?:far |very )?(?:left|right|top|bottom|upper|lower)\b)[^\W_][^,|]*$",
    re.IGNORECASE,
)
# "crane on the dock", "end of the runway": the noun behind these words is not the object. It is in "one of the ships".
_LANDMARK = re.compile(
    r"\b(?:in|on|at|near|by|off|from(?! the (?:left|right|top|bottom)\b)|along|under|over|across|through|against|onto"
    r"|into|towards?|(?:nearest|closest|nearer|closer)(?: to)?)\b",
    re.IGNORECASE,
)
_AT_THE = re.compile(rf"{_LANDMARK.pattern} the $", re.IGNORECASE)
_OF = re.compile(r"(\w+) of\b(?!.*\bof\b)", re.IGNORECASE)
_NO_MEMBER = frozenset("end tip side part edge corner middle center centre head full roof top bottom front".split())
# OPT-RSVG's way to say a relation: "There is a bridge, and the ship that needs to be found is located in ... of it".
_OF_IT = re.compile(
    r"there is (?P<reference>an? .+?) ?,? ?and (?P<head>the .+? )that needs to be found "
    r"(?P<relation>is (?:.+? of|(?:located )?(?:above|below))) it",
    re.IGNORECASE,
)


# Where the words for the reference of a relation end: "the upper row, between its last two ships" is no ship.
_ASIDE = re.compile(
    r"[,;:(]|\b(?:in|on|at|near|by|off|from|along|under|over|across|through|against|into|towards?|with|that|which|whose"
    r"|between|behind|beside|next|above|below|left|right|where|closest|nearest)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ParsedExpression:
    """A parsed referring expression: what it claims.

    Attributes:
        category: Noun of the target object, as `Vocabulary.read` gives it ("ship"); None without a known noun.
        modality: "sar", "optical", one that the vocabulary declares, or None.
        size: "big", "small" or None.
        place: (column, row), column left/middle/right/None and row top/middle/bottom/None; "left half" and the like for
            a half of the image; None without a place.
        superlative: left/right/top/bottom/largest/smallest, or None.
        relation: left/right/top/bottom of `reference`, or nearest/furthest of all from it; "other" for a relation that
            is not modelled, or whose reference has attributes of its own; None without a relation.
        reference: Noun of the reference object of the relation.
        offset: (column, row) of the target relative to `landmark`, for an "other" relation that has a direction.
        landmark: The words for the reference object of `offset` ("the small bridge in the middle").
        rest: Words that were not parsed, each an unknown claim ("white", "rounded").
        definite: The expression points at one object ("the …", "find the …") rather than mentions one ("a …").
        ordinal: Rank from the superlative's end, from 2: 2 for "the second leftmost" and for "second from the left".
        number: How many objects the expression means: None for one, a number for exactly so many ("the two ships"),
            "all" for all of which its claims are true ("all ships", "the ships at the top", "every ship").
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
    ordinal: int | None = None
    number: int | Literal["all"] | None = None


def _take(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """Return the pattern's first match, and the text with a bar in its place."""
    found = pattern.search(text)
    return found, text if found is None else f"{text[: found.start()]}|{text[found.end() :]}"


def read_place(found: re.Match[str]) -> Place | None:
    """Return (column, row) of a match of `PLACE`.

    None for a direction that is no place in the image: "the left ship", "on the right bank of the river", "closest to
    the middle", "from the upper left", "a wake that reaches the top edge", "in the left half" (which is no third).
    """
    before, behind = found.string[: found.start()], found.string[found.end() :]
    following = re.match(r"[ -]([A-Za-z]\w*)", behind)
    if found["prep"] and following and not CONTINUES.fullmatch(following[1]):
        return None
    if not found["prep"] and (_FROM.search(before) or (found["side"] and not _AT.search(before))):
        return None
    if not found["prep"] and (re.match(r" (?:ones? )?of\b", behind) or (found["v"] and IN_GROUP.match(behind))):
        return None  # "the upper right one of the two ships", "the top right plane in the row"
    if found["v"]:
        return found["h"].lower(), SIDE_OF[found["v"].lower()]
    one = (found["mh"] if found["m"] else found["one"]) or ""
    if found["m"] and not one:
        exact = found["prep"] or found["side"] or before.endswith("dead ")
        return ("middle", "middle") if exact else None
    return cell_of(SIDE_OF[one.lower()]) if found["prep"] or found["side"] else None


def _offset(found: re.Match[str]) -> Place | None:
    """Return (column, row) of the side that a match of `RELATION` names."""
    if found["diagonal"]:
        row, column = re.split(r"[ -]", found["diagonal"].lower())
        return column, SIDE_OF[row]
    word = found["h"] or found["v"] or found["w"]
    return cell_of(SIDE_OF[word.lower()]) if word else None


def _is_landmark(before: str) -> bool:
    """Tell from the words before a noun whether it names a landmark: "the crane on the dock", not "zoom in on the"."""
    before = re.sub(OF_IMAGE, " ", before, flags=re.IGNORECASE)
    last = _OF.search(before)
    if last and last[1].lower() not in _NO_MEMBER:
        return False
    found = _LANDMARK.search(before) or last
    return found is not None and bool(set(_WORD.findall(before[: found.start()].lower())) - FILLERS)


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
    hidden = vocabulary.hide(clean(text, REWRITTEN))
    head = split_request(correct(hidden.text)).body
    found = _OF_IT.fullmatch(head)
    if found:
        head = f"{found['head']}{found['relation']} {found['reference']}"
    head = re.sub(r"[ ,]*, *", ", ", re.sub(r" +", " ", head)).strip(" ,")
    head = NO_NOUN.sub(lambda m: re.sub(r"\bport\b", "portside", m[0], flags=re.IGNORECASE), head)
    negated = ""
    found = NEGATION.search(head)
    if found:
        head, negated = head[: found.start()], head[found.start() :]
    relation = reference = offset = landmark = None
    head, half, about = _beside_centre(head)
    found = RELATION.search(head)
    compared = _distance(head[: found.start()] if found else head)
    if compared:
        head, relation, word = compared
        reference, found = vocabulary.read(hidden.restore(word)), None
    if found:
        word = found["h"] or found["v"] or found["w"]
        relation = SIDE_OF[word.lower()] if word else "other"
        head, tail = head[: found.start()], head[found.end() :]
        noun = _noun(_ASIDE.split(tail, maxsplit=1)[0])
        reference = vocabulary.read(hidden.restore(noun[1])) if noun else None
        # A reference with its own attributes ("the grey bridge in the middle") is more than a category: not modelled.
        others = re.sub(HIDDEN_MODALITY, " ", NOUN.sub(" ", re.sub(OF_IMAGE, " ", tail)).lower())
        if reference is None or set(_WORD.findall(others)) - FILLERS - {"sar", "optical", "radar"}:
            offset = _offset(found) if reference else None
            landmark = hidden.restore(tail.strip()) if offset else None
            relation = "other"
    head, superlative, ordinal = _superlative(head)
    modality = None
    while True:
        found = MODALITY.search(head)
        if not found:
            break
        own = found["c"] or found["own"]
        modality = "optical" if found["b"] or found["opt"] else "sar"
        modality = vocabulary.read_modality(hidden.restore(own)) if own else modality
        head = f"{head[: found.start()]} {head[found.end() :]}"
    head = re.sub(r" +", " ", head).replace("the of the", "the")
    found, head = _take(HALF, head)
    place = HALVES[SIDE_OF[found["half"].lower()]] if found else None
    for found in () if place else PLACE.finditer(head):
        place = None if _OTHERS.search(head[: found.start()]) else read_place(found)
        if place:
            head = f"{head[: found.start()]}|{head[found.end() :]}"
            break
    if half != (None, None) and place != ("middle", "middle"):
        column, row = place or (None, None)
        place = column or half[0], row or half[1]
    size = None
    head = A_LITTLE.sub("", head)
    found, without = _take(SIZE, head)
    if found and not _is_landmark(head[: found.start()]):
        size = "big" if found["big"] else "small"
        head = without
    found, category, number = _noun(head), None, None
    if found and not _is_landmark(head[: found.start()]):
        category = vocabulary.read(hidden.restore(found[1]))
        before, number = _number(
            head[: found.start()], len(found[0]) > len(found[1]) or _plural(found, hidden, vocabulary)
        )
        head = f"{before}|{head[found.end() :]}"
    words = _WORD.findall(f"{head} {about} {negated}".lower())
    rest = tuple(hidden.restore(w) for w in words if w not in FILLERS and w not in IDLE)
    definite = superlative is not None or bool(re.search(r"\bthe \|", head.lower()))
    return ParsedExpression(
        category, modality, size, place, superlative, relation, reference, offset, landmark, rest, definite, ordinal,
        number,
    )  # fmt: skip


def _noun(text: str) -> re.Match[str] | None:
    """Find the noun of an object: "dock" of "a boat dock"; none in "a boat ramp", "the ship's wake", "a jet bridge"."""
    found = next((m for m in NOUN.finditer(text) if not OTHER_KIND.search(text[: m.end()])), None)
    while found and (compound := NOUN.match(text, found.end() + 1)) and text[found.end()] == " ":
        found = compound
    return None if found is None or OF_NOUN.match(text, found.end()) else found


def _beside_centre(head: str) -> tuple[str, Place, str]:
    """Read "right of the middle" as the right half of the image.

    Returns:
        The text with a bar in place of these words, the (column, row) that they say, and the words that say how far.
        "Just" and "slightly" are no claim that boxes prove.
    """
    column = row = None
    about = ""
    while found := BESIDE_CENTRE.search(head):
        relation = RELATION.search(head)
        if relation and relation.start() < found.start() or _OTHERS.search(head[: found.start()]):
            break  # of another object: "the ship above the pier left of the centre"
        column = f"{found['h'].lower()} half" if found["h"] else column
        vertical = found["up"] or found["v"] or found["w"]
        row = f"{SIDE_OF[vertical.lower()]} half" if vertical else row
        about += found["about"]
        head = f"{head[: found.start()]}|{head[found.end() :]}"
    return head, (column, row), about


def _superlative(head: str) -> tuple[str, str | None, int | None]:
    """Read a superlative and its ordinal: the text with a bar in their place, the superlative and the ordinal."""
    found = SUPERLATIVE.search(head)
    # "a car near the largest ship" is not the largest
    if found and not (_AT_THE.search(head[: found.start()]) and _is_landmark(head[: found.start()])):
        superlative = superlative_of(found)
        ranked = ORDINAL_SUPERLATIVE.search(head)
        start = ranked.start() if ranked and ranked.end() == found.start() else found.start()
        ordinal = ORDINALS[ranked["ordinal"].lower()] if ranked and start < found.start() else 1
        return f"{head[:start]}|{head[found.end() :]}", superlative, ordinal if ordinal > 1 else None
    found = ORDINAL_FROM.search(head)
    if not found or (found["from"] and _is_landmark(head[: found.start()])):
        return head, None, None
    side, word = (found["from"], found["ordinal"]) if found["from"] else (found["start"], found["nth"])
    kept = found["between"] if found["from"] else found["head"].rstrip()
    ordinal = ORDINALS[word.lower()]
    text = f"{head[: found.start()].rstrip()} {(kept or '').strip()} | {head[found.end() :]}"
    return re.sub(r" +", " ", text), SIDE_OF[side.lower()], ordinal if ordinal > 1 else None


def _distance(head: str) -> tuple[str, str, str] | None:
    """Read "nearest to the bridge": the words before it, the relation and the reference noun; None for anything else.

    A reference with attributes of its own ("the old bridge"), and one that is no category, are not modelled.
    """
    found = DISTANCE.search(head)
    if not found or _is_landmark(head[: found.start()]):
        return None
    tail = re.sub(OF_IMAGE, " ", head[found.end() :], flags=re.IGNORECASE)
    noun = NOUN.search(tail)
    if noun is None or set(_WORD.findall(NOUN.sub(" ", tail, count=1).lower())) - FILLERS - {"sar", "optical", "radar"}:
        return None
    kept = found["a"] if found["near"] else found["b"]
    return f"{head[: found.start()]} {(kept or '').strip()}", "nearest" if found["near"] else "furthest", noun[1]


def _plural(found: re.Match[str], hidden: Hidden, vocabulary: Vocabulary) -> bool:
    """Tell whether a match of `NOUN` that stands for a noun of the data set is a plural of it."""
    written = hidden.restore(found[1])
    return written != found[1] and vocabulary.is_plural(written)


def _number(before: str, plural: bool) -> tuple[str, int | Literal["all"] | None]:
    """Read from the words before the noun how many objects are meant; return the other ones of these words, too."""
    lead = re.match(r"[\s,:|]*", before)
    start = lead.end() if lead else 0
    found = SET.match(before[start:])
    if found is None:
        return before, None
    others = before[start + found.end() :].lower()
    every = (found["all"] or "").lower()
    if every and found["number"]:
        others = re.sub(r"^ of (?:the|these|those)\b", "", others)  # "all three of the ships"
    if re.match(r"[-\w]", others) or re.search(r"\b(?:of|from|than|in|on|at|near|by|with|an?|one|this|that)\b", others):
        return before, None  # "two of the ships", "one", "the two-lane bridge"
    number: int | Literal["all"] | None = None
    if found["number"]:
        number = count_of(found["number"])
        if number < 2:
            return before, None
    elif found["pair"] or every == "both":
        number = 2
    elif plural or every:
        number = "all"
    # "aircraft" is its own plural, and "every ship" needs none
    if number is None or not (plural or every or found["number"] or found["pair"]):
        return before, None
    return f"{before[:start]}the {others.lstrip()}", number
