"""The words that queries are read by: ordinals, groups, quantifiers, distances to other objects, half images.

`query` takes them out of an expression one after the other. What `parser` reads, too, stands in `vocabulary`.
"""

from __future__ import annotations

import re

from optisar_yolo.language.idioms import PREPOSITIONS
from optisar_yolo.language.vocabulary import (
    CATEGORIES,
    CENTRE,
    IMAGE,
    NUMBERS,
    ORDINALS,
    SIDE_OF,
    SIDES,
    SUPERLATIVE,
)

NEAREST, FURTHEST, BETWEEN, INSIDE = "nearest", "furthest", "between", "inside"
MIDDLE, CENTRE_OF_IMAGE = "middle", "centre"
ORDINAL = rf"(?:{'|'.join(ORDINALS)}|\d+(?:th|st|nd|rd))"
NUMBER = rf"(?:{'|'.join(NUMBERS)}|\d+)(?![-.\d])"
_SIDE = rf"(?P<side>{'|'.join(SIDES)})(?![ -](?:left|right)\b)(?:[ -]hand)?(?: (?:side|edge|end|border))?"
_SIDE_WORDS = f"left|right|top|bottom|side|corner|part|edge|end|half|area|{CENTRE}"
CORNER = r"(?P<v>upper|top|lower|bottom)[ -](?P<h>left|right)(?:[ -]hand)?(?: corner| edge)?"

LEAD = re.compile(
    r"^(?:(?:there (?:is|are)|here (?:is|are)|this is|these are|(?:i am |i'm )?looking for|(?:which|what)(?: is| are)?"
    r"(?: of)?)\b ?)+",
    re.IGNORECASE,
)
COUNT_TAIL = re.compile(
    r" (?:(?:are|is|were)(?: there| visible| shown| seen| present)?"
    r"|(?:can|do|could) (?:you|we|i) (?:see|find|count|spot)"
    rf"|(?:does|do) (?:this|the) (?:\w+ )?{IMAGE} (?:have|show|contain)|(?:there )?(?:are|is))\b",
    re.IGNORECASE,
)
BY_SUPERLATIVE = re.compile(rf"\b(?P<o>{ORDINAL})[ -](?P<s>(?:{SUPERLATIVE.pattern}|lowest|highest))", re.IGNORECASE)
FROM_SIDE = re.compile(
    rf"\b(?P<o>{ORDINAL})(?P<mid>(?: (?!from\b|of\b)[\w-]+){{0,4}}?)"
    rf"(?: (?:in|over|along|across|down|up|counting|counted|starting))?,? from (?:the )?(?:far |very )?{_SIDE}\b",
    re.IGNORECASE,
)
COUNTING = re.compile(
    rf"\b(?:counting|starting|counted) (?:down |up )?from (?:the )?(?:far |very )?{_SIDE},?"
    rf" (?:the )?(?P<o>{ORDINAL})\b",
    re.IGNORECASE,
)
TO_CORNER = re.compile(
    rf"\b(?:(?:closest|nearest)(?: to)?|(?:furthest|farthest)(?: to(?:wards?)?| in)?) (?:the )?{CORNER}\b",
    re.IGNORECASE,
)
TO_CENTRE = re.compile(rf"\b(?:closest|nearest) (?:to )?(?:the )?(?:very )?{CENTRE}\b", re.IGNORECASE)
LOWEST = re.compile(r"\b(?:(?P<low>lowest)|highest)\b", re.IGNORECASE)
COMPARATIVE = re.compile(
    r"\b(?:(?P<big>larger|bigger)|smaller)\b(?= (?:\w+ ){0,2}?of the (?:two|pair)\b)", re.IGNORECASE
)
_OF_GROUP = rf"(?: one)?(?= (?:out )?of (?:(?:all |the |these |those )+(?:{NUMBER}|pair|couple)|{NUMBER})\b)"
ONE_CORNER = re.compile(rf"\b{CORNER}{_OF_GROUP}", re.IGNORECASE)
ONE_SIDE = re.compile(
    rf"\b(?:(?P<side>left|right|top|bottom|upper|lower)(?:[ -]hand)?|{CENTRE}){_OF_GROUP}", re.IGNORECASE
)
# "the left ship", "the two upper bridges", "the middle tank": one of a row, no place in the image.
LONE = re.compile(
    rf"^(?:(?:the|both|{NUMBER}) )*(?:(?P<side>left|right|top|bottom|upper|lower)(?:[ -]hand)?|{CENTRE})"
    rf"(?: one)?(?= (?!(?:{_SIDE_WORDS})\b)\S)",
    re.IGNORECASE,
)
ONE_OF = re.compile(r"^(?:any |just |only )?one of (?:the|these|those|all)\b", re.IGNORECASE)
GROUP = re.compile(
    rf"\b(?:out )?(?:of|among|amongst)(?:(?: (?:all|the|these|those))+(?: (?P<n>{NUMBER}))?"
    rf"(?P<pair> (?:pair|couple)(?: of)?)?| (?P<m>{NUMBER}))",
    re.IGNORECASE,
)
QUANTIFIER = re.compile(
    r"^(?:(?:only|just|exactly|about|around|at least|the|these|those|my|our)\b ?)*"
    rf"(?:(?P<all>all(?: of)?|every(?: single)?|each(?: of)?|several|multiple|many|(?:a )?few|some|various|numerous"
    r"|most of|(?:an? )?(?:group|cluster|row|fleet|handful|line|bunch|set)s? of|dozens of|hundreds of)"
    rf"|(?P<two>both(?: of)?|(?:an? )?(?:pair|couple) of)|(?P<n>{NUMBER})(?: of)?)\b(?!-)(?: (?:the|these|those)\b)?",
    re.IGNORECASE,
)
PREPOSITION = re.compile(rf"\b(?:{PREPOSITIONS}|from|off|under|behind|beside|than|and|or|with)\b", re.IGNORECASE)
DETERMINER = re.compile(r"^(?:an?|the|these|those|this|that|any|my|our|one)\b ?", re.IGNORECASE)
HALF = re.compile(
    r"\b(?:in|on) (?:the )?(?P<side>left|right|upper|lower|top|bottom)(?:[ -]hand)? half\b", re.IGNORECASE
)
_ABOUT = r"(?:that (?:is|are) |which (?:is|are) |(?:is|are|lies|lying|sits|parked|located) )?"
_JUST = r"(?:(?:right|directly|immediately|just) )?"
RELATIONS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(rf"\b{_ABOUT}{_JUST}(?:{words})(?= (?:the|an?|this|that|another|two|both|\d))", re.IGNORECASE))
    for name, words in (
        (FURTHEST, r"(?:the )?(?:furthest|farthest|most distant)(?: away)? from"),
        (
            NEAREST,
            r"(?:the )?(?:closest|nearest|closer|nearer)(?: to)?|next to|beside|adjacent to|near(?: to)?|close to",
        ),
        (BETWEEN, r"(?:sandwiched )?(?:in )?between"),
        (INSIDE, r"inside|within|in|on|at"),
    )
)
NOT_WITHIN = frozenset({"harbor", "dam"})  # their boxes hold the pier or the wall, not what lies at it
# Names that the text encoder was trained with and `parse` does not read, as nothing could be proven of them.
FURTHER = tuple(
    word
    for noun in CATEGORIES.values()
    for word in (*noun.generated, *([noun.reserved] if noun.reserved else ()))
    if len(word.split()) < 3
) + ("runway", "building")  # fmt: skip


def side_of(found: re.Match[str]) -> str:
    """Return the side or corner that a match of `RELATION` names."""
    if found["diagonal"]:
        row, column = re.split(r"[ -]", found["diagonal"].lower())
        return f"{'upper' if SIDE_OF[row] == 'top' else 'lower'} {column}"
    return SIDE_OF[(found["h"] or found["v"] or found["w"]).lower()]


def corner_of(found: re.Match[str]) -> str:
    """Return the corner of a match of `CORNER`: "upper left"."""
    return f"{'upper' if SIDE_OF[found['v'].lower()] == 'top' else 'lower'} {found['h'].lower()}"


def number_of(word: str) -> int:
    """Return the value of a number or an ordinal: "three", "3", "third", "3rd"."""
    low = word.lower()
    if low in NUMBERS:
        return NUMBERS.index(low) + 2
    return ORDINALS[low] if low in ORDINALS else int(re.sub(r"\D", "", low))
