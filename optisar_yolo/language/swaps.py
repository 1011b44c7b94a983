"""Exchanging one word of an expression, and leaving out its place.

`swap` makes adversarial negatives. `strip_position` leaves the place out, for crops and shifts. `has_colour` finds
colours. Words are matched as whole words, the longest phrase first ("bright" and "along" hold no direction). Letter
case stays, and a/an agrees with the new word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from optisar_yolo.language.edit import REWRITTEN, clean, correct, dress, put
from optisar_yolo.language.idioms import A_LITTLE, NEGATION, split_request
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import parse, read_place
from optisar_yolo.language.transform import IDIOM
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.language.vocabulary import (
    ATTRIBUTES,
    CELLS,
    COLOUR,
    COLOURS,
    HIDDEN_MODALITY,
    NOUN_WORDS,
    NUMBERS,
    OF_IMAGE,
    OPPOSITE,
    ORDINAL_FROM,
    ORDINAL_SUPERLATIVE,
    ORDINAL_WORDS,
    ORDINALS,
    PLACE,
    RELATION,
    SUPERLATIVE,
)

KINDS = ("orientation", "modality", "size", "colour", "number", "relation")


class Variant(NamedTuple):
    """An expression with one word or phrase exchanged, and the kind of that word (one of `KINDS`)."""

    text: str
    kind: str


_HORIZONTAL = ("left", "right")
# Colours that people do not tell apart for certain: neither is swapped for the other.
_ALIKE = {frozenset(p.split()) for p in (
    "blue cyan", "green cyan", "gray white", "orange yellow", "orange red", "orange brown", "pink red", "pink purple",
    "brown red",
)}  # fmt: skip
_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SAR": ("modality", ("optical",)), "radar": ("modality", ("optical",)), "optical": ("modality", ("SAR",)),
    **dict.fromkeys(("large", "big", "huge", "sizeable"), ("size", ("small",))),
    **dict.fromkeys(("small", "little"), ("size", ("big",))), "tiny": ("size", ("large",)),
    "bigger": ("size", ("smaller",)), "larger": ("size", ("smaller",)), "smaller": ("size", ("bigger",)),
    **{c: ("colour", tuple(o for o in COLOURS if o != c and frozenset((c, o)) not in _ALIKE)) for c in COLOURS},
    "grey": ("colour", tuple(o for o in COLOURS if o != "gray" and frozenset(("gray", o)) not in _ALIKE)),
    **{n: ("number", NUMBERS[max(i - 1, 0) : i] + NUMBERS[i + 1 : i + 2]) for i, n in enumerate(NUMBERS)},
    "inside": ("relation", ("outside",)), "outside": ("relation", ("inside",)),
    "in front of": ("relation", ("behind",)), "behind": ("relation", ("in front of",)),
}  # fmt: skip
# "a little smaller": no size of its own
_WORD = re.compile(
    r"\b(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b(?!-| (?:smaller|bigger|larger)\b)", re.IGNORECASE
)
_SEEN_BY = re.compile(rf"\b(?:SAR|radar|optical|{HIDDEN_MODALITY})\b", re.IGNORECASE)
_LOOKUP = {w.lower(): v for w, v in _WORDS.items()}
_DIRECTION = re.compile(r"\b(?:left|right|top|bottom|upper|lower|middle|cent(?:er|re|ral))\b", re.IGNORECASE)
_BEFORE_NOUN = re.compile(rf" {ATTRIBUTES}(?:{NOUN_WORDS})\b", re.IGNORECASE)
# "between the left pier and the right pier", "from top to bottom": each word excludes the exchange of the other.
_BOTH_SIDES = re.compile(
    "|".join(
        rf"\b(?:{a})\b(?: [\w-]+){{0,3}} (?:and|or|to)(?: the)? (?:{b})\b"
        for one, two in (("left", "right"), ("top|upper", "bottom|lower"))
        for a, b in ((one, two), (two, one))
    ),
    re.IGNORECASE,
)
# Words that name nothing: an expression needs another one.
_EMPTY = frozenset("a an the this that there is are one it its".split())


def _inner(found: re.Match[str], group: str, new: str) -> str:
    """Return the match's text with one group replaced."""
    start = found.start(group) - found.start()
    return found[0][:start] + dress(new, found[group]) + found[0][start + len(found[group]) :]


def _diagonals(phrase: str) -> list[str]:
    """Return the three other corners in the words of the phrase: for "top-left" they begin with "top-right"."""
    vertical, gap, side = re.split(r"([ -])", phrase.lower(), maxsplit=1)
    corners = [(v, s) for v in (vertical, OPPOSITE[vertical]) for s in (side, OPPOSITE[side])]
    return [v + gap + s for v, s in corners[1:]]


def _of_superlative(found: re.Match[str]) -> Iterator[Variant]:
    """Yield what can replace a superlative: "leftmost", "closest to the top", "largest"."""
    if found["big"] or found["small"]:
        yield Variant(dress("smallest" if found["big"] else "largest", found[0]), "size")
        return
    if found["low"]:
        yield from (Variant(dress(f"{side}most", found[0]), "orientation") for side in ("top", *_HORIZONTAL))
        return
    group = "most" if found["most"] else "near" if found["near"] else "far"
    word = found[group].lower()
    for new in (OPPOSITE[word], *(("top", "bottom") if word in _HORIZONTAL else _HORIZONTAL)):
        yield Variant(_inner(found, group, new), "orientation")


def _of_ordinal(found: re.Match[str]) -> Iterator[Variant]:
    """Yield what can replace an ordinal and the side that it is counted from."""
    rank, counted = ORDINALS[found["ordinal"].lower()], found.re is ORDINAL_FROM
    for other in (rank - 1, rank + 1):
        if (1 if counted else 2) <= other <= len(ORDINAL_WORDS):
            yield Variant(_inner(found, "ordinal", ORDINAL_WORDS[other - 1]), "number")
    if counted:
        yield Variant(_inner(found, "from", OPPOSITE[found["from"].lower()]), "orientation")


def _of_relation(found: re.Match[str]) -> Iterator[Variant]:
    """Yield what can replace a relation with a direction."""
    texts: list[str] = []
    if found["diagonal"]:
        texts = [_inner(found, "diagonal", d) for d in _diagonals(found["diagonal"])]
    elif found["h"]:
        texts = [_inner(found, "h", OPPOSITE[found["h"].lower()])]
        texts += [dress(("is " if found[0].startswith("is ") else "") + w, found[0]) for w in ("above", "below")]
    elif found["v"]:
        texts = [_inner(found, "v", OPPOSITE[found["v"].lower()])]
    elif found["w"]:
        word = found["w"].lower()
        further = " ".join(OPPOSITE.get(w, w) for w in word.split())
        texts = [_inner(found, "w", further if " " in word else "below" if word == "above" else "above")]
        texts += [dress(f"to the {side} of", found[0]) for side in _HORIZONTAL]
    yield from (Variant(text, "relation") for text in texts)


def _of_place(found: re.Match[str]) -> Iterator[Variant]:
    """Yield what can replace a place: its mirrored wording, then the other cells of the 3 x 3 grid."""
    cell = read_place(found)
    texts: list[str] = []
    same = {cell}
    if found["v"]:
        start = found.start("v") - found.start()
        end = found.end("h") - found.start()
        corner = found[0][start:end]
        if re.fullmatch(r"\w+[ -]\w+", corner):
            texts = [found[0][:start] + dress(d, corner) + found[0][end:] for d in _diagonals(corner)]
            # `texts` has all corners, and the two sides of this corner contain it.
            same |= {(h, v) for h in _HORIZONTAL for v in ("top", "bottom")}
            same |= {(cell[0], None), (None, cell[1])} if cell else set()
    elif found["one"]:
        texts = [_inner(found, "one", OPPOSITE[found["one"].lower()])]
        column, row = cell or (None, None)
        same.add((OPPOSITE.get(column or ""), OPPOSITE.get(row or "")))
    if found["prep"] and cell:
        texts += [dress(phrase, found[0]) for other, phrase in CELLS.items() if other not in same]
    yield from (Variant(text, "orientation") for text in texts)


def _of_word(found: re.Match[str]) -> Iterator[Variant]:
    """Yield what can replace a single word, except for words of the text: not "green and green"."""
    kind, others = _LOOKUP[found[0].lower()]
    for new in others:
        if not re.search(rf"\b{new}\b", found.string):
            yield Variant(dress(new, found[0]), kind)


def _free(found: re.Match[str], taken: Collection[tuple[int, int]]) -> bool:
    """Tell whether a match overlaps no taken span."""
    return all(found.end() <= a or found.start() >= b for a, b in taken)


@lru_cache(maxsize=1 << 15)
def _swaps(text: str, vocabulary: Vocabulary) -> tuple[Variant, ...]:
    """Return all variants of an expression. The words within a noun ("small-vehicle") stay."""
    hidden = vocabulary.hide(text)
    lead, text, tail = split_request(correct(hidden.text))
    taken: list[tuple[int, int]] = [m.span() for p in (IDIOM, _BOTH_SIDES, A_LITTLE) for m in p.finditer(text)]
    taken += [(m.start(), len(text)) for m in [NEGATION.search(text)] if m]  # "not on the right" may be true as well
    variants: list[Variant] = []
    for found in [m for pattern in (ORDINAL_SUPERLATIVE, ORDINAL_FROM) for m in pattern.finditer(text)]:
        if found["ordinal"] and _free(found, taken):
            variants += [Variant(put(text, *found.span(), new), kind) for new, kind in _of_ordinal(found)]
            taken.append(found.span("ordinal"))
            taken += [found.span("from")] if found.re is ORDINAL_FROM else []
    for found in [m for m in _SEEN_BY.finditer(text) if _free(m, taken)] if vocabulary.modalities else ():
        own = parse(hidden.restore(found[0]), vocabulary).modality
        others = [words[0] for name, words in vocabulary.modality_words.items() if name != own]
        variants += [Variant(put(text, *found.span(), word), "modality") for word in others]
        taken.append(found.span())
    rules = ((SUPERLATIVE, _of_superlative), (RELATION, _of_relation), (PLACE, _of_place), (_WORD, _of_word))
    for pattern, replacements in rules:
        for found in [m for m in pattern.finditer(text) if _free(m, taken)]:
            if pattern is RELATION and found["other"]:
                continue  # "inside" and "behind" are single words
            variants += [Variant(put(text, *found.span(), new), kind) for new, kind in replacements(found)]
            taken.append(found.span())
    return tuple(
        Variant(hidden.restore(f"{lead}{v.text}{tail}"), v.kind) for v in dict.fromkeys(variants) if v.text != text
    )


def swap(text: str, kinds: Collection[str] | None = None, vocabulary: Vocabulary = BUILT_IN) -> list[Variant]:
    """Return every variant of an expression with one word or phrase exchanged for another of its kind.

    Args:
        text: An English expression.
        kinds: Which kinds of words to exchange, a subset of `KINDS`; None: all.
        vocabulary: The nouns, whose words are not exchanged.

    Returns:
        Variants without repeats, never the expression itself; empty when nothing in it can be exchanged.

    Raises:
        ValueError: An unknown kind, or an empty expression.
    """
    unknown = set(kinds or ()) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds {sorted(unknown)}; choose from {', '.join(KINDS)}")
    return [v for v in _swaps(clean(text, REWRITTEN), vocabulary) if kinds is None or v.kind in kinds]


def has_colour(text: str) -> bool:
    """Tell whether an expression names a colour, white, gray and black included: then the image's hue must stay."""
    return bool(COLOUR.search(clean(text, REWRITTEN)))


def truths_of_variant(
    variant: Variant, text: str, owners: Collection[int], objects: LabelledObjects
) -> list[bool | None]:
    """Tell of which objects a variant of an expression is true, as far as boxes and expression prove it.

    Boxes hold neither colours nor numbers, but the expression does: the variant "the blue car" of "the red car" is
    false of the red car. That holds for the target's own colour. A landmark may have a twin of another colour.

    Args:
        variant: A variant of the expression.
        text: An expression that is true of its owners.
        owners: Indices of the objects that the expression means.
        objects: All labelled objects of the image.

    Returns:
        The truth for each object.
    """
    truths = objects.truths(variant.text)
    queries = [parse(t, objects.vocabulary) for t in (variant.text, text)]
    # "the three largest ships" is true of the two largest ones
    words = {(query.rest, query.number if not query.superlative else None) for query in queries}
    if variant.kind in ("colour", "number") and len(words) > 1:
        for i in owners:
            truths[i] = False
    return truths


@lru_cache(maxsize=1 << 15)
def strip_position(text: str, superlatives: bool = False, vocabulary: Vocabulary = BUILT_IN) -> str | None:
    """Return an expression without its place in the image, for crops and shifts that change the place.

    Args:
        text: An English expression.
        superlatives: Leave out "leftmost" and "closest to the top" too; "largest" stays. These words compare objects: a
            shift keeps them true, and a crop does where it keeps all objects of the category.
        vocabulary: The nouns, whose words are no place ("top hat").

    Returns:
        "A small ship" for "A small ship in the upper left corner of the image"; the expression itself where it has no
        place; None where nothing would be left, or where the place belongs to another object ("The ship to the left of
        the bridge in the middle").
    """
    hidden = vocabulary.hide(clean(text, REWRITTEN))
    lead, text, tail = split_request(correct(hidden.text))
    most = [m for m in SUPERLATIVE.finditer(text) if not (m["big"] or m["small"])]
    kept = [m.span() for m in IDIOM.finditer(text)] + [m.span() for m in most]
    related = [m.span() for m in RELATION.finditer(text)]
    places = [m for m in PLACE.finditer(text) if _free(m, kept + related)]
    holes = [m for m in places if _is_place(m)] + (most if superlatives else [])
    if not holes and not places:
        return hidden.restore(f"{lead}{text}{tail}")
    if related or not holes or NEGATION.search(text):
        return None
    for found in sorted(holes, key=lambda m: -m.start()):
        text = _without(text, found.start(), found.end())
    text = re.sub(r"(?<!^There)(?<!there) is$", "", text.strip(" ,"), flags=re.IGNORECASE)
    left = _DIRECTION.search(text) is not None and not (most and not superlatives)
    empty = set(re.findall(r"[\w'-]+", text.lower())) <= _EMPTY
    return None if left or empty else hidden.restore(f"{lead}{text}{tail}")


def _is_place(found: re.Match[str]) -> bool:
    """Tell a place ("on the left", "the left ship") from another direction ("facing left", "the right wing")."""
    known = read_place(found) and (found["prep"] or found["side"] or found["v"])
    return bool(known or _BEFORE_NOUN.match(found.string, found.end()))


def _without(text: str, start: int, end: int) -> str:
    """Return the text without a phrase and the "of the image" after it; the article agrees with the next word."""
    behind = re.match(rf" ?{OF_IMAGE}", text[end:], re.IGNORECASE)
    if behind:
        # "of the SAR image" says more than the place
        modality = _SEEN_BY.search(behind[0])
        kept = f" in the {behind[0].lstrip().split(' ', 2)[2]}" if modality else ""
        text = text[:end] + kept + text[end + behind.end() :]
    following = re.match(r" ([\w-]+)", text[end:])
    if following:
        return put(text, start, end + following.end(), following[1])
    return text[:start].rstrip() + text[end:]
