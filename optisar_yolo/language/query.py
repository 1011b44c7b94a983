"""Queries: which objects an expression means, read as a search for a category and a choice among what is found.

"The second ship from the left" is a search for "a ship" (its core) and a choice, the second of these from the left.
`read_query` reads an expression in these steps, each of which takes its words out:

1. A command, a lead-in and a question about a number ("how many ships are there") leave the objects that are meant.
2. A relation to another kind leaves its reference: "the plane furthest from the harbor" compares with "a harbor".
3. Ordinals ("third from the top", "second largest", "the middle one of the three") and superlatives.
4. A quantifier or a plural: "all ships", "the two tanks", "airplanes".
5. A place in the image.
6. What remains is the category with its attributes, "a small ship". A colour is taken out of these, as pixels tell it
   better than the network. Where other words remain, the expression was not understood to its end, and the network
   alone decides what it means.

`optisar_yolo.language.choice` chooses. Images and rasters use the same queries; `optisar_yolo.language.raster_query`
adds what is particular to rasters, which are searched in tiles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from optisar_yolo.language.coloured import split_colour
from optisar_yolo.language.compass import has_compass, without_compass
from optisar_yolo.language.edit import agree, clean, correct
from optisar_yolo.language.idioms import NEGATION, split_request
from optisar_yolo.language.notes import COUNT, read_notes
from optisar_yolo.language.nouns import BUILT_IN, Hidden, Vocabulary
from optisar_yolo.language.parser import parse, read_place
from optisar_yolo.language.query_words import (
    BETWEEN,
    BY_SUPERLATIVE,
    CENTRE_OF_IMAGE,
    COMPARATIVE,
    COUNT_TAIL,
    COUNTING,
    DETERMINER,
    FROM_SIDE,
    FURTHER,
    FURTHEST,
    GROUP,
    HALF,
    INSIDE,
    LEAD,
    LONE,
    LOWEST,
    MIDDLE,
    NEAREST,
    NOT_WITHIN,
    NUMBER,
    ONE_CORNER,
    ONE_OF,
    ONE_SIDE,
    ORDINAL,
    PREPOSITION,
    QUANTIFIER,
    RELATIONS,
    TO_CENTRE,
    TO_CORNER,
    corner_of,
    number_of,
    side_of,
)
from optisar_yolo.language.transform import IDIOM
from optisar_yolo.language.vocabulary import (
    CELLS,
    CENTRE,
    FILLERS,
    MODALITY,
    NOUN,
    OF_IMAGE,
    PLACE,
    RELATION,
    SIDE_OF,
    SIDES,
    SUPERLATIVE,
    WIND,
    Place,
    superlative_of,
)

REASONED = ("set", "ordinal", "superlative", "relation", "colour")
"""Kinds of queries that are answered by a choice among the objects found for their category."""


@dataclass(frozen=True)
class ObjectQuery:
    """An expression as it was read: what is searched for, and which of the objects found are meant.

    Attributes:
        text: The expression.
        core: The expression that the objects are searched with ("a white ship").
        place: (column, row) in the image or raster, as in `ParsedExpression.place`, or None.
        superlative: left, right, top, bottom, largest or smallest; "upper left" and the other corners; "centre"
            (nearest to the middle of the image); "middle" (the middle one of a row); or None.
        ordinal: 1 for "the leftmost", 2 for "the second leftmost" …
        note: A message to the user about how the expression was read; may be empty.
        kind: "set", "ordinal", "superlative", "relation", "colour", "place", "category", or "whole" where the
            expression was not understood to its end.
        amount: Objects that are meant; None: all that match.
        group: Objects that it chooses from, where the expression says so ("of the three"), or None.
        relation: nearest, furthest, between, inside, left, right, top, bottom or a corner; None without a relation.
        reference: The objects that the relation compares with: one query, or two for "between a and b".
        counted: The expression asks how many there are.
        colour: Colour of the objects, which pixels tell: "a car" is searched for, and `said` is "a blue car".
        said: The core with the colour; empty without one.
    """

    text: str
    core: str
    place: Place | None = None
    superlative: str | None = None
    ordinal: int = 1
    note: str = ""
    kind: str = "whole"
    amount: int | None = 1
    group: int | None = None
    relation: str | None = None
    reference: tuple[ObjectQuery, ...] = ()
    counted: bool = False
    colour: str | None = None
    said: str = ""

    @property
    def reasoned(self) -> bool:
        """The objects are chosen among those found for the category."""
        return self.kind in REASONED

    @property
    def coloured(self) -> bool:
        """It is chosen by a colour, or compares with objects that are."""
        return self.colour is not None or any(query.coloured for query in self.reference)

    @property
    def cores(self) -> tuple[str, ...]:
        """The expressions to search with: its own, and those of its references."""
        return tuple(dict.fromkeys((self.core, *(core for query in self.reference for core in query.cores))))

    def __str__(self) -> str:
        """How the expression was read, in one line."""
        if not self.reasoned:
            return "as a whole, by the network"
        parts = [f'"{self.core}"'] + ([self.colour] if self.colour else [])
        if self.place:
            parts.append(CELLS.get(self.place, "in the middle"))
        if self.relation:
            others = " and ".join(f"({query})" if query.reasoned else f'"{query.core}"' for query in self.reference)
            of = {NEAREST: "nearest to", FURTHEST: "furthest from", BETWEEN: "between", INSIDE: "inside",
                  "top": "above", "bottom": "below"}  # fmt: skip
            parts.append(f"{of.get(self.relation, f'to the {self.relation} of')} {others}")
        if self.superlative in SIDES:
            parts.append(f"counted from the {self.superlative}")
        elif self.superlative:
            sizes = {"largest": "by size", "smallest": "by size, small ones first", MIDDLE: "the middle one of a row"}
            parts.append(sizes.get(self.superlative, f"by nearness to the {self.superlative}"))
        if self.kind not in ("set", "colour"):
            parts.append(f"number {self.ordinal}" + (f" of {self.group}" if self.group else ""))
        elif self.amount is None:
            parts.append("all, counted" if self.counted else "all")
        elif self.kind == "set":
            parts.append(f"{self.amount} of them")
        return ", ".join(parts)


@lru_cache(maxsize=1 << 14)
def read_query(text: str, vocabulary: Vocabulary = BUILT_IN) -> ObjectQuery:
    """Read an expression about an image.

    Args:
        text: An English expression.
        vocabulary: The nouns that are read, beside those that the text encoder knows.

    Returns:
        The query. Its kind is "whole" where the expression is beyond a choice among objects, or was not understood.

    Raises:
        ValueError: The text is empty.
    """
    text = clean(text)
    if not read_notes(text).grounded or NEGATION.search(text):
        return ObjectQuery(text, text)
    return _Reading(text, vocabulary.including(FURTHER)).query()


class _Reading:
    """Reads one expression: each step takes its words out of `rest`.

    Args:
        text: The expression, cleaned.
        vocabulary: The nouns that are read.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary = text, vocabulary
        self.hidden: Hidden = vocabulary.hide(text)
        self.rest = re.sub(r" +", " ", correct(self.hidden.text)).strip(" .?!,")
        self.note = ""
        self.failed = self.counted = self.complete = False
        self.half = False  # the place is a half of the image, which only a set is chosen by

    def query(self) -> ObjectQuery:
        """Read the expression."""
        self.counted = counted = self._lead()
        if has_compass(self.rest):
            try:
                self.rest = without_compass(self.rest, {wind: side for side, wind in WIND.items()})
            except ValueError:
                return ObjectQuery(self.text, self.text)
            self.note = "north is taken as up"
        modality = self._of_image()
        relation, reference = self._relation()
        superlative, ordinal, counting = self._superlative(relation)
        group = self._group() if superlative else None
        place = self._place()
        amount = self._amount(superlative is not None, counted)
        core, complete, colour, said = self._core(modality, amount)
        self.complete = complete and not self.failed
        if self.failed or not core or (relation in (NEAREST, FURTHEST, BETWEEN) and superlative and not counting):
            return ObjectQuery(self.text, self.text)
        if amount != 1:
            kind = "set"
        elif not complete:
            kind = "whole"
        elif superlative:
            kind = "ordinal" if counting else "superlative"
        else:
            kind = "relation" if relation else "colour" if colour else "place" if place else "category"
        if kind == "whole" or (kind == "set" and not complete and (relation or superlative)):
            return ObjectQuery(self.text, self.text)
        if counting and relation in (NEAREST, FURTHEST):
            superlative = None  # "the second closest to the harbor"
        return ObjectQuery(
            self.text, core, place, superlative, ordinal, self.note, kind, amount, group, relation, reference, counted,
            colour, said,
        )  # fmt: skip

    def _take(self, pattern: re.Pattern[str], keep: str = "") -> re.Match[str] | None:
        """Take the first match of a pattern out; a group of it may stay."""
        found = pattern.search(self.rest)
        if found:
            kept = f" {found[keep]} " if keep else " "
            self.rest = re.sub(r" +", " ", self.rest[: found.start()] + kept + self.rest[found.end() :]).strip(" ,")
        return found

    def _lead(self) -> bool:
        """Take out commands, lead-ins and the words of a question; tell whether it asks for a number."""
        found = COUNT.search(self.rest)
        if found:
            self.rest = re.sub(r"^(?:of )?(?:the |these |those )?", "", self.rest[found.end() :].strip())
            self._take(COUNT_TAIL)
            return True
        self.rest = split_request(self.rest).body
        lead = LEAD.match(self.rest)
        if lead:
            self.rest = self.rest[lead.end() :]
            if re.match(r"wh", lead[0], re.IGNORECASE):
                self._take(re.compile(r" (?:is|are|lies|lie|sits|sit|stands|stand)\b(?: the\b)?", re.IGNORECASE))
        return False

    def _of_image(self) -> str:
        """Take out "of the image", and return the modality that it names."""
        names = ""
        for found in re.finditer(OF_IMAGE, self.rest, re.IGNORECASE):
            word = MODALITY.search(found[0])
            names = (word["sar"] or word["opt"] or word["a"] or word["b"]) if word else names
        self.rest = re.sub(r" +", " ", re.sub(rf" ?\b{OF_IMAGE}", "", self.rest, flags=re.IGNORECASE)).strip(" ,")
        return names or ""

    def _relation(self) -> tuple[str | None, tuple[ObjectQuery, ...]]:
        """Take out a relation to another kind, with its reference."""
        matches = [
            (found, name) for name, p in RELATIONS for found in p.finditer(self.rest) if self._relates(found, name)
        ]
        side = RELATION.search(self.rest)
        if side and (side["diagonal"] or side["h"] or side["v"] or side["w"]):
            matches.append((side, side_of(side)))
        if not matches:
            return None, ()
        found, name = min(matches, key=lambda m: (m[0].start(), -m[0].end()))
        head, tail = self.rest[: found.start()], self.rest[found.end() :].strip()
        words = re.split(r"(?:,)? and ", tail) if name == BETWEEN else [tail]
        queries = tuple(_reference(self.hidden.restore(w), self.vocabulary) for w in words)
        amounts = [query.amount for query in queries]
        usable = all(q.kind in ("category", "colour", "superlative", "ordinal", "set") for q in queries)
        if name == BETWEEN:
            usable = usable and amounts in ([1, 1], [2], [None])
        else:
            usable = usable and amounts == [1]
        if name == INSIDE and usable:
            usable = parse(queries[0].core, self.vocabulary).category not in NOT_WITHIN
        self.failed |= not usable and name != INSIDE
        if usable:
            self.rest = head.strip(" ,")
            self.rest = re.sub(r" (?:that|which)?(?: ?(?:is|are))$", "", self.rest)
            return name, queries
        return None, ()

    def _relates(self, found: re.Match[str], name: str) -> bool:
        """Tell a relation to an object from a place or superlative of the image."""
        tail = self.rest[found.end() :]
        if re.match(
            rf" (?:the )?(?:far |very )?(?:{'|'.join(SIDES)}|upper|lower|{CENTRE}|edge|border|corner)\b(?! \S+ɴ)",
            tail,
            re.IGNORECASE,
        ):
            noun = re.match(rf" the (?:{'|'.join(SIDES)}|upper|lower|{CENTRE}) {NOUN.pattern}", tail, re.IGNORECASE)
            return noun is not None and name != INSIDE
        return name != INSIDE or bool(NOUN.search(tail))

    def _superlative(self, relation: str | None = None) -> tuple[str | None, int, bool]:
        """Take out ordinal and superlative: the superlative, the ordinal, and whether the expression counts."""
        if ONE_OF.match(self.rest):
            self.failed = True
        if found := self._take(COUNTING):
            return found["side"].lower(), number_of(found["o"]), True
        if found := self._take(FROM_SIDE, keep="mid"):
            return found["side"].lower(), number_of(found["o"]), True
        if found := self._take(BY_SUPERLATIVE, keep="s"):
            superlative, _, _ = self._superlative()
            return superlative, number_of(found["o"]), True
        if (found := re.match(rf"(?:the )?(?P<o>{ORDINAL})[ -]", self.rest, re.IGNORECASE)) is not None:
            if relation in (NEAREST, FURTHEST):
                self.rest = self.rest[found.end() :]
                return relation, number_of(found["o"]), True
            self.failed = True
            return None, 1, False
        if found := self._take(TO_CORNER):
            return corner_of(found), 1, False
        if self._take(TO_CENTRE):
            return CENTRE_OF_IMAGE, 1, False
        if found := self._take(SUPERLATIVE):
            return superlative_of(found), 1, False
        if found := self._take(ONE_CORNER):
            return corner_of(found), 1, False
        if found := self._take(ONE_SIDE):
            return (SIDE_OF[found["side"].lower()], 1, False) if found["side"] else (MIDDLE, 1, True)
        if found := self._take(LOWEST):
            return ("bottom" if found["low"] else "top"), 1, False
        if found := self._take(COMPARATIVE):
            return ("largest" if found["big"] else "smallest"), 1, False
        found = LONE.match(self.rest)
        if found and not IDIOM.search(self.rest[: found.end() + 12]):
            before = re.match(rf"(?:(?:the|both|{NUMBER}) )*", self.rest, re.IGNORECASE)
            self.rest = (before[0] if before else "") + self.rest[found.end() :].strip()
            return (SIDE_OF[found["side"].lower()], 1, False) if found["side"] else (MIDDLE, 1, True)
        return None, 1, False

    def _group(self) -> int | None:
        """Take out "of the three", and return the number of objects to choose from."""
        found = self._take(GROUP)
        if not found:
            return None
        self.rest = re.sub(r"\bones?\b ?", "", self.rest)
        number = found["n"] or found["m"]
        return 2 if found["pair"] else number_of(number) if number else None

    def _place(self) -> Place | None:
        """Take out a place in the image."""
        for found in PLACE.finditer(self.rest):
            place = read_place(found)
            if place:
                self.rest = re.sub(r" +", " ", self.rest[: found.start()] + " " + self.rest[found.end() :]).strip(" ,")
                return place
        if half := self._take(HALF):
            self.half = True
            side = SIDE_OF[half["side"].lower()]
            return (side, None) if side in ("left", "right") else (None, side)
        return None

    def _amount(self, superlative: bool, counted: bool) -> int | None:
        """Take out quantifier and article: the number of objects that are meant, None for all."""
        found = QUANTIFIER.match(self.rest)
        noun = NOUN.search(self.rest)
        plural = noun is not None and self._is_plural(noun)
        amount: int | None = 1
        if found:
            self.rest = self.rest[found.end() :].strip()
            amount = 2 if found["two"] else number_of(found["n"]) if found["n"] else None
        else:
            self.rest = DETERMINER.sub("", self.rest)
            if plural or counted:
                amount = None
        if superlative and amount is None:
            if not plural:
                amount = 1
            elif not found or not re.match(r"(?:the )?(?:all|every|each)", found[0], re.IGNORECASE):
                amount = 1  # "leftmost of the ships", of which the group's words are left
                self.failed |= not GROUP.search(self.text)
        if self.half and amount == 1:
            self.failed = True
        return amount

    def _is_plural(self, noun: re.Match[str]) -> bool:
        """Tell whether a noun that was found is a plural."""
        word = self.hidden.restore(noun[1])
        if word == noun[1]:
            return len(noun[0]) > len(noun[1])
        return word.lower() != self._singular(word).lower()

    def _singular(self, word: str) -> str:
        """Return a hidden noun in the singular."""
        name = self.vocabulary.read(word) or word
        low = word.lower()
        for one in (name, *self.vocabulary.synonyms.get(name, ())):
            if low == one.lower():
                return word
        return name

    def _core(self, modality: str, amount: int | None) -> tuple[str, bool, str | None, str]:
        """Return the category's expression, "" without a known noun, whether no words are left, and the colour.

        The last is the expression with its colour, empty without one.
        """
        found = NOUN.search(self.rest)
        if not found:
            return (self._open_set() if amount != 1 else "", False, None, "")
        while (compound := NOUN.match(self.rest, found.end() + 1)) and self.rest[found.end()] == " ":
            found = compound  # a "boat dock" is a dock
        word = self.hidden.restore(found[1])
        word = word if word == found[1] else self._singular(word)
        before, after = self.rest[: found.start()].split(), self.rest[found.end() :].strip(" ,")
        # the noun is that of a landmark or of a group: "the court further away from the parked cars", "the rightmost
        # court of the upper three tennis courts"
        self.failed |= bool(re.search(rf"{PREPOSITION.pattern}|\b{NUMBER}", " ".join(before), re.IGNORECASE))
        before = [w for w in before if w.lower() not in FILLERS | {"only"}]
        again = re.sub(rf"\b{re.escape(found[0])}\b", "", after)
        unread = [w for w in re.findall(r"[\w'-]+", again) if w.lower() not in FILLERS]
        if modality and modality.lower() not in (w.lower() for w in before):
            before.insert(0, modality)
        said = self.hidden.restore(" ".join([*before, word, *([after] if unread else [])])).strip()
        complete = not unread and len(before) < 4
        seen = MODALITY.search(said)  # a radar sees no colours
        by_pixels = complete and not (seen and (seen["sar"] or seen["own"]))
        colour, others = split_colour(before) if by_pixels else (None, before)
        core = f"a {said}" if not colour else "a " + self.hidden.restore(" ".join([*others, word])).strip()
        return agree(core), complete, colour, agree(f"a {said}") if colour else ""

    def _open_set(self) -> str:
        """Return what a set of an unknown kind is searched with: its own words."""
        return self.hidden.restore(self.rest) if self.counted else self.text


def in_words(query: ObjectQuery) -> ObjectQuery:
    """Return a query with its colours in the expressions that are searched for, where no pixels are at hand."""
    reference = tuple(in_words(other) for other in query.reference)
    if query.colour is None:
        return replace(query, reference=reference)
    kind = query.kind if query.kind != "colour" else "place" if query.place else "category"
    return replace(query, core=query.said, colour=None, said="", kind=kind, reference=reference)


def _reference(text: str, vocabulary: Vocabulary) -> ObjectQuery:
    """Read the words for the objects that a relation compares with."""
    text = text.strip(" ,")
    if not text:
        return ObjectQuery("-", "-")
    text = re.sub(r"^another\b", "the", text)
    reading = _Reading(text, vocabulary)
    query = reading.query()
    return query if reading.complete else ObjectQuery(text, text)
