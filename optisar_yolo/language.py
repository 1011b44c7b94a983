"""The one home of direction, size, modality and colour words.

Here: exchanging one word (`swap`, for adversarial negatives) and mirroring a caption with its picture (`flip`). The
vocabulary and its reading are in `optisar_yolo.wording`, saying a caption otherwise in `optisar_yolo.rewording`, truth
against boxes in `optisar_yolo.meaning`; all public names can be imported from here. Words are matched as whole words,
the longest phrase first ("bright" and "along" hold no direction); letter case is kept and a/an follows the new word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from optisar_yolo.meaning import CELLS, Scene, describe, true_of
from optisar_yolo.rewording import reword
from optisar_yolo.wording import EXTREME, PLACE, RELATION, Meaning, clean, noun_of, parse, read_place

__all__ = [
    "KINDS", "Meaning", "Scene", "Variant", "clean", "describe", "flip", "noun_of", "parse", "reword", "swap",
    "true_of",
]  # fmt: skip

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
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SAR": ("modality", ("optical",)), "radar": ("modality", ("optical",)), "optical": ("modality", ("SAR",)),
    **dict.fromkeys(("large", "big", "huge", "sizeable"), ("size", ("small",))),
    **dict.fromkeys(("small", "little"), ("size", ("big",))), "tiny": ("size", ("large",)),
    "bigger": ("size", ("smaller",)), "larger": ("size", ("smaller",)), "smaller": ("size", ("bigger",)),
    **{c: ("colour", tuple(o for o in _COLOURS if o != c)) for c in _COLOURS},
    "grey": ("colour", tuple(o for o in _COLOURS if o != "gray")),
    **{n: ("number", _NUMBERS[max(i - 1, 0) : i] + _NUMBERS[i + 1 : i + 2]) for i, n in enumerate(_NUMBERS)},
    "inside": ("relation", ("outside",)), "outside": ("relation", ("inside",)),
    "in front of": ("relation", ("behind",)), "behind": ("relation", ("in front of",)),
}  # fmt: skip
_WORD = re.compile(r"\b(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b(?!-)", re.IGNORECASE)
_LOOKUP = {w.lower(): v for w, v in _WORDS.items()}

# Directions that are none: "right angle", "left the harbor", "right next to".
_NO_DIRECTION = (
    r"right[- ]angle[ds]?"
    r"|(?<!the )(?<!furthest )(?<!farthest )right (?:next to|beside|above|below|behind|before|away|now)"
    r"|(?:has|have|had|having) left|(?<!the )left (?:the|a|an|behind|over)"
)
_IDIOM = re.compile(rf"\b(?:{_NO_DIRECTION})\b", re.IGNORECASE)
# What a mirror changes in a way no word exchange can say (one mirror only; two make a rotation and keep it).
_CHIRAL = re.compile(
    r"\b(?:(?:counter|anti)?-?clockwise|[a-z][- ]shaped?|(?:left|right)[- ](?:handed|turn\w*)|o'?clock)\b",
    re.IGNORECASE,
)
_UNSAFE_VERTICAL = re.compile(
    r"\b(?:upside|beneath|underneath|under|over|atop|on top of|higher|lower than"
    r"|(?<!further )(?<!farther )(?<!facing )(?<!pointing )(?<!heading )(?:up|down))\b",
    re.IGNORECASE,
)
_PAIRS_H = [("left", "right"), ("leftmost", "rightmost"), ("leftward", "rightward"), ("leftwards", "rightwards")]
_PAIRS_V = [
    ("top", "bottom"), ("topmost", "bottommost"), ("upper", "lower"), ("uppermost", "lowermost"), ("up", "down"),
    ("upward", "downward"), ("upwards", "downwards"), ("above", "below"), ("highest", "lowest"),
]  # fmt: skip
_MIRROR_H = {a: b for p in _PAIRS_H for a, b in (p, p[::-1])}
_MIRROR_V = {a: b for p in _PAIRS_V for a, b in (p, p[::-1])}
_COMPASS = re.compile(r"(north|south)?(-?)(east|west)?((?:ern|ward|wards|erly|ernmost|most)?)")


def _dress(word: str, like: str) -> str:
    """Give a word the letter case of the one it replaces; acronyms (SAR) count as lower case, and stay as they are."""
    if like.isupper() and len(like) > 1 and like != "SAR":
        return word.upper()
    if like[0].isupper() and like != "SAR" and word != "SAR":
        return word[0].upper() + word[1:]
    return word


def _replace(text: str, start: int, end: int, new: str) -> str:
    """Replace text[start:end] and make the article in front of it agree when it agreed before."""
    old = text[start:end]
    head = text[:start]
    article = re.search(r"\b(an?)( )$", head, re.IGNORECASE)
    if article and _vowel(old) == (article[1].lower() == "an") and _vowel(new) != _vowel(old):
        head = head[: article.start()] + _dress("an" if _vowel(new) else "a", article[1][0]) + " "
    return head + (new[0].upper() + new[1:] if start == 0 and old[0].isupper() else new) + text[end:]


def _vowel(word: str) -> bool:
    """Tell whether a word takes "an"."""
    return word[:1].lower() in "aeiou" and not word.lower().startswith(("uni", "one", "eu"))


def _inner(found: re.Match[str], group: str, new: str) -> str:
    """Return the match's text with one group replaced."""
    start = found.start(group) - found.start()
    return found[0][:start] + _dress(new, found[group]) + found[0][start + len(found[group]) :]


def _of_relation(found: re.Match[str]) -> Iterator[str]:
    """Yield what can stand in the place of a relation."""
    if found["diagonal"]:
        yield from (_inner(found, "diagonal", d) for d in _diagonals(found["diagonal"]))
    elif found["h"]:
        yield _inner(found, "h", _OPPOSITE[found["h"].lower()])
        yield from (_dress(("is " if found[0].startswith("is ") else "") + w, found[0]) for w in ("above", "below"))
    elif found["v"]:
        yield _inner(found, "v", _OPPOSITE[found["v"].lower()])
    elif found["w"]:
        word = found["w"].lower()
        more = " ".join(_OPPOSITE.get(w, w) for w in word.split())
        yield _inner(found, "w", more if " " in word else "below" if word == "above" else "above")
        yield from (_inner(found, "w", f"to the {side} of") for side in _HORIZONTAL)


def _diagonals(phrase: str) -> list[str]:
    """Return the three other corners in the words of the phrase: for "top-left" they begin with "top-right"."""
    vertical, gap, side = re.split(r"([ -])", phrase.lower(), maxsplit=1)
    corners = [(v, s) for v in (vertical, _OPPOSITE[vertical]) for s in (side, _OPPOSITE[side])]
    return [v + gap + s for v, s in corners[1:]]


def _of_extreme(found: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Yield (replacement, kind) for an extreme: "leftmost", "closest to the top", "largest"."""
    if found["big"] or found["small"]:
        yield _dress("smallest" if found["big"] else "largest", found[0]), "size"
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
            mirrored = [found[0][:start] + _dress(d, corner) + found[0][tail:] for d in _diagonals(corner)]
            same |= {(h, v) for h in _HORIZONTAL for v in ("top", "bottom")}
    elif found["one"]:
        mirrored = [_inner(found, "one", _OPPOSITE[found["one"].lower()])]
        column, row = said or (None, None)
        same.add((_OPPOSITE.get(column or ""), _OPPOSITE.get(row or "")))
    yield from mirrored
    if found["prep"] and said:
        yield from (_dress(phrase, found[0]) for cell, phrase in CELLS.items() if cell not in same)


@lru_cache(maxsize=1 << 15)
def _swaps(caption: str) -> tuple[Variant, ...]:
    """Return all variants of a caption."""
    taken: list[tuple[int, int]] = [m.span() for m in _IDIOM.finditer(caption)]
    found_all: list[Variant] = []

    def free(found: re.Match[str]) -> bool:
        return all(found.end() <= a or found.start() >= b for a, b in taken)

    def add(found: re.Match[str], new: str, kind: str) -> None:
        found_all.append(Variant(_replace(caption, *found.span(), new), kind))

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
                        add(found, _dress(new, found[0]), kind)
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


def _mirror(word: str, horizontal: bool, vertical: bool) -> str:
    """Return one word as it reads after the mirror."""
    new = word.lower()
    if horizontal:
        new = _MIRROR_H.get(new, new)
    if vertical:
        new = _MIRROR_V.get(new, new)
    found = _COMPASS.fullmatch(new)
    if found and (found[1] or found[3]):
        north, east = found[1] or "", found[3] or ""
        north = {"north": "south", "south": "north"}.get(north, "") if vertical else north
        east = {"east": "west", "west": "east"}.get(east, "") if horizontal else east
        new = north + found[2] + east + found[4]
    return word if new == word.lower() else _dress(new, word)


@lru_cache(maxsize=1 << 15)
def flip(caption: str, horizontal: bool = False, vertical: bool = False) -> str | None:
    """Rewrite a caption so that it stays true when the picture is mirrored.

    Args:
        caption: An English expression, true of the picture as it is.
        horizontal: The picture is mirrored left to right.
        vertical: The picture is mirrored top to bottom; with `horizontal` this is a turn by 180°.

    Returns:
        The rewritten caption (unchanged where it holds no direction), or None when rewriting cannot keep it true
        ("clockwise", "L-shaped", "right next to", "over the road").
    """
    text = clean(caption)
    if horizontal and _IDIOM.search(text):
        return None
    if horizontal != vertical and _CHIRAL.search(text):
        return None
    if vertical and _UNSAFE_VERTICAL.search(text):
        return None
    done = text
    # From the end, so that earlier positions stay valid when a word changes its length.
    for found in reversed(list(re.finditer(r"[A-Za-z]+", text))):
        new = _mirror(found[0], horizontal, vertical)
        if new != found[0]:
            done = _replace(done, found.start(), found.end(), new)
    return done
