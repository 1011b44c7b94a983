"""An image with its labelled objects and their captions, on its way from the data set to the network.

A mirror or a rotation only changes directions, so a caption can be rewritten. A crop, a mosaic or a pasted object
changes what "left", "the largest ship" and "the only ship" mean:

1. `revalidate_captions` keeps the captions that the new boxes prove, and describes the other objects anew.
2. An object of which a cut leaves less than `KEEP` of its area is a *remnant*. It stays among the boxes, because its
   pixels are still there, but it has no caption and is the target of no expression. `mask_uncertain_targets` leaves it
   out of the loss wherever its box does not prove the expression false. A remnant is therefore neither a positive nor
   background.
3. The full size of a cut object is unknown, so captions claim nothing about sizes in its category.
4. A caption of several objects ("the two ships on the left") stays while it is proven of all of them, and of no other.
   Objects that nothing singles out may get a new one.

All of this takes boxes and `unlisted` to be complete, as `optisar_yolo.language.describe` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language import (
    BUILT_IN,
    MODALITY_WORD,
    LabelledObjects,
    ParsedExpression,
    Vocabulary,
    describe,
    describe_sets,
    has_colour,
    parse,
)

WHOLE = 0.95  # visible share from which an object counts as whole: labelled boxes are not exact
KEEP = 0.3  # visible share below which an object is a remnant

Captions = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image with its objects and captions. Operations return new ones and leave the arrays of the old one alone.

    Attributes:
        img: uint8 [h, w, 3], BGR; it may have another scale than the boxes.
        boxes: float32 [N, 4], xyxy in pixels of an image of `size`: the visible part of each object.
        names: Category name of each object ("sar ship").
        captions: The captions of each object.
        size: Width and height in the boxes' pixels.
        modality: "optical" or "sar".
        visible: float32 [N], the visible share of each object's area; 1 by default.
        revalidated: The captions were checked against the boxes and derived from them.
        fills_canvas: The image is a whole canvas, and must not be drawn smaller.
        vocabulary: The nouns of the data set; those of `names` are added.
        unlisted: Category names of objects that may be in the image and have no box, "" for an unknown one.
        modality_word: Share of the expressions derived from the boxes that name the modality.
    """

    img: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    names: tuple[str, ...]
    captions: Captions
    size: tuple[int, int]
    modality: str
    visible: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    revalidated: bool = False
    fills_canvas: bool = False
    vocabulary: Vocabulary = BUILT_IN
    unlisted: tuple[str, ...] = ()
    modality_word: float = MODALITY_WORD

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", self.vocabulary.including(self.names))
        if len(self.visible) != len(self.boxes):
            object.__setattr__(self, "visible", np.ones(len(self.boxes), np.float32))

    @property
    def scale(self) -> NDArray[np.float64]:
        """Array pixels per pixel of the boxes, [4]: multiply boxes by it to get their place in `img`."""
        height, width = self.img.shape[:2]
        return np.tile([width / self.size[0], height / self.size[1]], 2)

    @cached_property
    def remnant(self) -> NDArray[np.bool_]:
        """Objects of which a cut left too little to be described, bool [N]."""
        return self.visible < KEEP

    @cached_property
    def cut(self) -> frozenset[int]:
        """Indices of the objects that are cut: their full size is unknown."""
        return frozenset(np.flatnonzero(self.visible < WHOLE).tolist())

    @cached_property
    def objects(self) -> LabelledObjects:
        """All visible objects, remnants included."""
        return LabelledObjects(self.boxes, self.names, self.size, self.vocabulary, unlisted=self.unlisted)


def revalidate_captions(image: AnnotatedImage, rng: np.random.Generator) -> AnnotatedImage:
    """Keep the captions that the image's own boxes prove, and describe objects without one anew.

    Captions with attributes that no box can prove, colours excepted, are left out: the crop or the other tiles may
    have made them false. An object that no description singles out gets no caption; the prompt list then names its
    category.

    Args:
        image: An image whose captions were written before it was cut or composed.
        rng: Source of the wording.
    """
    captions: list[tuple[str, ...]] = []
    sets: dict[str, bool] = {}  # what holds for one object of a set holds for all: they are many, and proven once

    def holds(text: str, index: int) -> bool:
        if parse(text, image.vocabulary).number is None:
            return _proven(image, text, index)
        if text not in sets:
            sets[text] = _proven(image, text, index)
        return sets[text] and not image.remnant[index] and image.objects.truth(text, index) is True

    for i, texts in enumerate(image.captions):
        kept = tuple(c for c in texts if holds(c, i))
        captions.append(kept or describe_uniquely(image, i, rng))
    return replace(image, captions=with_sets(image, captions, rng), revalidated=True)


def with_sets(image: AnnotatedImage, captions: Sequence[Sequence[str]], rng: np.random.Generator) -> Captions:
    """Give objects without a caption one of a set that they belong to ("the two ships on the left").

    All objects of the set get the caption, so that each is a target of it.

    Args:
        image: The image.
        captions: The captions of each object.
        rng: Source of the wording.
    """
    out = [list(texts) for texts in captions]
    bare = [i for i, texts in enumerate(out) if not texts and not image.remnant[i]]
    if len(image.boxes) < 2 or not bare:
        return tuple(map(tuple, out))
    for text, members in describe_sets(image.objects, rng, image.modality_word):
        if any(not out[i] for i in members) and _proven(image, text, members[0]):
            for i in members:
                out[i].append(text)
    return tuple(map(tuple, out))


def describe_uniquely(image: AnnotatedImage, index: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Describe an object by what the boxes prove true of it and false of all others that its noun may mean.

    Args:
        image: The image.
        index: Which object; a remnant is not described.
        rng: Source of the wording.
    """
    if image.remnant[index]:
        return ()
    made = describe(image.objects, index, rng, image.modality_word)
    return tuple(c for c in made if _proven(image, c, index))


def _proven(image: AnnotatedImage, caption: str, index: int) -> bool:
    """Tell whether the boxes prove a caption true of an object and false of the others that its noun may mean."""
    objects, words = image.objects, image.vocabulary
    query, name = parse(caption, words), image.names[index]
    reference = query.reference or (parse(query.landmark, words).category if query.landmark else None)
    remnants = {words.noun_of(image.names[k]) for k in np.flatnonzero(image.remnant)}
    if reference and any(words.means(reference, noun) is not False for noun in remnants):
        return False  # the place of the whole reference object is unknown
    others = objects.compared(index, query)
    if _claims_size(query) and not image.cut.isdisjoint((index, *others)):
        return False
    if query.rest:  # an augmentation does not change a colour, which is enough where no other object can be meant
        bare = not (query.place or query.size or query.superlative or query.relation or others)
        coloured = all(has_colour(w) for w in query.rest)
        return bare and coloured and objects.of_category(query, caption, name) is True
    if query.number is not None:  # of a set, the others are members or not; a remnant could be either
        if image.remnant[index]:
            return False
        others = [k for k in others if objects.truth(caption, k) is not True or image.remnant[k]]
    return objects.truth(caption, index) is True and all(objects.truth(caption, k) is False for k in others)


def _claims_size(query: ParsedExpression) -> bool:
    return bool(query.size) or query.superlative in ("largest", "smallest")


def mask_uncertain_targets(
    image: AnnotatedImage, texts: Sequence[str], targets: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Leave out of the loss what the boxes of cut objects cannot decide.

    Args:
        image: The image.
        texts: T expressions.
        targets: [N, T], 1 true, 0 false, -1 left out of the loss.

    Returns:
        The targets with the rows of remnants at 0 where the expression is proven false of them, else at -1. Where
        captions were revalidated, expressions about sizes in a category with a cut object are at -1, too.
    """
    if not image.cut:
        return targets
    out, objects = targets.copy(), image.objects
    for t, text in enumerate(texts):
        query = parse(text, image.vocabulary)
        unsized = image.revalidated and _claims_size(query)
        for i, name in enumerate(image.names):
            compared = (i, *objects.compared(i, query)) if unsized else ()
            if not image.cut.isdisjoint(compared) and objects.of_category(query, text, name) is not False:
                out[i, t] = -1
            elif image.remnant[i]:
                out[i, t] = 0 if objects.truth(text, i) is False else -1
    return out
