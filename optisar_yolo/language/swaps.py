"""The one home of direction, size, modality and colour words.

Here: exchanging one word (`swap`, for adversarial negatives), leaving the place out (`strip_position`) and finding
colours (`has_colour`). The vocabulary and its reading are in `parse`, mirroring and turning a caption
with its image in `transform`, saying it otherwise in `paraphrase`, truth against boxes in
`verify`; all public names can be imported from here. Words are matched as whole words, the longest phrase
first ("bright" and "along" hold no direction); letter case is kept and a/an follows the new word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from optisar_yolo.language.parser import (
    ATTRIBUTES,
    CELLS,
    EXTREME,
    NOUN_WORDS,
    OF_IMAGE,
    PLACE,
    RELATION,
    clean,
    dress,
    parse,
    put,
    read_place,
)
from optisar_yolo.language.transform import IDIOM
from optisar_yolo.language.verify import LabelledObjects

KINDS = ("orientation", "modality", "size", "colour", "number", "relation")


class Variant(NamedTuple):
    """A caption with one word or phrase exchanged, and the kind of the exchanged word (one of `KINDS`)."""

    text: str
    kind: str


_HORIZONTAL = ("left", "right")
_OPPOSITE = {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper",
    "leftmost": "rightmost", "rightmost": "leftmost", "up": "down", "down": "up",
}  # fmt: skip
_COLOURS = ("red", "green", "blue", "white", "black", "gray", "yellow", "orange", "brown", "purple", "cyan", "pink")
# Too near to each other for one to be false where the other is true.
_NEAR = {frozenset(p.split()) for p in (
    "blue cyan", "green cyan", "gray white", "orange yellow", "orange red", "orange brown", "pink red", "pink purple",
    "brown red",
)}  # fmt: skip
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SAR": ("modality", ("optical",)), "radar": ("modality", ("optical",)), "optical": ("modality", ("SAR",)),
    **dict.fromkeys(("large", "big", "huge", "sizeable"), ("size", ("small",))),
    **dict.fromkeys(("small", "little"), ("size", ("big",))), "tiny": ("size", ("large",)),
    "bigger": ("size", ("smaller",)), "larger": ("size", ("smaller",)), "smaller": ("size", ("bigger",)),
    **{c: ("colour", tuple(o for o in _COLOURS if o != c and frozenset((c, o)) not in _NEAR)) for c in _COLOURS},
    "grey": ("colour", tuple(o for o in _COLOURS if o != "gray" and frozenset(("gray", o)) not in _NEAR)),
    **{n: ("number", _NUMBERS[max(i - 1, 0) : i] + _NUMBERS[i + 1 : i + 2]) for i, n in enumerate(_NUMBERS)},
    "inside": ("relation", ("outside",)), "outside": ("relation", ("inside",)),
    "in front of": ("relation", ("behind",)), "behind": ("relation", ("in front of",)),
}  # fmt: skip
# "a little smaller": no size of its own
_WORD = re.compile(
    r"\b(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b(?!-| (?:smaller|bigger|larger)\b)", re.IGNORECASE
)
_LOOKUP = {w.lower(): v for w, v in _WORDS.items()}
_COLOURED = re.compile(
    rf"\b(?:{'|'.join(_COLOURS)}|grey|beige|tan|gold|golden|silver|turquoise|teal|maroon|violet|magenta|crimson|redd)"
    r"(?:ish|s|ed|ful)?\b|\bcolou?r",
    re.IGNORECASE,
)
_DIRECTION = re.compile(r"\b(?:left|right|top|bottom|upper|lower|middle|cent(?:er|re|ral))\b", re.IGNORECASE)
_BEFORE_NOUN = re.compile(rf" {ATTRIBUTES}(?:{NOUN_WORDS})\b", re.IGNORECASE)
# Words that name nothing: a caption of these alone is none.
_EMPTY = frozenset("a an the this that there is are one it its".split())


def _inner(found: re.Match[str], group: str, new: str) -> str:
    """Return the match's text with one group replaced."""
    start = found.start(group) - found.start()
    return found[0][:start] + dress(new, found[group]) + found[0][start + len(found[group]) :]


def _of_relation(found: re.Match[str]) -> Iterator[str]:
    """Yield what can stand in the place of a relation."""
    if found["diagonal"]:
        yield from (_inner(found, "diagonal", d) for d in _diagonals(found["diagonal"]))
    elif found["h"]:
        yield _inner(found, "h", _OPPOSITE[found["h"].lower()])
        yield from (dress(("is " if found[0].startswith("is ") else "") + w, found[0]) for w in ("above", "below"))
    elif found["v"]:
        yield _inner(found, "v", _OPPOSITE[found["v"].lower()])
    elif found["w"]:
        word = found["w"].lower()
        more = " ".join(_OPPOSITE.get(w, w) for w in word.split())
        yield _inner(found, "w", more if " " in word else "below" if word == "above" else "above")
        yield from (dress(f"to the {side} of", found[0]) for side in _HORIZONTAL)


def _diagonals(phrase: str) -> list[str]:
    """Return the three other corners in the words of the phrase: for "top-left" they begin with "top-right"."""
    vertical, gap, side = re.split(r"([ -])", phrase.lower(), maxsplit=1)
    corners = [(v, s) for v in (vertical, _OPPOSITE[vertical]) for s in (side, _OPPOSITE[side])]
    return [v + gap + s for v, s in corners[1:]]


def _of_extreme(found: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Yield (replacement, kind) for an extreme: "leftmost", "closest to the top", "largest"."""
    if found["big"] or found["small"]:
        yield dress("smallest" if found["big"] else "largest", found[0]), "size"
        return
    group = "most" if found["most"] else "near" if found["near"] else "far"
    word = found[group].lower()
    opposite = _OPPOSITE[word]
    others = ("top", "bottom") if word in _HORIZONTAL else _HORIZONTAL
    yield from ((_inner(found, group, w), "orientation") for w in (opposite, *others))


def _of_place(found: re.Match[str]) -> Iterator[str]:
    """Yield what can replace a place phrase: its mirrored wording, then the other cells of a 3 x 3 grid."""
    said = read_place(found)
    mirrored: list[str] = []
    same = {said}
    if found["v"]:
        start = found.start("v") - found.start()
        tail = found.end("h") - found.start()
        corner = found[0][start:tail]
        if re.fullmatch(r"\w+[ -]\w+", corner):
            mirrored = [found[0][:start] + dress(d, corner) + found[0][tail:] for d in _diagonals(corner)]
            # All corners are done, and the sides that meet in this one hold it too.
            same |= {(h, v) for h in _HORIZONTAL for v in ("top", "bottom")}
            same |= {(said[0], None), (None, said[1])} if said else set()
    elif found["one"]:
        mirrored = [_inner(found, "one", _OPPOSITE[found["one"].lower()])]
        column, row = said or (None, None)
        same.add((_OPPOSITE.get(column or ""), _OPPOSITE.get(row or "")))
    yield from mirrored
    if found["prep"] and said:
        yield from (dress(phrase, found[0]) for cell, phrase in CELLS.items() if cell not in same)


@lru_cache(maxsize=1 << 15)
def _swaps(caption: str) -> tuple[Variant, ...]:
    """Return all variants of a caption."""
    taken: list[tuple[int, int]] = [m.span() for m in IDIOM.finditer(caption)]
    found_all: list[Variant] = []

    def free(found: re.Match[str]) -> bool:
        return all(found.end() <= a or found.start() >= b for a, b in taken)

    def add(found: re.Match[str], new: str, kind: str) -> None:
        found_all.append(Variant(put(caption, *found.span(), new), kind))

    for pattern in (EXTREME, RELATION, PLACE, _WORD):
        for found in [m for m in pattern.finditer(caption) if free(m)]:
            if pattern is EXTREME:
                for new, kind in _of_extreme(found):
                    add(found, new, kind)
            elif pattern is RELATION:
                if found["other"]:
                    continue  # "inside", "behind": exchanged as words
                for new in _of_relation(found):
                    add(found, new, "relation")
            elif pattern is PLACE:
                for new in _of_place(found):
                    add(found, new, "orientation")
            else:
                kind, others = _LOOKUP[found[0].lower()]
                for new in others:
                    # "red and green" must not become "green and green"
                    if not re.search(rf"\b{new}\b", caption):
                        add(found, dress(new, found[0]), kind)
            taken.append(found.span())
    return tuple(v for v in dict.fromkeys(found_all) if v.text != caption)


def swap(caption: str, kinds: Collection[str] | None = None) -> list[Variant]:
    """Return every variant of a caption with exactly one word or phrase exchanged for another of its kind.

    Args:
        caption: An English expression.
        kinds: Which kinds of words to exchange, a part of `KINDS`; all when None.

    Returns:
        Variants without repeats, never the caption itself; empty when nothing in it can be exchanged.

    Raises:
        ValueError: An unknown kind, or an empty caption.
    """
    unknown = set(kinds or ()) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds {sorted(unknown)}; choose from {', '.join(KINDS)}")
    return [v for v in _swaps(clean(caption)) if kinds is None or v.kind in kinds]


def has_colour(caption: str) -> bool:
    """Tell whether a caption names a colour (white, gray and black among them): then the image's hue must stay."""
    return bool(_COLOURED.search(clean(caption)))


def verdicts_of(variant: Variant, caption: str, owners: Collection[int], scene: LabelledObjects) -> list[bool | None]:
    """Tell of which objects a caption's variant is true, as far as the boxes and the caption itself prove it.

    Boxes know neither colours nor numbers, but the caption does: "the red car" made "the blue car" is false of the car
    that it was said of. That holds for the object's own colour, not for that of a landmark, which may have a twin.

    Args:
        variant: A variant of the caption.
        caption: What is said of the owners.
        owners: Objects that the caption means.
        scene: All labelled objects.

    Returns:
        One verdict per object.
    """
    verdicts = scene.verdicts(variant.text)
    if variant.kind in ("colour", "number") and parse(variant.text).rest != parse(caption).rest:
        for i in owners:
            verdicts[i] = False
    return verdicts


@lru_cache(maxsize=1 << 15)
def strip_position(caption: str, extremes: bool = False) -> str | None:
    """Return a caption without its place in the image, for crops and shifts that change the place.

    Args:
        caption: An English expression.
        extremes: Leave out "leftmost" and "closest to the top" too; "largest" stays. They compare objects, so that they
            survive a shift, and a crop only where it keeps all objects of the category.

    Returns:
        "A small ship" for "A small ship in the upper left corner of the image"; the caption itself where it holds no
        place; None where nothing would be left, or where the place belongs to another object ("The ship to the left of
        the bridge in the middle").
    """
    text = clean(caption)
    most = [m for m in EXTREME.finditer(text) if not (m["big"] or m["small"])]
    kept = [m.span() for m in IDIOM.finditer(text)] + [m.span() for m in most]
    related = [m.span() for m in RELATION.finditer(text)]

    def free(found: re.Match[str], spans: list[tuple[int, int]]) -> bool:
        return all(found.end() <= a or found.start() >= b for a, b in spans)

    holes = [m for m in PLACE.finditer(text) if free(m, kept + related) and _is_place(m)] + (most if extremes else [])
    if not holes and not any(free(m, kept + related) for m in PLACE.finditer(text)):
        return text
    if related or not holes:
        return None
    for found in sorted(holes, key=lambda m: -m.start()):
        text = _without(text, found.start(), found.end())
    text = re.sub(r"(?<!^There)(?<!there) is$", "", text.strip(" ,"), flags=re.IGNORECASE)
    left = _DIRECTION.search(text) is not None and not (most and not extremes)
    return None if left or set(re.findall(r"[\w'-]+", text.lower())) <= _EMPTY else text


def _is_place(found: re.Match[str]) -> bool:
    """Tell "on the left" and "the left ship" from "facing left" and "the right wing"."""
    return bool(found["prep"] or found["side"] or found["v"] or _BEFORE_NOUN.match(found.string, found.end()))


def _without(text: str, start: int, end: int) -> str:
    """Return the text without one phrase, without the "of the image" behind it, and with its article in agreement."""
    behind = re.match(rf" ?{OF_IMAGE}", text[end:], re.IGNORECASE)
    if behind:
        # "of the SAR image" says more than the place
        modality = re.search(r"\b(?:SAR|radar|optical)\b", behind[0], re.IGNORECASE)
        text = (
            text[:end] + (f" in the {behind[0].split('the ', 1)[1]}" if modality else "") + text[end + behind.end() :]
        )
    following = re.match(r" ([\w-]+)", text[end:])
    if following:
        return put(text, start, end + following.end(), following[1])
    return text[:start].rstrip() + text[end:]
