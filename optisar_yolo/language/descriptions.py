"""Expressions derived from boxes: what singles out a labelled object, in the words of OptSAR-RSVG."""

from __future__ import annotations

import numpy as np

from optisar_yolo.language.edit import agree
from optisar_yolo.language.verify import BIG, SMALL, LabelledObjects
from optisar_yolo.language.vocabulary import CELLS, RELATIONS

# The least lead of a superlative, as a share of the side and as a factor of area.
SUPERLATIVE_LEAD, AREA_LEAD = 0.05, 1.35
MODALITY_WORD, SIZE_WORD = 0.7, 0.45  # shares of the released expressions that carry the word
_FRAMES = ("The {}", "A {}", "There is a {}")
_SUPERLATIVES = {
    "left": "The leftmost {}", "right": "The rightmost {}", "top": "The {} closest to the top of the image",
    "bottom": "The {} closest to the bottom of the image", "largest": "The largest {}", "smallest": "The smallest {}",
}  # fmt: skip


def describe(objects: LabelledObjects, index: int, rng: np.random.Generator) -> list[str]:
    """Return expressions that single out one object of an image.

    Args:
        objects: All labelled objects of the image.
        index: Index of the object.
        rng: Source of the wording (frame, modality word, size word).

    Returns:
        One expression per claim that is true of this object alone: first its place, then superlatives, relations and
        its category where it is unique. Empty when no claim singles it out, and where an object without a box could
        be meant.
    """
    name = objects.names[index]
    noun, others = objects.vocabulary.noun_of(name), objects.others(index)
    modality = objects.vocabulary.modality_words.get(objects.vocabulary.modality_of(name) or "")

    def thing(sized: bool = False) -> str:
        area = objects.areas[index]
        size = "big " if area > BIG else "small " if area < SMALL else ""
        size = size if sized and rng.random() < SIZE_WORD else ""
        if size and objects.vocabulary.read(size + noun) not in (None, noun):
            size = ""  # "small vehicle" is the name of another category
        return size + (f"{modality[0]} " if rng.random() < MODALITY_WORD and modality else "") + noun

    texts: list[str] = []
    for place, phrase in CELLS.items():
        if objects.in_place(index, place) and not any(objects.in_place(k, place) for k in others):
            frame = _FRAMES[int(rng.integers(len(_FRAMES)))]
            texts.append(f"{frame.format(thing(True))} {phrase} of the image")
            break
    for superlative, phrase in _SUPERLATIVES.items():
        lead = objects.lead(index, superlative)
        if lead is not None and lead >= (AREA_LEAD if superlative in ("largest", "smallest") else SUPERLATIVE_LEAD):
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
    return [agree(t) for t in texts if not objects.may_mean_unlisted(t)]
