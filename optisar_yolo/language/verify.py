"""Words against boxes: is an expression true of an object, and which expressions single it out.

The rules are those of the released OptSAR-RSVG expressions, inferred from them: a place is a cell of a 3 x 3 grid of
box centres; an extreme stands out by 5 % of the image's side, or by a factor of 1.35 in area; "big" is more than 6 %
and "small" less than 0.4 % of the image's area; "to the right of" means that the offset between centres, relative to
the image's sides, is at least 12 % and the offset across at most 62 % of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from optisar_yolo.language.parser import CELLS, EXTREME_WORDS, FRAMES, RELATION_WORDS, Meaning, agree, noun_of, parse

BIG, SMALL = 0.06, 0.004  # shares of the image's area
NOT_BIG, NOT_SMALL = 0.02, 0.09  # from here on the word is false; DIOR-RSVG's "small" goes up to this
EXTREME_MARGIN, AREA_RATIO = 0.05, 1.35  # what `describe` asks for
EXTREME_TRUE, AREA_TRUE = 0.03, 1.2  # from here on an extreme counts as seen; a smaller lead or lag gives no verdict
BLUR = 0.04  # a centre this close beyond a cell's border is neither in nor out
ALONG, ACROSS = 0.12, 0.62
SECTOR = 0.41  # "upper left of": the smaller offset is at least tan(22.5 degrees) of the larger one
MODALITY_WORD, SIZE_WORD = 0.7, 0.45  # shares of the released expressions that carry the word
_BANDS = {"left": (0.0, 1 / 3), "middle": (1 / 3, 2 / 3), "right": (2 / 3, 1.0)}
_BANDS |= {"top": _BANDS["left"], "bottom": _BANDS["right"]}


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    """Three-valued "and"; no verdict on nothing."""
    if any(v is False for v in verdicts):
        return False
    return None if not verdicts or any(v is None for v in verdicts) else True


def _in_band(x: float, band: str) -> bool | None:
    """Tell whether a relative coordinate lies in a third of the side; None just outside it."""
    low, high = _BANDS[band]
    if low - 1e-3 <= x <= high + 1e-3:
        return True
    return None if low - BLUR < x < high + BLUR else False


def _beyond(margin: float, enough: float) -> bool | None:
    """Tell a clear lead (True), a clear defeat (False) and a close call (None) apart."""
    return True if margin >= enough else None if margin > -enough else False


class LabelledObjects:
    """All labelled objects of an image, ready for questions.

    Args:
        boxes: [N, 4] xyxy in pixels.
        names: Category names of the objects ("sar ship"); None: all of one category that every caption means.
        size: (width, height) of the image in pixels.
    """

    def __init__(self, boxes: np.ndarray, names: Sequence[str] | None, size: tuple[float, float]) -> None:
        array = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        width, height = float(size[0]), float(size[1])
        if width <= 0 or height <= 0:
            raise ValueError(f"a picture's size must be positive, got {size}")
        if names is not None and len(names) != len(array):
            raise ValueError(f"{len(array)} boxes and {len(names)} names; there must be one name per box")
        self.boxes = array
        self.names = tuple(names) if names is not None else ("",) * len(array)
        self._asked = names is not None
        # Plain Python numbers: the questions are about few objects each, where arrays would cost more than they save.
        self._x: list[float] = ((array[:, 0] + array[:, 2]) / (2 * width)).tolist()
        self._y: list[float] = ((array[:, 1] + array[:, 3]) / (2 * height)).tolist()
        areas = (array[:, 2] - array[:, 0]).clip(0) * (array[:, 3] - array[:, 1]).clip(0) / (width * height)
        self._area: list[float] = areas.tolist()

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._x)

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Objects by category name."""
        groups: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            groups.setdefault(name, []).append(i)
        return groups

    @cached_property
    def _nouns(self) -> dict[str, tuple[str, str | None]]:
        """Category name -> (canonical noun, modality)."""
        prefix = {n: n.split(" ", 1)[0].lower() for n in self.groups}
        return {n: (noun_of(n), prefix[n] if prefix[n] in ("sar", "optical") else None) for n in self.groups}

    def of_category(self, said: Meaning, caption: str, name: str) -> bool | None:
        """Tell whether a caption speaks of a category; None: it may."""
        if not self._asked:
            return True
        noun, modality = self._nouns[name]
        if said.modality and modality and said.modality != modality:
            return False
        if said.category == noun:
            return True
        if noun.lower() in caption.lower() and not (said.category and noun == said.reference):
            return None  # named, yet read as part of something else
        return False if said.category else None

    def claims(self, caption: str, index: int) -> dict[str, bool | None]:
        """Return the verdict on each claim of a caption ("place", "size" …); a category that differs stands alone."""
        said = parse(caption)
        claims: dict[str, bool | None] = {"category": self.of_category(said, caption, self.names[index])}
        if claims["category"] is False:
            return claims
        if said.place:
            claims["place"] = self._at(index, said.place)
        if said.size:
            claims["size"] = self._sized(index, said.size)
        if said.extreme:
            claims["extreme"] = self._most(index, said.extreme)
        if said.relation:
            claims["relation"] = self._related(index, said)
        if said.rest:
            claims["rest"] = None
        if len(claims) == 1:
            claims["only"] = True if len(self.groups[self.names[index]]) == 1 else None
        return claims

    def verdict(self, caption: str, index: int) -> bool | None:
        """Tell whether a caption is true of an object.

        Args:
            caption: An English expression.
            index: Which object.

        Returns:
            True or False where all that it claims can be checked, None otherwise. A caption without any claim but the
            category is True of the only object of that category.
        """
        return _all(list(self.claims(caption, index).values()))

    def verdicts(self, caption: str) -> list[bool | None]:
        """Return `verdict` of every object; categories that the caption does not mean are not looked at one by one."""
        answers: list[bool | None] = [False] * len(self)
        said = parse(caption)
        for name, members in self.groups.items():
            if self.of_category(said, caption, name) is not False:
                for i in members:
                    answers[i] = self.verdict(caption, i)
        return answers

    def false_of_all(self, caption: str) -> bool:
        """Tell whether a caption is certainly true of no labelled object."""
        said = parse(caption)
        return all(
            self.of_category(said, caption, name) is False or all(self.verdict(caption, i) is False for i in members)
            for name, members in self.groups.items()
        )

    def _at(self, i: int, place: tuple[str | None, str | None]) -> bool | None:
        column, row = place
        across = _in_band(self._x[i], column) if column else (_in_band(self._x[i], "middle") or None)
        down = _in_band(self._y[i], row) if row else (_in_band(self._y[i], "middle") or None)
        return _all([across, down])

    def _sized(self, i: int, word: str) -> bool | None:
        area = self._area[i]
        if word == "big":
            return True if area > BIG else None if area > NOT_BIG else False
        return True if area < SMALL else None if area < NOT_SMALL else False

    def _lead(self, i: int, extreme: str) -> float | None:
        """Return an object's lead over the next of its category, as a share of the side or a factor of area."""
        others = [k for k in self.groups[self.names[i]] if k != i]
        if not others:
            return None
        if extreme in ("largest", "smallest"):
            mine = max(self._area[i], 1e-12)
            rest = [max(self._area[k], 1e-12) for k in others]
            return mine / max(rest) if extreme == "largest" else min(rest) / mine
        axis = self._x if extreme in ("left", "right") else self._y
        rest = [axis[k] for k in others]
        return min(rest) - axis[i] if extreme in ("left", "top") else axis[i] - max(rest)

    def _most(self, i: int, extreme: str) -> bool | None:
        lead = self._lead(i, extreme)
        if lead is None:
            return True  # the only one is the leftmost and the rightmost
        if extreme in ("largest", "smallest"):
            return True if lead >= AREA_TRUE else None if lead > 1 / AREA_TRUE else False
        return _beyond(lead, EXTREME_TRUE)

    def _related(self, i: int, said: Meaning) -> bool | None:
        if not self._asked or (said.relation == "other" and not said.offset):
            return None
        if said.offset and said.landmark:
            sure = self.verdicts(said.landmark)
            refs = [k for k, v in enumerate(sure) if v is not False and k != i]
            answers = [self._beside(i, k, *(side for side in said.offset if side)) for k in refs]
        else:
            refs = [k for n, ks in self.groups.items() if self._nouns[n][0] == said.reference for k in ks if k != i]
            sure = [True] * len(self)
            answers = [self._beside(i, k, said.relation or "") for k in refs]
        if answers and all(v is False for v in answers):
            return False
        return answers[0] if len(answers) == 1 and sure[refs[0]] else None

    def _beside(self, i: int, k: int, *sides: str) -> bool | None:
        """Tell whether object i lies on one side of object k, or on two of them at once (a diagonal)."""
        dx, dy = self._x[i] - self._x[k], self._y[i] - self._y[k]
        offset = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}
        if min(offset[side] for side in sides) < -EXTREME_TRUE:
            return False
        near, far = sorted((abs(dx), abs(dy)))
        if len(sides) == 2:
            return True if far >= ALONG and near >= max(EXTREME_TRUE, SECTOR * far) else None
        along = offset[sides[0]]
        return True if along == far and far >= ALONG and near <= ACROSS * far else None

    def singles_out(self, caption: str, index: int) -> bool:
        """Tell whether a caption is true of one object and of no other of its category."""
        others = (k for k in self.groups[self.names[index]] if k != index)
        return self.verdict(caption, index) is True and not any(self.verdict(caption, k) for k in others)

    def describe(self, index: int, rng: np.random.Generator) -> list[str]:
        """Return what `describe` does; asking one scene about many objects saves time."""
        name = self.names[index]
        noun, modality = noun_of(name), name.split(" ", 1)[0].lower()
        word = {"sar": "SAR ", "optical": "optical "}.get(modality, "")
        others = [k for k in self.groups[name] if k != index]

        def thing(sized: bool = False) -> str:
            area = self._area[index]
            measure = "big " if area > BIG else "small " if area < SMALL else ""
            said = measure if sized and rng.random() < SIZE_WORD else ""
            return said + (word if rng.random() < MODALITY_WORD else "") + noun

        texts: list[str] = []
        for place, phrase in CELLS.items():
            if self._at(index, place) and not any(self._at(k, place) for k in others):
                frame = FRAMES[int(rng.integers(len(FRAMES)))]
                texts.append(f"{frame.format(thing(True))} {phrase} of the image")
                break
        for extreme, phrase in EXTREME_WORDS.items():
            lead = self._lead(index, extreme)
            if lead is not None and lead >= (AREA_RATIO if extreme in ("largest", "smallest") else EXTREME_MARGIN):
                texts.append(phrase.format(thing()))
        for other, members in self.groups.items():
            if len(members) > 1 or noun_of(other) == noun:
                continue
            for relation, words in RELATION_WORDS.items():
                if self._beside(index, members[0], relation) and not any(
                    self._beside(k, members[0], relation) for k in others
                ):
                    texts.append(f"The {thing()} {words} the {noun_of(other)}")
        if not others:
            texts.append(f"The {thing(True)}")
        return [agree(t) for t in texts]


def true_of(caption: str, box: np.ndarray, boxes: np.ndarray, size: tuple[float, float]) -> bool | None:
    """Tell whether a caption is true of a box, its category taken for granted.

    Args:
        caption: An English expression.
        box: [4] xyxy in pixels.
        boxes: [N, 4] xyxy, all objects of the same category, with or without `box` itself.
        size: (width, height) of the image in pixels.

    Returns:
        True or False; None where the boxes cannot tell (colours, relations to other objects, close calls).
    """
    one = np.asarray(box, dtype=np.float64).reshape(1, 4)
    all_of_it = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    # The box may be written with other decimals in the label file: the nearest one within a pixel and a half is itself.
    others = all_of_it
    if len(all_of_it):
        gaps = np.abs(all_of_it - one).max(axis=1)
        nearest = int(gaps.argmin())
        others = np.delete(all_of_it, nearest, axis=0) if gaps[nearest] < 1.5 else all_of_it
    return LabelledObjects(np.concatenate([one, others]), None, size).verdict(caption, 0)


def describe(
    index: int, boxes: np.ndarray, names: Sequence[str], size: tuple[float, float], rng: np.random.Generator
) -> list[str]:
    """Return expressions that single out one object of an image, from boxes alone.

    Args:
        index: Which object.
        boxes: [N, 4] xyxy in pixels, all labelled objects of the image.
        names: Category names ("optical airplane", "sar ship"), one per box.
        size: (width, height) of the image in pixels.
        rng: Source of the wording (frame, modality word, size word).

    Returns:
        One expression per claim that is true of this object alone, in the order position, extremes, relations, the only
        one; empty when none is.
    """
    return LabelledObjects(boxes, names, size).describe(index, rng)
