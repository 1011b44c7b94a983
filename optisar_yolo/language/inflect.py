"""Numbers of nouns: plurals and singulars of any noun, and nouns that are said in the plural or without an article.

`plural` writes English. `plurals` and `singulars` give every form that is read, wrong ones included.
"""

from __future__ import annotations

import re
from typing import Literal

_SHORTEST = 3  # letters of words whose last letter is no plural's: "gas", "bus"
_IRREGULAR = {
    "person": "people", "child": "children", "mouse": "mice", "goose": "geese", "ox": "oxen", "tooth": "teeth",
    "foot": "feet", "thief": "thieves", "passer-by": "passers-by", "potato": "potatoes", "tomato": "tomatoes",
    "volcano": "volcanoes", "mosquito": "mosquitoes", "torpedo": "torpedoes", "tumulus": "tumuli",
    "nucleus": "nuclei", "radius": "radii", "fungus": "fungi", "stimulus": "stimuli", "axis": "axes", "basis": "bases",
    "oasis": "oases", "datum": "data", "bacterium": "bacteria", "matrix": "matrices", "vertex": "vertices",
}  # fmt: skip
_REGULAR = {several: one for one, several in _IRREGULAR.items()}
_SAME = (
    "craft sheep fish series species deer moose bison salmon trout offspring swine works barracks headquarters"
    " crossroads gallows corps means"
).split()
# Words that end as a plural does and are none.
_NO_PLURAL = frozenset("canvas lens atlas alias".split())
_MASS = frozenset(
    "vegetation rubble debris gravel machinery equipment rubbish garbage scrap luggage baggage freight traffic scrub"
    " brushwood undergrowth foliage smoke seaweed mud sand snow ice grass wheat maize rice straw hay livestock farmland"
    " grassland woodland shrubland wetland water".split()
)
_HEAD = re.compile(r"(\S+)( (?:of|for|with|under|in|on) .+)")  # "ships under construction": the ships are several


def _last(noun: str) -> tuple[str, str]:
    """Return a noun's last word, lower case, and what stands before it: "hay", "bale"."""
    start = max(noun.rfind(" "), noun.rfind("_")) + 1
    return noun[start:].lower(), noun[:start]


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like.isupper() else word


def number_of(noun: str) -> Literal["one", "several", "mass"]:
    """Tell whether a noun names one thing ("ship"), several ("hay bales"), or what is not counted ("rubble")."""
    head = _HEAD.match(noun)
    if head:
        return number_of(head[1])
    last = _last(noun)[0]
    if last in _MASS:
        return "mass"
    if last in _REGULAR or last == "cattle":
        return "several"
    if last.endswith(tuple(_SAME)) or last in _NO_PLURAL:
        return "one"
    return "several" if singulars(noun) else "one"


def mentions(noun: str) -> tuple[str, str]:
    """Return the two frames that mention an object: "A {}" and "There is a {}"; "There are {}" for "hay bales"."""
    return {
        "one": ("A {}", "There is a {}"), "several": ("{}", "There are {}"), "mass": ("{}", "There is {}")
    }[number_of(noun)]  # fmt: skip


def plurals(noun: str) -> tuple[str, ...]:
    """Return the plurals that English may form of a noun, some of them wrong; its own form ("aircraft") is left out."""
    made = [f"{noun}s", f"{noun}es"]
    low = noun.lower()
    last, before = _last(noun)
    if last in _IRREGULAR:
        made.append(before + _cased(_IRREGULAR[last], noun[len(before)]))
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        made.append(f"{noun[:-1]}ies")
    if low.endswith(("f", "fe")):
        made.append(f"{noun[: low.rindex('f')]}ves")
    if low.endswith("man"):
        made.append(f"{noun[:-2]}en")
    head = _HEAD.match(noun)
    return (*made, *(word + head[2] for word in plurals(head[1]))) if head else tuple(made)


def plural(noun: str) -> str:
    """Return the plural of a noun as English writes it: "ships", "ferries", "ships under construction", "aircraft"."""
    low = noun.lower()
    head = _HEAD.match(noun)
    if head:
        return plural(head[1]) + head[2]
    last, before = _last(noun)
    if low.endswith(tuple(_SAME)) or number_of(noun) != "one":  # "solar panels" is a plural
        return noun
    if last in _IRREGULAR:
        return before + _cased(_IRREGULAR[last], noun[len(before)])
    if low.endswith("y") and low[-2:-1] not in ("", *"aeiou"):
        return f"{noun[:-1]}ies"
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if re.search(r"(?:^|[ -])(?:wharf|shelf|half|leaf|loaf|calf|knife|wife|life)$", low):
        return f"{noun[: low.rindex('f')]}ves"
    if re.search(r"(?:^|[ -])(?:fire|police|fisher|work)?(?:wo)?man$", low):
        return f"{noun[:-2]}en"
    return f"{noun}s"


def singulars(noun: str) -> tuple[str, ...]:
    """Return the singulars of a name that may be a plural ("solar panels"); none for "bus", "glass" and "gas"."""
    low = noun.lower()
    last, before = _last(noun)
    if last in _REGULAR:
        return (before + _cased(_REGULAR[last], noun[len(before)]),)
    if not low.endswith("s") or low.endswith(("ss", "us", "is")) or len(last) <= _SHORTEST or last in _NO_PLURAL:
        return ()
    if low.endswith("ies"):
        return (f"{noun[:-3]}y",)
    return (noun[:-2],) if low.endswith(("xes", "ches", "shes", "sses")) else (noun[:-1],)
