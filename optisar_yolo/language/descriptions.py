"""Expressions derived from boxes: what singles out a labelled object, or a set of them, and would be said by a person.

`describe` makes the expressions of one object, in the words of OptSAR-RSVG, and with ordinals and distances beyond
them. `describe_sets` makes those of several objects: "the two ships on the left".

A place is said of an object where its centre lies in the cell of the 3 x 3 grid, no other object that could be meant
lies there, and none is as near to that side, corner or centre: "at the top" is not said of a ship where another ship is
further up, in a corner. Everything else is said with a lead that people see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from optisar_yolo.language.edit import agree
from optisar_yolo.language.inflect import mentions, number_of, plural
from optisar_yolo.language.nouns import Vocabulary
from optisar_yolo.language.parser import parse
from optisar_yolo.language.verify import BIG, SMALL, SUPERLATIVE_TRUE, LabelledObjects
from optisar_yolo.language.vocabulary import (
    CELLS,
    HALVES,
    NUMBERS,
    ORDINAL_WORDS,
    RELATIONS,
    SIDES,
    SIZE,
    SUPERLATIVES,
    UPPER_LOWER,
    cell_of,
)

# The least lead of a superlative, as a share of the side and as a factor of area (of distance for "nearest").
SUPERLATIVE_LEAD, AREA_LEAD = 0.05, 1.35
MODALITY_WORD, SIZE_WORD = 0.7, 0.45  # shares of the released expressions that carry the word
# People count few things: of 66 ordinals in 1,106 freely written expressions none is above the fifth, and 8 above the
# third; none ranks by size. The "second largest" is the last one that a reader finds without measuring.
LAST_RANK, LAST_RANK_OF_SIZE, MOST_RANKED = 4, 2, 12
MOST_COUNTED = 12  # larger sets are "all ships", without their number
_SUPERLATIVES = {
    "left": "The leftmost {}", "right": "The rightmost {}", "top": "The {} closest to the top of the image",
    "bottom": "The {} closest to the bottom of the image", "largest": "The largest {}", "smallest": "The smallest {}",
}  # fmt: skip
_SET_SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_SET_CORNERS = {place: phrase for place, phrase in CELLS.items() if None not in place}


def describe(
    objects: LabelledObjects,
    index: int,
    rng: np.random.Generator,
    modality: float = MODALITY_WORD,
    extended: bool = True,
) -> list[str]:
    """Return expressions that single out one object of an image.

    Args:
        objects: All labelled objects of the image.
        index: Index of the object.
        rng: Source of the wording (frame, modality word, size word).
        modality: Probability of the modality's word in an expression.
        extended: Also make ordinals ("the second ship from the left") and distances ("nearest to the bridge"), which
            the released expressions do not have.

    Returns:
        One expression per claim that is true of this object alone: first its place, then superlatives, relations, its
        category where it is unique, ordinals and distances. Empty when no claim singles it out, and where an object
        without a box could be meant.
    """
    name = objects.names[index]
    noun, others = objects.vocabulary.noun_of(name), objects.others(index)
    words = objects.vocabulary.modality_words.get(objects.vocabulary.modality_of(name) or "")

    def thing(sized: bool = False) -> str:
        area = objects.areas[index]
        size = "big " if area > BIG else "small " if area < SMALL else ""
        size = size if sized and rng.random() < SIZE_WORD else ""
        if size and (SIZE.search(noun) or objects.vocabulary.read(size + noun) not in (None, noun)):
            size = ""  # "small vehicle" is the name of another category, "small small-vehicle" is said by nobody
        return size + (f"{words[0]} " if rng.random() < modality and words else "") + noun

    texts: list[str] = []
    for place, phrase in CELLS.items():
        if objects.in_place(index, place) and not any(objects.in_place(k, place) for k in others):
            if all(objects.off(k, place) > objects.off(index, place) + SUPERLATIVE_TRUE for k in others):
                frames = ("The {}", *mentions(noun))
                text = f"{frames[int(rng.integers(len(frames)))].format(thing(True))} {phrase} of the image"
                texts.append(text[0].upper() + text[1:])
            break
    for superlative, phrase in _SUPERLATIVES.items():
        lead = objects.lead(index, superlative)
        if lead is not None and lead >= _enough(superlative):
            texts.append(phrase.format(thing()))
    for other, members in objects.groups.items():
        reference = objects.vocabulary.noun_of(other)
        if objects.others(members[0]) or objects.vocabulary.means(noun, reference) is not False:
            continue  # the reference's noun may mean another object
        for relation, phrases in RELATIONS.items():
            if objects.beside(index, members[0], relation) and not any(
                objects.beside(k, members[0], relation) for k in others
            ):
                texts.append(f"The {thing()} {phrases[0]} the {reference}")
    if not others:
        texts.append(f"The {thing(True)}")
    if extended and others:
        ranks = _ordinals(objects, index) if number_of(noun) == "one" else ()  # "the second hay bales" is no English
        more = [frame.format(thing()) for frame in (*ranks, *_distances(objects, index))]
        texts += [t for t in more if _single(objects, agree(t), index)]
    return [agree(t) for t in texts if not objects.may_mean_unlisted(t)]


def describe_sets(
    objects: LabelledObjects, rng: np.random.Generator, modality: float = MODALITY_WORD, least: int = 2
) -> list[tuple[str, tuple[int, ...]]]:
    """Return expressions that mean several objects of an image, each with its objects.

    "All ships", "the three airplanes on the left", "the two largest tanks", "the two ships to the left of the bridge".

    Args:
        objects: All labelled objects of the image.
        rng: Source of the wording.
        modality: Probability of the modality's word in an expression.
        least: Objects of a set, at least.

    Returns:
        Expressions, each proven true of its objects and false of all others, in random order, all of a kind last.
    """
    out: list[tuple[str, tuple[int, ...]]] = []
    for name, group in objects.groups.items():
        if number_of(objects.vocabulary.noun_of(name)) == "mass":
            continue  # "the two rubbles"
        if len(group) < least or objects.may_mean_unlisted(objects.vocabulary.noun_of(name)):
            continue
        words = objects.vocabulary.modality_words.get(objects.vocabulary.modality_of(name) or "")
        noun = plural(objects.vocabulary.noun_of(name))
        sets = [s for s in _sets(objects, group) if len(s[1]) >= least]
        for at in (*(rng.permutation(len(sets) - 1) + 1), 0):  # "all ships" last: it says least
            (before, after), members = sets[at]
            said = f"{words[0]} {noun}" if words and rng.random() < modality else noun
            text = _counted(" ".join(filter(None, (before, said, after))), len(members), bool(before), rng)
            truths = objects.truths(text)
            if all(v is (True if i in members else False) for i, v in enumerate(truths)):
                out.append((text, tuple(members)))
    return out


def draw_by_kind(texts: Sequence[str], most: int, rng: np.random.Generator, vocabulary: Vocabulary) -> list[str]:
    """Draw expressions, each kind of claim as likely as any other: many ordinals do not outnumber one place.

    Args:
        texts: Expressions of one object.
        most: How many are drawn, at most.
        rng: Random generator.
        vocabulary: The nouns that they are read with.
    """
    by_kind: dict[str, list[str]] = {}
    for text in texts:
        by_kind.setdefault(_kind_of(text, vocabulary), []).append(text)
    drawn: list[str] = []
    while by_kind and len(drawn) < most:
        kind = list(by_kind)[int(rng.integers(len(by_kind)))]
        drawn.append(by_kind[kind].pop(int(rng.integers(len(by_kind[kind])))))
        if not by_kind[kind]:
            del by_kind[kind]
    return drawn


def _kind_of(text: str, vocabulary: Vocabulary) -> str:
    query = parse(text, vocabulary)
    if query.ordinal:
        return "ordinal"
    return next((kind for kind in ("superlative", "relation", "place", "rest") if getattr(query, kind)), "category")


def _counted(words: str, count: int, ranked: bool, rng: np.random.Generator) -> str:
    """Say how many: "The two ships on the left", "All ships on the left"; superlatives need their number."""
    number = str(count) if count > len(NUMBERS) + 1 else NUMBERS[count - 2]
    frames: tuple[str, ...] = (
        ("The {n} {x}",) if ranked else ("The {n} {x}", "The {n} {x}", "All {n} {x}", "All {x}", "All the {x}")
    )
    if count == 2 and not ranked:
        frames = ("The two {x}", "The two {x}", "Both {x}")
    elif count > MOST_COUNTED:
        frames = frames[-2:]
    return frames[int(rng.integers(len(frames)))].format(n=number, x=words)


def _sets(objects: LabelledObjects, group: Sequence[int]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """Yield the sets of a category's objects: the words before and after the noun, and the objects."""
    yield ("", ""), list(group)
    for place, phrase in (
        *((cell_of(side), phrase) for side, phrase in _SET_SIDES.items()),
        *_SET_CORNERS.items(),
        *((HALVES[side], f"in the {UPPER_LOWER.get(side, side)} half of the image") for side in SIDES),
    ):
        inside = [i for i in group if objects.in_place(i, place, wide=True) is True]
        if 1 < len(inside) < len(group):
            yield ("", phrase), inside
    for superlative, words in SUPERLATIVES.items():
        order = sorted(group, key=lambda i: objects.lead(i, superlative, [group[0]]) or 0.0, reverse=True)
        for count in (2, 3):
            if count < len(order) <= MOST_RANKED:
                lead = objects.lead(order[count - 1], superlative, [order[count]])
                if lead is not None and lead >= _enough(superlative):
                    yield (words[0], ""), order[:count]
    noun = objects.vocabulary.noun_of(objects.names[group[0]])
    for other, members in objects.groups.items():
        reference = objects.vocabulary.noun_of(other)
        if objects.others(members[0]) or objects.vocabulary.means(noun, reference) is not False:
            continue
        for relation, phrases in RELATIONS.items():
            beside = [i for i in group if objects.beside(i, members[0], relation)]
            if 1 < len(beside) < len(group):
                yield ("", f"{phrases[0]} the {reference}"), beside


def _enough(superlative: str) -> float:
    return AREA_LEAD if superlative in ("largest", "smallest") else SUPERLATIVE_LEAD


def _ordinals(objects: LabelledObjects, index: int) -> Iterator[str]:
    """Yield frames with the rank of an object from the nearest of two sides, where its neighbours in rank are clear."""
    others = objects.others(index)
    if not 2 <= len(others) < MOST_RANKED:
        return
    for pair in (("left", "right"), ("top", "bottom"), ("largest", "smallest")):
        ranks = {}
        for superlative in pair:
            leads = [objects.lead(k, superlative, [index]) or 0.0 for k in others]
            equal, enough = (1.0 if superlative in ("largest", "smallest") else 0.0), _enough(superlative)
            before = sum(lead > equal for lead in leads)
            clear = all(lead >= enough or _back(lead, superlative) >= enough for lead in leads)
            if clear and 1 <= before < (LAST_RANK_OF_SIZE if superlative in ("largest", "smallest") else LAST_RANK):
                ranks[superlative] = before
        if ranks:
            superlative = min(ranks, key=ranks.__getitem__)
            word = ORDINAL_WORDS[ranks[superlative]]
            if superlative in SIDES:
                yield f"The {word} {{}} from the {superlative}"
            else:
                yield f"The {word} {superlative} {{}}"


def _back(lead: float, superlative: str) -> float:
    """Return the lead of the other one of two objects."""
    return 1 / max(lead, 1e-12) if superlative in ("largest", "smallest") else -lead


def _distances(objects: LabelledObjects, index: int) -> Iterator[str]:
    """Yield frames with the one object of another kind that this object is nearest to, or furthest from."""
    noun, others = objects.vocabulary.noun_of(objects.names[index]), objects.others(index)
    for other, members in objects.groups.items():
        reference = objects.vocabulary.noun_of(other)
        if objects.others(members[0]) or objects.vocabulary.means(noun, reference) is not False:
            continue
        for relation, words in (("nearest", "nearest to"), ("furthest", "furthest from")):
            if objects.ranked(index, members[0], others, relation, AREA_LEAD):
                yield f"The {{}} {words} the {reference}"


def _single(objects: LabelledObjects, text: str, index: int) -> bool:
    """Tell whether an expression is proven true of an object and false of all others that could be meant."""
    return objects.truth(text, index) is True and all(objects.truth(text, k) is False for k in objects.others(index))
