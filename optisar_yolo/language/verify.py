"""Truth of expressions: is an expression true of a labelled object, and of which objects of an image?

The rules are those of the released OptSAR-RSVG expressions, inferred from them. A place is the cell of a 3 x 3 grid
that contains the box's centre. A superlative is true from a lead of 3 % of the side, or of a factor of 1.2 in area, and
false from the same lag; expressions are generated only from 5 % and 1.35 (`descriptions`). An ordinal is true where the
leads to both neighbours in rank suffice. "Nearest to the bridge" is true where every other object of the kind is
further off by the factor of an area's lead, between centres, and not nearer between the edges. A set ("the two ships on
the left") is true of its objects where exactly so many meet its other claims; its sides include the corners. "Big" is
true above 6 % and false below 2 % of the image's area, "small" is true below 0.4 % and false above 9 %; in between it
is open. "To the right of" means that the offset between centres, relative to the image's sides, is at least 12 % and
that the offset across is at most 62 % of it.

Truth has three values: True, False, and None where the boxes cannot tell (colours, close calls).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import ParsedExpression, parse
from optisar_yolo.language.vocabulary import Place

BIG, SMALL = 0.06, 0.004  # shares of the image's area
NOT_BIG, NOT_SMALL = 0.02, 0.09  # from here on the word is false; DIOR-RSVG's "small" goes up to this
# A superlative is true from this lead on, as a share of the side or a factor of area. A smaller lead or lag is open.
SUPERLATIVE_TRUE, AREA_TRUE = 0.03, 1.2
BLUR = 0.04  # a centre this close beyond a cell's border is neither in nor out
ALONG, ACROSS = 0.12, 0.62
OFFSET_FALSE = 0.03  # a relation is false from this offset on to the other side
SECTOR = 0.41  # "upper left of": the smaller offset is at least tan(22.5 degrees) of the larger one
_BANDS = {"left": (0.0, 1 / 3), "middle": (1 / 3, 2 / 3), "right": (2 / 3, 1.0)}
_BANDS |= {"top": _BANDS["left"], "bottom": _BANDS["right"]}
_BANDS |= {"left half": (0.0, 0.5), "right half": (0.5, 1.0), "top half": (0.0, 0.5), "bottom half": (0.5, 1.0)}


def _all(truths: Sequence[bool | None]) -> bool | None:
    """Return the three-valued "and"; None for no values."""
    if False in truths:
        return False
    return None if not truths or None in truths else True


def _in_band(x: float, band: str) -> bool | None:
    """Tell whether a relative coordinate lies in a third of the side; None just outside it."""
    low, high = _BANDS[band]
    if low - 1e-3 <= x <= high + 1e-3:
        return True
    return None if low - BLUR < x < high + BLUR else False


class LabelledObjects:
    """The labelled objects of one image.

    Args:
        boxes: [N, 4] xyxy in pixels.
        names: Category names of the objects ("sar ship"); None: all are of one category, which every expression means.
        size: (width, height) of the image in pixels.
        vocabulary: The nouns of the data set; those of `names` are added.
        unlisted: Category names of objects that the image shows and that have no box here, "" for an unknown one. An
            expression that may mean one of them is never proven true or false.

    Raises:
        ValueError: The size is not positive, or names and boxes differ in number.
    """

    def __init__(
        self,
        boxes: np.ndarray,
        names: Sequence[str] | None,
        size: tuple[float, float],
        vocabulary: Vocabulary = BUILT_IN,
        unlisted: Sequence[str] = (),
    ) -> None:
        array = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        width, height = float(size[0]), float(size[1])
        if width <= 0 or height <= 0:
            raise ValueError(f"an image's size must be positive, got {size}")
        if names is not None and len(names) != len(array):
            raise ValueError(f"{len(array)} boxes and {len(names)} names; there must be one name per box")
        self.boxes = array
        self.names = tuple(names) if names is not None else ("",) * len(array)
        self._named = names is not None
        self._width, self._height = width, height
        self._sets: dict[str, tuple[int, int]] = {}  # expression of a set to its numbers of sure and of open members
        self.vocabulary = vocabulary.including([*(names or ()), *(name for name in unlisted if name)])
        self._groups_of: dict[tuple[str, str], list[int]] = {}  # (noun, category name) to the objects compared
        self._unlisted = [self.vocabulary.noun_of(n).lower() if n else "" for n in dict.fromkeys(unlisted)]
        # Plain Python numbers: an image has few objects, for which arrays would cost more than they save.
        self._x: list[float] = ((array[:, 0] + array[:, 2]) / (2 * width)).tolist()
        self._y: list[float] = ((array[:, 1] + array[:, 3]) / (2 * height)).tolist()
        areas = (array[:, 2] - array[:, 0]).clip(0) * (array[:, 3] - array[:, 1]).clip(0) / (width * height)
        self.areas: list[float] = areas.tolist()  # shares of the image's area
        self._corners: list[list[float]] = array.tolist()

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.areas)

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Indices of the objects by category name."""
        groups: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            groups.setdefault(name, []).append(i)
        return groups

    @cached_property
    def _nouns(self) -> dict[str, tuple[str, str | None]]:
        """Category name -> (noun, modality)."""
        return {n: (self.vocabulary.noun_of(n), self.vocabulary.modality_of(n)) for n in self.groups}

    def others(self, index: int) -> list[int]:
        """Return the other objects that the noun of an object's category may mean: a boat is compared with ships."""
        return self._meant(self._nouns[self.names[index]][0], index)

    def compared(self, index: int, query: ParsedExpression) -> list[int]:
        """Return the other objects that an expression compares an object with, those that its noun may mean.

        "The leftmost vehicle" compares a "small-vehicle" with all vehicles where it is declared to be one.
        """
        named = query.category if self._named and query.category else None
        meant = named and self.vocabulary.means(named, self._nouns[self.names[index]][0]) is True
        return self._meant(named, index) if named and meant else self.others(index)

    def _meant(self, noun: str, index: int) -> list[int]:
        """Return the objects that a noun may mean, except one; of another modality than that one none is meant."""
        own = self.names[index]
        if (noun, own) not in self._groups_of:
            modality = self._nouns[own][1]
            self._groups_of[noun, own] = [
                k
                for name, members in self.groups.items()
                if name == own
                or (
                    (self._nouns[name][1] == modality or None in (self._nouns[name][1], modality))
                    and self.vocabulary.means(noun, self._nouns[name][0]) is not False
                )
                for k in members
            ]
        return [k for k in self._groups_of[noun, own] if k != index]

    def of_category(self, query: ParsedExpression, text: str, name: str) -> bool | None:
        """Tell whether an expression means a category.

        Args:
            query: The parsed expression.
            text: The expression.
            name: A category name of this image.
        """
        if not self._named:
            return True
        noun, modality = self._nouns[name]
        if query.modality and modality and query.modality != modality:
            return False
        meant = self.vocabulary.means(query.category, noun) if query.category else False
        if meant is not False:
            return meant
        if noun.lower() in text.lower() and not (query.category and noun == query.reference):
            return None  # named, yet read as part of something else
        return False if query.category else None

    def claims(self, text: str, index: int) -> dict[str, bool | None]:
        """Return the truth of each claim of an expression for an object.

        The keys are "category", "place", "size", "extreme" (a superlative or an ordinal), "relation", "rest" (words
        that were not parsed), "number" (of the objects of a set) and "only" (no claim but the category). Where the
        category is false, it is the only key.
        """
        query = parse(text, self.vocabulary)
        claims = self._claims(query, text, index)
        if claims["category"] is False:
            return claims
        if query.number is not None:
            claims["number"] = self._counted(query, text)
        elif len(claims) == 1:
            claims["only"] = None if self.compared(index, query) else True
        if self._unlisted and self.may_mean_unlisted(text):
            # The object without a box could go further, be what is meant, be one of a set, or be the landmark.
            claims |= {claim: None for claim in ("extreme", "only", "number") if claims.get(claim)}
            claims |= {"relation": None} if "relation" in claims else {}
        return claims

    def _claims(self, query: ParsedExpression, text: str, index: int) -> dict[str, bool | None]:
        """Return the truth of the claims about the object itself."""
        claims: dict[str, bool | None] = {"category": self.of_category(query, text, self.names[index])}
        if claims["category"] is False:
            return claims
        if query.place:
            claims["place"] = self.in_place(index, query.place, wide=query.number is not None)
        if query.size:
            claims["size"] = self._sized(index, query.size)
        if query.superlative:
            claims["extreme"] = self._superlative(index, query)
            # "the leftmost white ship", "the leftmost ship at the top": others of its category may be further left, and
            # the second one from the left may be the first of these
            chosen = query.rest or query.place or query.size or query.relation
            if chosen and (claims["extreme"] is False or query.ordinal or query.number):
                claims["extreme"] = None
        if query.relation:
            claims["relation"] = self._related(index, query)
        if query.rest:
            claims["rest"] = None
        return claims

    def _counted(self, query: ParsedExpression, text: str) -> bool | None:
        """Tell whether as many objects meet the other claims of a set's expression as it says."""
        if text not in self._sets:
            members = [i for i, name in enumerate(self.names) if self.of_category(query, text, name) is not False]
            truths = [_all(list(self._claims(query, text, i).values())) for i in members]
            self._sets[text] = truths.count(True), truths.count(None)
        sure, unsure = self._sets[text]
        if query.number == "all":
            return True if sure > 1 else None
        if sure > (query.number or 0) or sure + unsure < (query.number or 0):
            return False
        return None if unsure else True

    def truth(self, text: str, index: int) -> bool | None:
        """Tell whether an expression is true of an object.

        Args:
            text: An English expression.
            index: Index of the object.

        Returns:
            True when all claims are true, False when one is false, None otherwise. An expression that claims only the
            category is True of a unique object of that category.
        """
        return _all(list(self.claims(text, index).values()))

    def truths(self, text: str) -> list[bool | None]:
        """Return the truth of an expression for every object."""
        truths: list[bool | None] = [False] * len(self)
        query = parse(text, self.vocabulary)
        for name, members in self.groups.items():
            if self.of_category(query, text, name) is not False:
                for i in members:
                    truths[i] = self.truth(text, i)
        return truths

    def false_of_all(self, text: str) -> bool:
        """Tell whether an expression is certainly false of every object, those without a box included."""
        if self.may_mean_unlisted(text):
            return False
        query = parse(text, self.vocabulary)
        return all(
            self.of_category(query, text, name) is False or all(self.truth(text, i) is False for i in members)
            for name, members in self.groups.items()
        )

    def may_mean_unlisted(self, text: str) -> bool:
        """Tell whether an expression names the category of an object without a box, as its own or as a landmark."""
        if not self._unlisted:
            return False
        query = parse(text, self.vocabulary)
        nouns = [noun.lower() for noun in (query.category, query.reference) if noun]
        return any(
            not noun or noun in text.lower() or any(own in noun or noun in own for own in nouns)
            for noun in self._unlisted
        )

    def singles_out(self, text: str, index: int) -> bool:
        """Tell whether an expression is true of one object and of no other that its noun may mean."""
        if self.may_mean_unlisted(text):
            return False
        others = self.compared(index, parse(text, self.vocabulary))
        return self.truth(text, index) is True and not any(self.truth(text, k) for k in others)

    def in_place(self, i: int, place: Place, wide: bool = False) -> bool | None:
        """Tell whether an object's centre lies in a (column, row) of the image; a wide side includes its corners."""
        column, row = place
        wide = wide or "half" in f"{column}{row}"
        across = _in_band(self._x[i], column) if column else wide or _in_band(self._x[i], "middle") or None
        down = _in_band(self._y[i], row) if row else wide or _in_band(self._y[i], "middle") or None
        return _all([across, down])

    def _sized(self, i: int, word: str) -> bool | None:
        area = self.areas[i]
        if word == "big":
            return True if area > BIG else None if area > NOT_BIG else False
        return True if area < SMALL else None if area < NOT_SMALL else False

    def lead(self, i: int, superlative: str, others: Sequence[int] | None = None) -> float | None:
        """Return an object's lead over the next of its category, a share of the side or a factor of area.

        None for a unique object. `others` are the objects to compare it with, by default `others(i)`.
        """
        others = self.others(i) if others is None else others
        if not others:
            return None
        sized = superlative in ("largest", "smallest")
        axis = self.areas if sized else self._x if superlative in ("left", "right") else self._y
        rest = [axis[k] for k in others]
        return self._over(axis[i], min(rest) if superlative in ("left", "top", "smallest") else max(rest), superlative)

    @staticmethod
    def _over(mine: float, other: float, superlative: str) -> float:
        """Return the lead of one object's coordinate or area over another's."""
        if superlative in ("largest", "smallest"):
            mine, other = max(mine, 1e-12), max(other, 1e-12)
            return mine / other if superlative == "largest" else other / mine
        return other - mine if superlative in ("left", "top") else mine - other

    def _superlative(self, i: int, query: ParsedExpression) -> bool | None:
        superlative, others = query.superlative or "", self.compared(i, query)
        if query.number == "all":
            return None  # "the largest ships" does not say how many
        if query.ordinal is None and query.number is None:
            lead = self.lead(i, superlative, others)
            if lead is None:
                return True  # a unique object is the leftmost and the rightmost
            if superlative in ("largest", "smallest"):
                return True if lead >= AREA_TRUE else None if lead > 1 / AREA_TRUE else False
            return True if lead >= SUPERLATIVE_TRUE else None if lead > -SUPERLATIVE_TRUE else False
        sized = superlative in ("largest", "smallest")
        enough, noun = AREA_TRUE if sized else SUPERLATIVE_TRUE, query.category or ""
        before = unsure = 0
        axis = self.areas if sized else self._x if superlative in ("left", "right") else self._y
        for k in others:
            lead = self._over(axis[k], axis[i], superlative)
            if lead <= (1 / enough if sized else -enough):
                continue
            meant = not self._named or self.vocabulary.means(noun, self._nouns[self.names[k]][0])
            if lead >= enough and meant:
                before += 1
            else:  # a close call, or a boat where ships are counted
                unsure += 1
        if query.number is not None:  # "the two largest ships"
            return False if before >= query.number else None if before + unsure >= query.number else True
        behind = (query.ordinal or 1) - 1
        if before > behind or before + unsure < behind:
            return False
        return None if unsure else True

    def _related(self, i: int, query: ParsedExpression) -> bool | None:
        if not self._named or (query.relation == "other" and not query.offset):
            return None
        if query.offset and query.landmark:
            candidates = self.truths(query.landmark)
            references = [k for k, v in enumerate(candidates) if v is not False and k != i]
            sides = [side for side in query.offset if side]
        else:
            means, noun = self.vocabulary.means, query.reference or ""
            candidates = [means(noun, self._nouns[name][0]) for name in self.names]
            references = [k for k, meant in enumerate(candidates) if meant is not False and k != i]
            sides = [query.relation or ""]
        if query.relation in ("nearest", "furthest"):
            others = self.compared(i, query)
            truths = [self.ranked(i, k, [o for o in others if o != k], query.relation) for k in references]
        else:
            truths = [self.beside(i, k, *sides) for k in references]
        if truths and all(v is False for v in truths):
            return False
        return truths[0] if len(truths) == 1 and candidates[references[0]] else None

    def beside(self, i: int, k: int, *sides: str) -> bool | None:
        """Tell whether object i lies on one side of object k, or on two sides at once (a diagonal)."""
        dx, dy = self._x[i] - self._x[k], self._y[i] - self._y[k]
        offset = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}
        if min(offset[side] for side in sides) < -OFFSET_FALSE:
            return False
        near, far = sorted((abs(dx), abs(dy)))
        if len(sides) == 2:
            return True if far >= ALONG and near >= max(OFFSET_FALSE, SECTOR * far) else None
        along = offset[sides[0]]
        return True if along == far and far >= ALONG and near <= ACROSS * far else None

    def off(self, i: int, place: Place) -> float:
        """Return the distance of an object's centre from a side, a corner or the centre, relative to the sides."""
        column, row = place
        at = {"left": 0.0, "top": 0.0, "middle": 0.5, "right": 1.0, "bottom": 1.0}
        dx = abs(self._x[i] - at[column]) if column else 0.0
        dy = abs(self._y[i] - at[row]) if row else 0.0
        return float(np.hypot(dx, dy))

    def ranked(self, i: int, k: int, others: Sequence[int], relation: str, factor: float = AREA_TRUE) -> bool | None:
        """Tell whether object i is nearer to object k than all others by a factor, or further from it."""
        mine, my_gap = self._apart(i, k)
        unsure = False
        for o in others:
            theirs, gap = self._apart(o, k)
            (less, small), (more, large) = ((mine, my_gap), (theirs, gap))[:: 1 if relation == "nearest" else -1]
            if more * factor <= less and large <= small:
                return False
            unsure |= more < less * factor or large < small
        return None if unsure else True

    def _apart(self, i: int, k: int) -> tuple[float, float]:
        """Return the distances of two objects in pixels, between centres and between edges."""
        dx, dy = (self._x[i] - self._x[k]) * self._width, (self._y[i] - self._y[k]) * self._height
        (a1, b1, a2, b2), (c1, d1, c2, d2) = self._corners[i], self._corners[k]
        gap_x, gap_y = max(c1 - a2, a1 - c2, 0.0), max(d1 - b2, b1 - d2, 0.0)
        return float(np.hypot(dx, dy)), float(np.hypot(gap_x, gap_y))
