"""The vocabulary of referring expressions: nouns, places, superlatives, relations, sizes, colours and modalities.

Each word stands here once. `parser` and `swaps` read expressions with the patterns, `descriptions` and `paraphrase`
write expressions with the phrases, and `generate` adds the wordings that only the corpus of the text encoder needs.
No training text holds a `RESERVED` word: these words test whether a model understands words that it was not taught.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from optisar_yolo.language.idioms import CONTINUES


class Noun(NamedTuple):
    """The names of a category beside its canonical noun.

    Attributes:
        synonyms: Names that the parser reads and paraphrases use; the first ones are those of remote-sensing data sets.
            Empty: expressions with this noun are read and never paraphrased.
        generated: Names that only the generated corpus uses. The parser does not read them.
        reserved: A name that no training text holds.
        parsed: The parser reads the canonical noun.
    """

    synonyms: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    reserved: str | None = None
    parsed: bool = True


CATEGORIES: dict[str, Noun] = {
    "airplane": Noun(("aircraft", "plane"), ("jet", "airliner"), "aeroplane"),
    "baseball diamond": Noun(("baseball field", "baseball pitch"), ("baseball ground",), "ball field"),
    "basketball court": Noun(("basketball field", "court for basketball"), ("basketball ground",)),
    # No synonym: the noun itself, so that its expressions are paraphrased.
    "bridge": Noun(("bridge",), ("river crossing", "span of the bridge")),
    "crossroad": Noun(("crossroads", "intersection", "road crossing"), ("junction of two roads",)),
    "ground track field": Noun(
        ("running track", "athletics track", "track field"), ("athletics stadium",), "racetrack"
    ),
    "harbor": Noun(("harbour", "port", "dock"), ("pier", "marina"), "wharf"),
    "parking lot": Noun(("car park", "parking area"), ("parking place",)),
    "ship": Noun(("vessel", "boat"), ("vessel on the water", "cargo ship"), "watercraft"),
    "storage tank": Noun(("oil tank", "tank"), ("fuel tank", "cylindrical tank"), "oil reservoir"),
    "swimming pool": Noun(("pool",), ("bathing pool", "swim basin")),
    "T junction": Noun(("T-junction", "three-way junction"), ("T-shaped junction",)),
    "tennis court": Noun(("tennis field", "court for tennis"), ("tennis ground",)),
    "transmission tower": Noun(
        ("power pylon", "electricity tower", "pylon"), ("power tower", "electricity pylon", "power line tower")
    ),
    "vehicle": Noun(("car",), ("truck", "van", "motor vehicle"), "automobile"),
    "airport": Noun((), ("airfield", "aerodrome")),
    "chimney": Noun((), ("smokestack", "factory chimney")),
    "dam": Noun((), ("river dam", "barrage")),
    "expressway service area": Noun((), ("service area", "motorway services")),
    "expressway toll station": Noun((), ("toll station", "toll gate", "toll plaza")),
    "golf field": Noun((), ("golf course", "golf ground")),
    "overpass": Noun((), ("flyover", "elevated road")),
    "stadium": Noun((), ("arena", "sports stadium")),
    "train station": Noun((), ("railway station", "rail station")),
    "windmill": Noun((), ("wind turbine", "wind generator")),
    "helicopter": Noun((), ("chopper", "rotorcraft")),
    "roundabout": Noun((), ("traffic circle", "rotary")),
    # "ball field" is reserved, so generated texts use the other names.
    "soccer ball field": Noun((), ("soccer field", "football pitch", "soccer ground", "football field")),
    "container crane": Noun(),
    "runway": Noun((), ("landing strip", "airstrip"), parsed=False),
    "building": Noun((), ("house", "construction"), parsed=False),
}
# Canonical noun -> synonyms, of the nouns that the parser reads.
NOUNS: dict[str, tuple[str, ...]] = {name: noun.synonyms for name, noun in CATEGORIES.items() if noun.parsed}
NOUN_OF = {n.lower(): noun for noun, others in NOUNS.items() for n in (noun, *others)}
# They stand for a noun, and a word of a modality, that are not built in while an expression is read (see `nouns`).
HIDDEN_NOUN = r"[ax]ɴ\d+"
HIDDEN_MODALITY = r"[ax]ᴍ\d+"
_SEEN_BY = rf"(?:SAR|radar|optical|{HIDDEN_MODALITY})"
NOUN_WORDS = "|".join([*(re.escape(n) for n in sorted(NOUN_OF, key=len, reverse=True)), HIDDEN_NOUN])
NOUN = re.compile(rf"\b({NOUN_WORDS})(?:s|es)?\b", re.IGNORECASE)
ATTRIBUTES = rf"(?:(?:{_SEEN_BY}|big|large|huge|small|tiny) )*"  # what may stand between a side and a noun

# Words for the whole image, as in "the top of the image".
IMAGE_WORDS = ("image", "picture", "scene", "photo")
IMAGE = rf"(?:{'|'.join(IMAGE_WORDS)}|photograph|view|frame)"
OF_IMAGE = rf"(?:of|in) (?:the|this) (?:(?:{_SEEN_BY}|aerial|satellite) )?{IMAGE}"
# "on the left of the bridge": a relation, unless it goes on with the image itself.
NOT_IMAGE = rf"(?! (?:(?:the|this) )?(?:(?:{_SEEN_BY}|aerial|satellite) )?{IMAGE}\b)"

SIDES = ("left", "right", "top", "bottom")
# Every word that names a side of the image, and the side.
SIDE_OF = {side: side for side in SIDES} | {
    "upper": "top", "up": "top", "above": "top", "further up than": "top", "north": "top",
    "lower": "bottom", "down": "bottom", "below": "bottom", "beneath": "bottom", "under": "bottom",
    "underneath": "bottom", "further down than": "bottom", "south": "bottom", "west": "left", "east": "right",
}  # fmt: skip
# What English calls a vertical side: "the upper part", "facing up". Left and right have one name.
UPPER_LOWER = {"top": "upper", "bottom": "lower"}
UP_DOWN = {"top": "up", "bottom": "down"}
WIND = {"top": "north", "bottom": "south", "left": "west", "right": "east"}  # of an image whose north is up
_PAIRS_X = (("left", "right"), ("leftmost", "rightmost"), ("leftward", "rightward"), ("leftwards", "rightwards"))
_PAIRS_Y = (
    ("top", "bottom"), ("topmost", "bottommost"), ("upper", "lower"), ("uppermost", "lowermost"), ("up", "down"),
    ("upward", "downward"), ("upwards", "downwards"), ("above", "below"), ("highest", "lowest"),
)  # fmt: skip
MIRROR_X = {a: b for p in _PAIRS_X for a, b in (p, p[::-1])}  # what a left-right mirror does to a word
MIRROR_Y = {a: b for p in _PAIRS_Y for a, b in (p, p[::-1])}
OPPOSITE = MIRROR_X | MIRROR_Y

Place = tuple[str | None, str | None]  # (column, row); None: anywhere on that axis
# Halves of the image; the thirds of a place have the sides' own names.
HALVES: dict[str, Place] = {
    "left": ("left half", None), "right": ("right half", None), "top": (None, "top half"), "bottom": (None,
             "bottom half"),
}  # fmt: skip
# The nine places of an image, in the data sets' own words.
CELLS: dict[Place, str] = {
    ("left", "top"): "in the upper left corner", ("right", "top"): "in the upper right corner",
    (None, "top"): "at the top",
    ("left", None): "on the left side", ("middle", "middle"): "in the middle", ("right", None): "on the right side",
    ("left", "bottom"): "in the lower left corner", (None, "bottom"): "at the bottom",
    ("right", "bottom"): "in the lower right corner",
}  # fmt: skip


def count_of(word: str) -> int:
    """Return the number that a numeral says: "two" and "2" give 2."""
    return int(word) if word.isdigit() else (*NUMBERS, "eleven", "twelve").index(word.lower()) + 2


def superlative_of(found: re.Match[str]) -> str:
    """Return the superlative of a match of `SUPERLATIVE`: left, right, top, bottom, largest or smallest."""
    side = found["most"] or found["near"] or found["far"]
    return SIDE_OF[side.lower()] if side else "bottom" if found["low"] else "largest" if found["big"] else "smallest"


def cell_of(side: str) -> Place:
    """Return the place at a side of the image."""
    return (side, None) if side in ("left", "right") else (None, side)


CENTRE_WORDS = ("middle", "center", "centre", "central")
CENTRE = rf"(?:{'|'.join(CENTRE_WORDS)})"
_SIDE_NOUN = r"(?:corner|side|part|area|region|section|portion|edge|end|zone|border|margin)"
_ANY_PLACE = rf"(?:(?:far|very) )?(?:left|right|top|bottom|upper|lower|{CENTRE})\b"
# One place phrase; groups: v h (both axes) | m (middle) | one (a single direction, needs a preposition or a side noun).
PLACE = re.compile(
    rf"(?:\b(?P<prep>in|at|on|near|within|close to|near to|next to)(?P<the> the)? (?:far |very )?|\b)(?:"
    rf"(?P<v>upper|top|lower|bottom)[ -](?:hand[ -])?(?P<h>left|right)"
    # "upper middle" and "left center" are neither a middle nor a side
    rf"|(?<!upper )(?<!lower )(?<!left )(?<!right )(?P<m>{CENTRE})(?:[ -](?P<mh>left|right|top|bottom))?"
    # nor is "lower" in "the lower left part of the basin"
    rf"|(?P<one>left|right|top|bottom|upper|lower)(?![ -]{CENTRE}\b|[ -](?:hand[ -])?(?:left|right)\b)"
    # "in the middle of the harbor" is no place in the image
    rf")(?:[ -]hand)?(?P<side>[ -]{_SIDE_NOUN})?\b(?!(?:[ -]{_SIDE_NOUN})?,? of{NOT_IMAGE})",
    re.IGNORECASE,
)

RELATIONS: dict[str, tuple[str, ...]] = {  # the first one is the data sets' own
    "left": ("to the left of", "on the left of", "left of", "on the left side of"),
    "right": ("to the right of", "on the right of", "right of", "on the right side of"),
    "top": ("above", "on the upper side of", "further up than"),
    "bottom": ("below", "on the lower side of", "further down than"),
}
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_GROUP = rf"(?:{'|'.join(NUMBERS)}|\d+|both|pair|couple)"
RELATION = re.compile(
    r"\b(?:is )?(?:(?:located )?(?:to|on|at|in) the )?(?P<diagonal>(?:upper|lower|top|bottom)[ -](?:left|right))"
    rf"(?:[ -]hand)?(?: corner| side)? of{NOT_IMAGE}"
    # "the left of the two ships" is one of them
    rf"|\b(?:(?:to|on|at|in) the (?:far )?|(?!(?:(?<=the )|(?<!\w ))\w+ of (?:(?:the|these|those) )?{_GROUP}\b))"
    rf"(?P<h>left|right)(?:[ -]hand)?(?: side)? of{NOT_IMAGE}"
    rf"|\bon the (?P<v>upper|lower) side of{NOT_IMAGE}"
    rf"|\b(?:in the )?(?P<w>above|below|beneath|underneath|under|further up than|further down than)\b(?: of\b)?(?= \w)"
    rf"|\b(?P<other>(?:(?:a little|a bit|slightly|much) )?(?:smaller|bigger|larger) than|similar in size to"
    rf"|(?:next to|beside|near to|close to)(?! (?:the )?{_ANY_PLACE})|between|behind|in front of|inside|outside"
    r"|surrounded by|than|around"
    rf"|near (?=an? )|with|similar"
    rf"|(?:located|driving|parked|lying|standing|anchored|going) (?:in|on|at|through)(?! the {_ANY_PLACE})"
    rf"|has(?= (?:the|an?)\b)|in the (?=(?:\w+ ){{0,6}}(?:stadium|service area)\b))\b",
    re.IGNORECASE,
)

SUPERLATIVES: dict[str, tuple[str, ...]] = {
    "left": ("leftmost",), "right": ("rightmost",), "top": ("topmost",), "bottom": ("bottommost",),
    "largest": ("largest", "biggest"), "smallest": ("smallest",),
}  # fmt: skip
_OF_OTHER = rf"(?:[ -]hand)?(?:[ -]{_SIDE_NOUN})? of{NOT_IMAGE}(?! (?:all|any|them|these|those)\b)"
SUPERLATIVE = re.compile(
    r"\b(?:(?P<most>left|right|top|bottom|upper|lower)-?most"
    r"|(?:closest|nearest)(?: to)? the (?P<near>left|right|top|bottom|upper|lower)(?:[ -]hand)?"
    # a corner is no side of its own: "nearest the bottom left corner"
    r"(?: (?:edge|side|border))?(?![ -](?:hand[ -])?(?:left|right)\b)"
    # nor is that of another thing: "nearest the left end of the pier", "closest to the upper pier"
    rf"(?!{_OF_OTHER})(?!(?:[ -]hand)?(?: (?:edge|side|border))? (?!(?:{CONTINUES.pattern})\b)\w)"
    r"|(?:furthest|farthest)(?: to the| to| towards? the)? (?P<far>left|right|top|bottom)(?![ -](?:left|right)\b)"
    rf"(?!{_OF_OTHER})"
    r"|(?P<low>lowest)|(?P<big>largest|biggest)|(?P<small>smallest|tiniest))\b",
    re.IGNORECASE,
)
ORDINAL_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
ORDINALS: dict[str, int] = {
    **{word: n for n, word in enumerate(ORDINAL_WORDS, 1)},
    **{f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n, 'th') }": n for n in range(1, len(ORDINAL_WORDS) + 1)},
}
_ORDINAL = rf"(?P<ordinal>{'|'.join(ORDINALS)})"
_END = r"(?P<from>left|right|top|bottom)(?:(?:[ -]hand)? (?:edge|side|end|border))?(?![ -](?:hand|left|right|corner)\b)"
_END += rf"(?! of{NOT_IMAGE})"
_COUNTED = r"(?:(?:when |if )?(?:you )?count(?:ed|ing)? |in line |going )?"
# "the second leftmost ship", "the third largest tank", "the ship second closest to the top".
ORDINAL_SUPERLATIVE = re.compile(rf"\b{_ORDINAL}[ -](?=(?P<superlative>{SUPERLATIVE.pattern}))", re.IGNORECASE)
# "the second ship from the left", "counting from the left, the third ship". The words between them are a noun with its
# attributes: in "the first of the four ships from the left" others are counted.
ORDINAL_FROM = re.compile(
    rf"\b{_ORDINAL}"
    r"(?P<between>(?: (?!(?:of|from|in|on|at|near|and|row|column|line|when|if|count\w*)\b)[\w'-]+){0,5}),? "
    rf"{_COUNTED}from the {_END}|\bcounting from the {_END.replace('<from>', '<start>')},? "
    rf"(?P<head>(?:the )?){_ORDINAL.replace('<ordinal>', '<nth>')}\b",
    re.IGNORECASE,
)
# "nearest to the bridge", "closest ship to the bridge", "furthest from the bridge": the noun that follows is compared.
DISTANCE = re.compile(
    r"\b(?:(?:that|which) (?:is|lies|stands) |lying |located )?(?:(?:(?P<near>nearest|closest)"
    r"(?P<a>(?: (?!(?:to|the|from|of|and)\b)[\w'-]+){0,4}?)(?: to)?)"
    r"|(?:(?P<far>furthest|farthest)(?P<b>(?: (?!(?:to|the|from|of|and)\b)[\w'-]+){0,4}?)(?: away)? from))"
    r" (?=(?:the|an?) )",
    re.IGNORECASE,
)
HALF = re.compile(
    r"\b(?:in|on|within|across|over) the (?P<half>left|right|top|bottom|upper|lower)(?:[ -]hand)? half\b"
    rf"(?!,? of{NOT_IMAGE})",
    re.IGNORECASE,
)
# "right of the middle", "a bit below the centre of the image", "up and to the left of the centre": halves of the image.
BESIDE_CENTRE = re.compile(
    r"\b(?P<about>(?:(?:just|slightly|well|far|somewhat|directly|immediately|a (?:little|bit|touch|tad|hair)(?: bit)?"
    r"|right(?= (?:above|below|beneath|under)\b)),? )*)"
    r"(?:(?:(?P<up>above|below|up|down),? and )?(?:(?:to|on|at) the )?(?:(?P<v>upper|lower|top|bottom)[ -])?"
    r"(?P<h>left|right)(?:[ -]hand)?(?: side)? of|(?P<w>above|below|beneath|under))"
    rf" (?:the )?(?:exact |very |dead )?{CENTRE}(?: line| axis| point)?\b(?!,? of{NOT_IMAGE})"
    rf"(?![ -](?!(?:{CONTINUES.pattern})\b)\w)",
    re.IGNORECASE,
)
# How a set begins: "all ships", "both ships", "the two ships", "every ship", "there are three ships", "two ships".
SET = re.compile(
    r"^(?:there are |here are )?(?:only |just |exactly )?"
    r"(?:(?P<pair>(?:a|the) (?:pair|couple) of(?: (?:the|these|those))?)"
    r"|(?P<all>all|every single|every|each|both|any and all)(?: of)?(?: (?:the|these|those))?|these|those|the)?"
    rf"(?: ?\b(?P<number>{'|'.join(NUMBERS)}|eleven|twelve|[1-9]\d{{0,2}})\b)?",
    re.IGNORECASE,
)

SIZES: dict[str, tuple[str, ...]] = {  # the common words first
    "big": ("big", "large", "huge", "sizeable"),
    "small": ("small", "little", "tiny"),
}
SIZE = re.compile(
    rf"\b(?:(?P<big>{'|'.join(SIZES['big'])})|(?P<small>{'|'.join(SIZES['small'])}))\b"
    r"(?! (?:smaller|bigger|larger)\b)",
    re.IGNORECASE,
)

COLOURS = ("red", "green", "blue", "white", "black", "gray", "yellow", "orange", "brown", "purple", "cyan", "pink")
COLOUR = re.compile(
    rf"\b(?:{'|'.join(COLOURS)}|grey|beige|tan|gold|golden|silver|turquoise|teal|maroon|violet|magenta|crimson|redd)"
    r"(?:ish|s|ed|ful)?\b|\bcolou?r",
    re.IGNORECASE,
)

# Words of the colours that pixels tell (`data.colours`). Gray is not among them: most of an image is gray.
COLOUR_WORDS = {
    "red": "red", "crimson": "red", "orange": "orange", "yellow": "yellow", "golden": "yellow", "green": "green",
    "blue": "blue", "turquoise": "blue", "purple": "purple", "violet": "purple", "brown": "brown", "white": "white",
    "black": "black",
}  # fmt: skip
SHADES = frozenset("bright brightly light dark pale deep vivid all mostly purely plain".split())

MODALITIES: dict[str, tuple[str, ...]] = {"sar": ("SAR", "radar"), "optical": ("optical",)}
MODALITY = re.compile(
    rf"\b(?:in the (?:(?P<a>SAR|radar)|(?P<b>optical)|(?P<c>{HIDDEN_MODALITY})) {IMAGE}"
    rf"|(?P<sar>SAR|radar)|(?P<opt>optical)|(?P<own>{HIDDEN_MODALITY}))\b",
    re.IGNORECASE,
)

# Words that claim nothing.
FILLERS = frozenset(
    "a an the this that there is are of in at on near to image picture scene photo photograph view frame find show me "
    "where look for mark point select please and i am looking which its it's one visible seen located".split()
)

RESERVED = re.compile(
    r"\b(aeroplanes?|water-?crafts?|(left|right)[- ]hand|uppermost|lowermost|towards the|portions?|frames?|locate"
    r"|tiny|sizeable|oil reservoirs?|wharfs?|wharves|racetracks?|automobiles?|ball ?fields?|radar[- ]imaged|situated"
    r"|extreme|beneath|westernmost|easternmost)\b",
    re.IGNORECASE,
)
RESERVED_SIZES = {"big": "sizeable", "small": "tiny"}
