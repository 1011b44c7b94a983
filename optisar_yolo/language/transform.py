"""Transforming an expression together with its image: mirrors, half turns and quarter turns.

A mirror exchanges single words ("upper left" becomes "upper right"). A quarter turn exchanges the axes, so it rewrites
phrases: "above" becomes "to the left of", "on the left side" becomes "on the lower side". Every phrase has one partner.
A quarter turn returns None where a direction is part of a phrase without a partner, and where turning back would not
give the same expression again.
"""

from __future__ import annotations

import re
from functools import lru_cache

from optisar_yolo.language.edit import REWRITTEN, clean, correct, dress, put
from optisar_yolo.language.idioms import LEFT_BEHIND, OWN_SIDES, split_request
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.vocabulary import (
    ATTRIBUTES,
    MIRROR_X,
    MIRROR_Y,
    NOT_IMAGE,
    NOUN_WORDS,
    OF_IMAGE,
    SIDE_OF,
    SIDES,
    UP_DOWN,
    UPPER_LOWER,
    WIND,
)

# "left" and "right" that are no direction: "right angle", "left the harbor", "right next to".
_NO_DIRECTION = (
    r"right[- ]angle[ds]?"
    r"|(?<!the )(?<!furthest )(?<!farthest )right (?:next to|beside|above|below|behind|before|away|now)"
    rf"|(?:has|have|had|having) left|(?<!the )left (?:the|a|an|behind|over)|{LEFT_BEHIND}"
)
IDIOM = re.compile(rf"\b(?:{_NO_DIRECTION})\b", re.IGNORECASE)
# One mirror changes these, and exchanging words cannot express it. Two mirrors are a rotation, which keeps them.
_CHIRAL = re.compile(r"\b(?:(?:counter|anti)?-?clockwise|[a-z][- ]shaped?)\b", re.IGNORECASE)
# Turns and hands are no side of the image; mirrored rows and hours of the clock have no words.
_FIXED = re.compile(
    rf"\b(?:(?:left|right)[- ](?:handed|turn\w*)|{OWN_SIDES}|o'?clock"
    r"|(?:first|second|third|fourth|fifth|sixth|last) (?:row|column|line)s?)\b",
    re.IGNORECASE,
)
_UNSAFE_VERTICAL = re.compile(
    r"\b(?:upside|beneath|underneath|under|over|atop|on top of|higher|lower than"
    r"|(?<!further )(?<!farther )(?<!facing )(?<!pointing )(?<!heading )(?:up|down))\b",
    re.IGNORECASE,
)
_SUFFIX = r"(?:ern|wards?|erly|ernmost|most)?"
_COMPASS = re.compile(rf"(north|south)?(-?)(east|west)?({_SUFFIX})")
_MIRRORED = re.compile(
    rf"(?<![a-z])(?:{'|'.join(MIRROR_X | MIRROR_Y)}|(?:(?:north|south)(?:east|west)?|east|west){_SUFFIX})"
    r"(?![a-z])",
    re.IGNORECASE,
)

# Where each side of the image goes in one quarter turn counter-clockwise, and back.
_TURN = {"left": "bottom", "bottom": "right", "right": "top", "top": "left"}
_BACK = {b: a for a, b in _TURN.items()}
_SIDES = "|".join(SIDES)
_CORNER = "".join(rf"(?<!{word}[ -])" for word in ("upper", "lower", "top", "bottom"))
# "on the left of" and "to the left of" mean the same; turning back gives the second one.
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
# A noun with its attributes: no preposition and no article among the words.
_PLAIN_WORD = r"(?!(?:of|in|on|at|to|near|and|or|that|with|is|by|from|than|the|a|an|closest)\b)[\w-]+"
_THING = rf"(?P<thing>{_PLAIN_WORD}(?: {_PLAIN_WORD})*)"
_HEAD = r"(?P<head>(?:\w+ ){0,4}?the )"
_MOST = re.compile(rf"{_HEAD}(?P<most>left|right)most {_THING}", re.IGNORECASE)
_CLOSEST = re.compile(rf"{_HEAD}{_THING} closest to the (?P<side>top|bottom) of the image", re.IGNORECASE)


def _mirror(word: str, horizontal: bool, vertical: bool) -> str:
    """Return one word after a mirror."""
    new = word.lower()
    if horizontal:
        new = MIRROR_X.get(new, new)
    if vertical:
        new = MIRROR_Y.get(new, new)
    found = _COMPASS.fullmatch(new)
    if found and (found[1] or found[3]):
        north, east = found[1] or "", found[3] or ""
        north = {"north": "south", "south": "north"}.get(north, "") if vertical else north
        east = {"east": "west", "west": "east"}.get(east, "") if horizontal else east
        new = north + found[2] + east + found[4]
    return word if new == word.lower() else dress(new, word)


@lru_cache(maxsize=1 << 17)
def flip(text: str, horizontal: bool = False, vertical: bool = False, vocabulary: Vocabulary = BUILT_IN) -> str | None:
    """Rewrite an expression so that it stays true when the image is mirrored.

    Args:
        text: An English expression, true of the image as it is.
        horizontal: The image is mirrored left to right.
        vertical: The image is mirrored top to bottom; with `horizontal` this is a turn by 180°.
        vocabulary: The nouns, whose words stay ("top hat").

    Returns:
        The rewritten expression (unchanged where it holds no direction), or None when rewriting cannot keep it true
        ("clockwise", "L-shaped", "right next to", "over the road").
    """
    hidden = vocabulary.hide(clean(text, REWRITTEN))
    lead, text, tail = split_request(correct(hidden.text))
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
    return hidden.restore(f"{lead}{done}{tail}")


def rotate180(text: str, vocabulary: Vocabulary = BUILT_IN) -> str | None:
    """Rewrite an expression so that it stays true when the image is turned by 180°, which is both mirrors.

    Args:
        text: An English expression, true of the image as it is.
        vocabulary: The nouns, whose words stay.

    Returns:
        The rewritten expression, or None when rewriting cannot keep it true.
    """
    return flip(text, True, True, vocabulary)


@lru_cache(maxsize=1 << 15)
def rotate90(text: str, turns: int = 1, vocabulary: Vocabulary = BUILT_IN) -> str | None:
    """Rewrite an expression so that it stays true when the image is turned by quarter turns.

    A corner stays a corner ("upper left" becomes "lower left"), a side a side ("on the left side" becomes "on the lower
    side", "at the top" becomes "at the left"), "above" becomes "to the left of", "The leftmost ship" becomes "The ship
    closest to the bottom of the image".

    Args:
        text: An English expression, true of the image as it is.
        turns: Number of quarter turns counter-clockwise, as in `numpy.rot90` of an [H, W, C] array: the top of the
            image becomes its left side. Negative numbers turn clockwise.
        vocabulary: The nouns, whose words stay.

    Returns:
        The rewritten expression (unchanged where it holds no direction), or None when rewriting cannot keep it true.
        Turning back gives the same expression again, but for "on the left of the bridge", which comes back as "to the
        left of the bridge".
    """
    text = correct(clean(text, REWRITTEN))
    turns %= 4
    if turns == 0:
        return text
    if turns == 2:
        return rotate180(text, vocabulary)
    hidden = vocabulary.hide(text)
    lead, text, tail = split_request(hidden.text)
    there, back = (_TURN, _BACK) if turns == 1 else (_BACK, _TURN)
    done = _quarter(text, there)
    if done is None or _quarter(done, back) != _plainly(text):
        return None
    return hidden.restore(f"{lead}{done}{tail}")


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
        # Row and column exchange their places. "top left" gives "top" or "bottom", "upper left" "upper" or "lower".
        row, side = turn[found["h"].lower()], turn[SIDE_OF[found["v"].lower()]]
        row = row if found["v"].lower() in SIDES else UPPER_LOWER[row]
        return dress(f"{row}{found['gap']}{side}", found[0])
    word = found[group].lower()
    if group == "wind":
        return _wind(found[0], turn)
    if group == "axis":
        return dress(found[0].lower().replace(word, {"horizontal": "vertical"}.get(word, "horizontal")), found[0])
    if group == "far":
        side = turn[word.rsplit(" ", 1)[1]]
        return dress(f"at the very {side}" if side in UPPER_LOWER else f"on the far {side}", found[0])
    side = turn[SIDE_OF[word]]
    if group == "beside":
        return dress({"top": "above", "bottom": "below"}[side], found[0])
    if group == "above":
        return dress(f"to the {side} of", found[0])
    if group in ("part", "attribute"):
        side = UPPER_LOWER.get(side, side)
    elif group in ("move", "ward"):
        side = UP_DOWN.get(side, side)
    start = found.start(group) - found.start()
    return found[0][:start] + dress(side, found[group]) + found[0][start + len(word) :]


def _wind(word: str, turn: dict[str, str]) -> str | None:
    """Return a compass word after a quarter turn: "northeastern" becomes "northwestern"."""
    parts = _COMPASS.fullmatch(word.lower())
    if not parts or not (parts[1] or parts[3]):
        return None
    winds = [WIND[turn[SIDE_OF[w]]] for w in (parts[1], parts[3]) if w]
    winds.sort(key=("north", "south", "east", "west").index)
    return dress(parts[2].join(winds) + parts[4], word)
