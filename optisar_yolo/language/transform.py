"""Rewriting a caption together with its image: mirrors, half turns and quarter turns.

A mirror exchanges single words ("upper left" becomes "upper right"). A quarter turn exchanges the axes, so it rewrites
phrases: "above" becomes "to the left of", "on the left side" becomes "on the lower side". Every phrase has one partner,
and a quarter turn is refused (None) where a direction stands in a phrase without a partner, or where turning back would
not give the same expression again. All public names can be imported from `optisar_yolo.language`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from optisar_yolo.language.parser import ATTRIBUTES, NOT_IMAGE, NOUN_WORDS, OF_IMAGE, clean, dress, put

# Directions that are none: "right angle", "left the harbor", "right next to".
_NO_DIRECTION = (
    r"right[- ]angle[ds]?"
    r"|(?<!the )(?<!furthest )(?<!farthest )right (?:next to|beside|above|below|behind|before|away|now)"
    r"|(?:has|have|had|having) left|(?<!the )left (?:the|a|an|behind|over)"
)
IDIOM = re.compile(rf"\b(?:{_NO_DIRECTION})\b", re.IGNORECASE)
# What a mirror changes in a way no word exchange can say (one mirror only; two make a rotation and keep it).
_CHIRAL = re.compile(r"\b(?:(?:counter|anti)?-?clockwise|[a-z][- ]shaped?)\b", re.IGNORECASE)
# A hand or a turn is not a side of the image, and the clock has no word for its mirror image.
_FIXED = re.compile(
    r"\b(?:(?:left|right)[- ](?:handed|turn\w*)|o'?clock"
    r"|(?:first|second|third|fourth|fifth|sixth|last) (?:row|column|line)s?)\b",
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
_SUFFIX = r"(?:ern|wards?|erly|ernmost|most)?"
_COMPASS = re.compile(rf"(north|south)?(-?)(east|west)?({_SUFFIX})")
_MIRRORED = re.compile(
    rf"(?<![a-z])(?:{'|'.join({**_MIRROR_H, **_MIRROR_V})}|(?:(?:north|south)(?:east|west)?|east|west){_SUFFIX})"
    r"(?![a-z])",
    re.IGNORECASE,
)

# Where each side of the image goes in one quarter turn counter-clockwise, and back.
_TURN = {"left": "bottom", "bottom": "right", "right": "top", "top": "left"}
_BACK = {b: a for a, b in _TURN.items()}
_WIND = {"top": "north", "bottom": "south", "left": "west", "right": "east"}
_SIDE_OF = {"upper": "top", "lower": "bottom", "up": "top", "down": "bottom", "above": "top", "below": "bottom"}
_SIDE_OF |= {w: side for side, w in _WIND.items()}
# What English says for top and bottom in each kind of phrase; left and right stay themselves.
_ATTRIBUTE = {"top": "upper", "bottom": "lower"}
_MOVE = {"top": "up", "bottom": "down"}
_SIDES = "left|right|top|bottom"
_CORNER = "".join(rf"(?<!{word}[ -])" for word in ("upper", "lower", "top", "bottom"))
# The one kind of phrase where left and right have two spellings: turned back, both are "to the left of".
_BESIDE = rf"(?:(?:to|on|at|in) the )?{_CORNER}(?<!far )(?P<{{}}>left|right) of{NOT_IMAGE}"
_PHRASES = re.compile(
    rf"\b(?:{_BESIDE.format('beside')}"
    r"|(?<!the )(?P<above>above|below)(?= \w)(?! of\b)"
    rf"|(?P<v>upper|lower|top|bottom)(?P<gap>[ -])(?P<h>left|right)"
    rf"|(?:middle|center|centre)[ -](?P<centre>{_SIDES})"
    r"|(?:on|in|at|near) the (?P<part>left|right|upper|lower)(?= (?:side|part|area|region|section|portion|half)\b)"
    rf"|(?:on|in|at|near|along|from|to) the (?P<edge>{_SIDES})(?= (?:edge|border|end|third)\b)"
    r"|(?P<far>on the far (?:left|right)|at the very (?:top|bottom))(?! of (?!the (?:image|picture)))"
    rf"|(?:on|in|at|near|from|to|towards?) the (?P<bare>{_SIDES})(?=$|[.,?!]| {OF_IMAGE}| and\b| is\b)"
    r"|(?:(?<=\bthe )|(?<=\ba )|(?<=\ban )|(?<=\band ))(?P<attribute>left|right|upper|lower)"
    rf"(?= {ATTRIBUTES}(?:{NOUN_WORDS})\b)"
    rf"|and (?P<second>{_SIDES})(?=$|[.,?!]| {OF_IMAGE})"
    r"|(?:facing|pointing|heading|moving|driving) (?P<move>left|right|up|down)(?=$|[.,?!]| (?:and|in|on|at)\b)"
    r"|(?P<ward>left|right|up|down)wards?"
    r"|(?P<axis>horizontal|vertical)(?:ly)?"
    rf"|(?P<wind>(?:(?:north|south)(?:-?(?:east|west))?|east|west){_SUFFIX})"
    r"|(?P<unread>(?:left|right|top|bottom|upper|lower)(?:most)?|above|below|up|down|higher|highest|lowest|over|under"
    r"|underneath|beneath|atop|uppermost|lowermost|rows?|columns?|portrait|landscape)"
    r")\b",
    re.IGNORECASE,
)
# Words without a preposition or an article among them: the thing alone.
_PLAIN_WORD = r"(?!(?:of|in|on|at|to|near|and|or|that|with|is|by|from|than|the|a|an|closest)\b)[\w-]+"
_THING = rf"(?P<thing>{_PLAIN_WORD}(?: {_PLAIN_WORD})*)"
_HEAD = r"(?P<head>(?:\w+ ){0,4}?the )"
_MOST = re.compile(rf"{_HEAD}(?P<most>left|right)most {_THING}", re.IGNORECASE)
_CLOSEST = re.compile(rf"{_HEAD}{_THING} closest to the (?P<side>top|bottom) of the image", re.IGNORECASE)


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
    return word if new == word.lower() else dress(new, word)


@lru_cache(maxsize=1 << 17)
def flip(caption: str, horizontal: bool = False, vertical: bool = False) -> str | None:
    """Rewrite a caption so that it stays true when the image is mirrored.

    Args:
        caption: An English expression, true of the image as it is.
        horizontal: The image is mirrored left to right.
        vertical: The image is mirrored top to bottom; with `horizontal` this is a turn by 180°.

    Returns:
        The rewritten caption (unchanged where it holds no direction), or None when rewriting cannot keep it true
        ("clockwise", "L-shaped", "right next to", "over the road").
    """
    text = clean(caption)
    if (horizontal or vertical) and _FIXED.search(text):
        return None
    if horizontal and IDIOM.search(text):
        return None
    if horizontal != vertical and _CHIRAL.search(text):
        return None
    if vertical and _UNSAFE_VERTICAL.search(text):
        return None
    done = text
    # From the end, so that earlier positions stay valid when a word changes its length.
    for found in reversed(list(_MIRRORED.finditer(text))):
        new = _mirror(found[0], horizontal, vertical)
        if new != found[0]:
            done = put(done, found.start(), found.end(), new)
    return done


def rotate180(caption: str) -> str | None:
    """Rewrite a caption so that it stays true when the image is turned by 180°: both mirrors, one after the other.

    Args:
        caption: An English expression, true of the image as it is.

    Returns:
        The rewritten caption, or None when rewriting cannot keep it true.
    """
    return flip(caption, True, True)


@lru_cache(maxsize=1 << 15)
def rotate90(caption: str, turns: int = 1) -> str | None:
    """Rewrite a caption so that it stays true when the image is turned by quarter turns.

    A corner stays a corner ("upper left" becomes "lower left"), a side a side ("on the left side" becomes "on the lower
    side", "at the top" becomes "at the left"), "above" becomes "to the left of", "The leftmost ship" becomes "The ship
    closest to the bottom of the image".

    Args:
        caption: An English expression, true of the image as it is.
        turns: Number of quarter turns counter-clockwise, as in `numpy.rot90` of an [H, W, C] array: the top of the
            image becomes its left side. Negative numbers turn clockwise.

    Returns:
        The rewritten caption (unchanged where it holds no direction), or None when rewriting cannot keep it true.
        Turning back gives the same expression again, but for "on the left of the bridge", which comes back as "to the
        left of the bridge".
    """
    text = clean(caption)
    turns %= 4
    if turns == 0:
        return text
    if turns == 2:
        return rotate180(text)
    there, back = (_TURN, _BACK) if turns == 1 else (_BACK, _TURN)
    done = _quarter(text, there)
    return done if done is not None and _quarter(done, back) == _plainly(text) else None


def _plainly(text: str) -> str:
    """Say "on the left of" and "left of" as a turn says them: "to the left of"."""
    pattern = rf"\b{_BESIDE.format('side')}"
    return re.sub(pattern, lambda m: dress(f"to the {m['side'].lower()} of", m[0]), text, flags=re.IGNORECASE)


def _quarter(text: str, turn: dict[str, str]) -> str | None:
    """Rewrite all phrases for one quarter turn; None where one has no partner."""
    if _FIXED.search(text) or IDIOM.search(text):
        return None
    whole = _MOST.fullmatch(text)
    if whole:
        side = turn[whole["most"].lower()]
        return f"{whole['head']}{whole['thing']} closest to the {side} of the image"
    whole = _CLOSEST.fullmatch(text)
    if whole:
        return f"{whole['head']}{turn[whole['side'].lower()]}most {whole['thing']}"
    for found in reversed(list(_PHRASES.finditer(text))):
        new = _turned(found, turn)
        if new is None:
            return None
        text = put(text, found.start(), found.end(), new)
    return text


def _turned(found: re.Match[str], turn: dict[str, str]) -> str | None:
    """Return a phrase after a quarter turn."""
    group = found.lastgroup or ""
    if group == "unread":
        return None
    if group == "h":
        # The corner's side becomes its row and the other way round; "top left" keeps saying top, "upper left" upper.
        row, side = turn[found["h"].lower()], turn[_SIDE_OF.get(found["v"].lower(), found["v"].lower())]
        row = row if found["v"].lower() in _SIDES.split("|") else _ATTRIBUTE[row]
        return dress(f"{row}{found['gap']}{side}", found[0])
    word = found[group].lower()
    if group == "wind":
        return _wind(found[0], turn)
    if group == "axis":
        return dress(found[0].lower().replace(word, {"horizontal": "vertical"}.get(word, "horizontal")), found[0])
    if group == "far":
        side = turn[word.rsplit(" ", 1)[1]]
        return dress(f"at the very {side}" if side in _ATTRIBUTE else f"on the far {side}", found[0])
    side = turn[_SIDE_OF.get(word, word)]
    if group == "beside":
        return dress({"top": "above", "bottom": "below"}[side], found[0])
    if group == "above":
        return dress(f"to the {side} of", found[0])
    if group in ("part", "attribute"):
        side = _ATTRIBUTE.get(side, side)
    elif group in ("move", "ward"):
        side = _MOVE.get(side, side)
    start = found.start(group) - found.start()
    return found[0][:start] + dress(side, found[group]) + found[0][start + len(word) :]


def _wind(word: str, turn: dict[str, str]) -> str | None:
    """Return a compass word after a quarter turn: "northeastern" becomes "northwestern"."""
    parts = _COMPASS.fullmatch(word.lower())
    if not parts or not (parts[1] or parts[3]):
        return None
    winds = [_WIND[turn[_SIDE_OF[w]]] for w in (parts[1], parts[3]) if w]
    winds.sort(key=("north", "south", "east", "west").index)
    return dress(parts[2].join(winds) + parts[4], word)
