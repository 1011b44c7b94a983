"""The vocabulary of referring expressions, and reading one.

`parse` reads a caption into what it claims: category, modality, size, place, extreme, relation. Whether a claim holds
for given boxes is decided in `verify`, saying it in other words is done in `paraphrase`,
exchanging single words in `optisar_yolo.language`, mirroring and turning in `transform`; `language` is the
public door to all of them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

# Canonical noun -> other names for the same thing; the first ones are the names used by the remote-sensing data sets.
# An empty tuple: the noun is recognised and never re-said.
NOUNS: dict[str, tuple[str, ...]] = {
    "airplane": ("aircraft", "plane"),
    "baseball diamond": ("baseball field", "baseball pitch"),
    "basketball court": ("basketball field", "court for basketball"),
    "bridge": ("bridge",),
    "crossroad": ("crossroads", "intersection", "road crossing"),
    "ground track field": ("running track", "athletics track", "track field"),
    "harbor": ("harbour", "port", "dock"),
    "parking lot": ("car park", "parking area"),
    "ship": ("vessel", "boat"),
    "storage tank": ("oil tank", "tank"),
    "swimming pool": ("pool",),
    "T junction": ("T-junction", "three-way junction"),
    "tennis court": ("tennis field", "court for tennis"),
    "transmission tower": ("power pylon", "electricity tower", "pylon"),
    "vehicle": ("car",),
    "airport": (), "chimney": (), "dam": (), "expressway service area": (), "expressway toll station": (),
    "golf field": (), "overpass": (), "stadium": (), "train station": (), "windmill": (), "helicopter": (),
    "roundabout": (), "soccer ball field": (), "container crane": (),
}  # fmt: skip
_NOUN_OF = {n.lower(): noun for noun, others in NOUNS.items() for n in (noun, *others)}
NOUN_WORDS = "|".join(re.escape(n) for n in sorted(_NOUN_OF, key=len, reverse=True))
ATTRIBUTES = r"(?:(?:SAR|radar|optical|big|large|huge|small|tiny) )*"  # what may stand between a side and a noun
_NOUN = re.compile(rf"\b({NOUN_WORDS})(?:s|es)?\b", re.IGNORECASE)

# Words for the whole image, as in "the top of the image".
IMAGE = r"(?:image|picture|scene|photo|photograph|view|frame)"
OF_IMAGE = rf"(?:of|in) (?:the|this) (?:(?:SAR|radar|optical|aerial|satellite) )?{IMAGE}"
# "on the left of the bridge": a relation, unless it goes on with the image itself.
NOT_IMAGE = rf"(?! (?:(?:the|this) )?(?:(?:SAR|radar|optical|aerial|satellite) )?{IMAGE}\b)"
_SIDE_NOUN = r"(?:corner|side|part|area|region|section|portion|edge|end|zone)"
_VERTICAL = {"upper": "top", "top": "top", "lower": "bottom", "bottom": "bottom"}
_CENTRE = r"(?:middle|center|centre|central)"
_ANY_PLACE = rf"(?:(?:far|very) )?(?:left|right|top|bottom|upper|lower|{_CENTRE})\b"
# One place phrase; groups: v h (both axes) | m (middle) | one (a single direction, needs a preposition or a side noun).
PLACE = re.compile(
    rf"(?:\b(?P<prep>in|at|on|near|within)(?P<the> the)? (?:far |very )?|\b)(?:"
    rf"(?P<v>upper|top|lower|bottom)[ -](?:hand[ -])?(?P<h>left|right)"
    # "upper middle" and "left center" are neither a middle nor a side
    rf"|(?<!upper )(?<!lower )(?<!left )(?<!right )(?P<m>{_CENTRE})(?:[ -](?P<mh>left|right|top|bottom))?"
    rf"|(?P<one>left|right|top|bottom|upper|lower)(?! {_CENTRE}\b)"
    # "in the middle of the harbor" is no place in the image
    rf")(?:[ -]hand)?(?P<side>[ -]{_SIDE_NOUN})?\b(?!(?:[ -]{_SIDE_NOUN})? of{NOT_IMAGE})",
    re.IGNORECASE,
)
RELATION = re.compile(
    r"\b(?:is )?(?:(?:located )?(?:to|on|at|in) the )?(?P<diagonal>(?:upper|lower|top|bottom)[ -](?:left|right))"
    rf"(?: corner| side)? of{NOT_IMAGE}"
    rf"|\b(?:(?:to|on|at|in) the (?:far )?)?(?P<h>left|right)(?: side)? of{NOT_IMAGE}"
    rf"|\bon the (?P<v>upper|lower) side of{NOT_IMAGE}"
    rf"|\b(?:in the )?(?P<w>above|below|beneath|underneath|under|further up than|further down than)\b(?: of\b)?(?= \w)"
    rf"|\b(?P<other>(?:(?:a little|a bit|slightly|much) )?(?:smaller|bigger|larger) than|similar in size to"
    rf"|next to|beside|near to|close to|between|behind|in front of|inside|outside|surrounded by|than|around"
    rf"|near (?=an? )|with|similar"
    rf"|(?:located|driving|parked|lying|standing|anchored|going) (?:in|on|at|through)(?! the {_ANY_PLACE})"
    rf"|has(?= (?:the|an?)\b)|in the (?=(?:\w+ )?stadium))\b",
    re.IGNORECASE,
)
_RELATION_OF = {
    "above": "top", "further up than": "top", "upper": "top", "below": "bottom", "beneath": "bottom", "lower": "bottom",
    "underneath": "bottom", "under": "bottom", "further down than": "bottom", "left": "left", "right": "right",
}  # fmt: skip
_MOST = {"left": "left", "right": "right", "top": "top", "bottom": "bottom", "upper": "top", "lower": "bottom"}
EXTREME = re.compile(
    r"\b(?:(?P<most>left|right|top|bottom|upper|lower)-?most"
    r"|(?:closest|nearest)(?: to)? the (?P<near>left|right|top|bottom|upper|lower)(?:[ -]hand)?"
    r"(?: (?:edge|side|border))?"
    r"|(?:furthest|farthest)(?: to the| to| towards? the)? (?P<far>left|right|top|bottom)"
    r"|(?P<big>largest|biggest)|(?P<small>smallest|tiniest))\b",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"\b(?:(?P<big>big|large|huge|sizeable)|(?P<small>small|tiny|little))\b(?! (?:smaller|bigger|larger)\b)",
    re.IGNORECASE,
)
_MODALITY = re.compile(
    rf"\b(?:in the (?:(?P<a>SAR|radar)|(?P<b>optical)) {IMAGE}|(?P<sar>SAR|radar)|(?P<opt>optical))\b", re.IGNORECASE
)
# Words that claim nothing.
_EMPTY = frozenset(
    "a an the this that there is are of in at on near to image picture scene photo photograph view frame find show me "
    "where look for mark point select please and i am looking which its it's one visible seen located".split()
)
_WORD = re.compile(r"[\w'-]+")
# OPT-RSVG's way to say a relation: "There is a bridge, and the ship that needs to be found is located in ... of it".
_OF_IT = re.compile(
    r"there is (?P<reference>an? .+?) ?,? ?and (?P<head>the .+? )that needs to be found "
    r"(?P<relation>is (?:.+? of|(?:located )?(?:above|below))) it",
    re.IGNORECASE,
)
# The data sets' own wording of places, extremes and relations.
CELLS: dict[tuple[str | None, str | None], str] = {
    ("left", "top"): "in the upper left corner", ("right", "top"): "in the upper right corner",
    (None, "top"): "at the top",
    ("left", None): "on the left side", ("middle", "middle"): "in the middle", ("right", None): "on the right side",
    ("left", "bottom"): "in the lower left corner", (None, "bottom"): "at the bottom",
    ("right", "bottom"): "in the lower right corner",
}  # fmt: skip
FRAMES = ("The {}", "A {}", "There is a {}")
RELATION_WORDS = {"left": "to the left of", "right": "to the right of", "top": "above", "bottom": "below"}
EXTREME_WORDS = {
    "left": "The leftmost {}", "right": "The rightmost {}", "top": "The {} closest to the top of the image",
    "bottom": "The {} closest to the bottom of the image", "largest": "The largest {}", "smallest": "The smallest {}",
}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """What a caption claims.

    Attributes:
        category: Canonical noun of the object meant ("ship"), None when no known noun was read.
        modality: "sar", "optical", or None when the caption does not say.
        size: "big", "small" or None.
        place: (column, row), column left/middle/right/None and row top/middle/bottom/None; None: no place said.
        extreme: left/right/top/bottom/largest/smallest, or None.
        relation: left/right/top/bottom of `reference`, "other" for a relation that leans on more than a category or is
            not modelled, or None.
        reference: Canonical noun of the object that the relation leans on.
        offset: (column, row) of the object seen from `landmark`, for an "other" relation that says so, or None.
        landmark: The words for the object that the offset counts from ("the small bridge in the middle"), or None.
        rest: Words left over, each an unread claim ("white", "rounded").
        definite: The caption points at one object ("the …", "find the …") rather than mentions one ("a …").
    """

    category: str | None
    modality: str | None = None
    size: str | None = None
    place: tuple[str | None, str | None] | None = None
    extreme: str | None = None
    relation: str | None = None
    reference: str | None = None
    offset: tuple[str | None, str | None] | None = None
    landmark: str | None = None
    rest: tuple[str, ...] = ()
    definite: bool = False


def clean(text: object) -> str:
    """Return the text without control characters and surplus white space.

    Args:
        text: An expression, a string with at least one visible character.

    Raises:
        ValueError: Not a string, or nothing to read in it.
    """
    if not isinstance(text, str):
        raise ValueError(f"an expression must be a string, got {type(text).__name__}: {text!r}; e.g. text='the ship'")
    # Tabs and line ends are control characters too: they become spaces, the invisible rest goes.
    spaced = re.sub(r"\s+", " ", text)
    shown = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    shown = re.sub(r" +", " ", shown).strip()
    if not shown:
        raise ValueError(f"an expression must say something, got {text!r}; e.g. text='the ship in the upper left'")
    return shown


def noun_of(name: str) -> str:
    """Return the canonical noun of a category name: "optical harbour" and "port" give "harbor"; unknown names stay."""
    bare = re.sub(r"^(?:optical|sar) ", "", name, flags=re.IGNORECASE)
    return _NOUN_OF.get(bare.lower(), bare)


def _take(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    """Find the pattern's first match and return it with the text without it (a bar marks the hole)."""
    found = pattern.search(text)
    return found, text if found is None else f"{text[: found.start()]}|{text[found.end() :]}"


def read_place(found: re.Match[str]) -> tuple[str | None, str | None] | None:
    """Return (column, row) of a place match; None for a lone direction that is no place ("the left ship")."""
    if found["v"]:
        return found["h"].lower(), _VERTICAL[found["v"].lower()]
    one = (found["mh"] if found["m"] else found["one"]) or ""
    if found["m"] and not one:
        return "middle", "middle"
    if not (found["prep"] or found["side"]):
        return None
    one = one.lower()
    return (one, None) if one in ("left", "right") else (None, _VERTICAL[one])


def _offset(found: re.Match[str]) -> tuple[str | None, str | None] | None:
    """Return (column, row) of the side that a relation match names."""
    if found["diagonal"]:
        row, column = re.split(r"[ -]", found["diagonal"].lower())
        return column, _VERTICAL[row]
    word = found["h"] or found["v"] or found["w"]
    side = _RELATION_OF[word.lower()] if word else None
    return ((side, None) if side in ("left", "right") else (None, side)) if side else None


@lru_cache(maxsize=1 << 17)
def parse(caption: str) -> Meaning:
    """Read a caption into its claims.

    Args:
        caption: An English expression, any case.

    Returns:
        The claims read; what could not be read stands in `Meaning.rest`.
    """
    head = clean(caption).rstrip(".?!")
    found = _OF_IT.fullmatch(head)
    if found:
        head = f"{found['head']}{found['relation']} {found['reference']}"
    head = re.sub(r" +", " ", head.replace(",", " "))
    relation = reference = offset = landmark = None
    found = RELATION.search(head)
    if found:
        word = found["h"] or found["v"] or found["w"]
        relation = _RELATION_OF[word.lower()] if word else "other"
        head, tail = head[: found.start()], head[found.end() :]
        noun = _NOUN.search(tail)
        reference = _NOUN_OF[noun[1].lower()] if noun else None
        # A reference with its own attributes ("the grey bridge in the middle") is more than a category: not modelled.
        others = _NOUN.sub(" ", re.sub(OF_IMAGE, " ", tail)).lower()
        if reference is None or set(_WORD.findall(others)) - _EMPTY - {"sar", "optical", "radar"}:
            offset = _offset(found) if reference else None
            landmark = tail.strip() if offset else None
            relation = "other"
    found, head = _take(EXTREME, head)
    extreme = None
    if found:
        side = found["most"] or found["near"] or found["far"]
        extreme = _MOST[side.lower()] if side else "largest" if found["big"] else "smallest"
    modality = None
    while True:
        found = _MODALITY.search(head)
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
    found, head = _take(_SIZE, head)
    size = ("big" if found["big"] else "small") if found else None
    found, head = _take(_NOUN, head)
    category = _NOUN_OF[found[1].lower()] if found else None
    words = _WORD.findall(head.lower())
    rest = tuple(w for w in words if w not in _EMPTY)
    definite = extreme is not None or bool(re.search(r"\bthe \|", head.lower()))
    return Meaning(category, modality, size, place, extreme, relation, reference, offset, landmark, rest, definite)


def takes_an(word: str) -> bool:
    """Tell whether a word takes "an"."""
    return word[:1].lower() in "aeiou" and not word.lower().startswith(("uni", "one", "eu"))


def agree(text: str) -> str:
    """Return the text with every a/an before a vowel letter, or before another one, as English wants it."""

    def fit(found: re.Match[str]) -> str:
        return dress("an" if takes_an(found[2]) else "a", found[1][0]) + f" {found[2]}"

    return re.sub(r"\b(an?)\s+([\w-]+)", fit, text, flags=re.IGNORECASE)


def dress(word: str, like: str) -> str:
    """Give a word the letter case of the one it replaces; acronyms (SAR) count as lower case, and stay as they are."""
    if like.isupper() and len(like) > 1 and like != "SAR":
        return word.upper()
    if like[0].isupper() and like != "SAR" and word != "SAR":
        return word[0].upper() + word[1:]
    return word


def put(text: str, start: int, end: int, new: str) -> str:
    """Replace text[start:end] and make the article in front of it agree when it agreed before."""
    old = text[start:end]
    head = text[:start]
    article = re.search(r"\b(an?)( )$", head, re.IGNORECASE)
    if article and takes_an(old) == (article[1].lower() == "an") and takes_an(new) != takes_an(old):
        head = head[: article.start()] + dress("an" if takes_an(new) else "a", article[1][0]) + " "
    return head + (new[0].upper() + new[1:] if start == 0 and old[0].isupper() else new) + text[end:]
