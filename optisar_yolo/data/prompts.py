"""The prompt list of an image: T = 20 expressions, each with a target for every labelled object.

1. Positives: one caption of each object that has any, for at most half the list. A positive is a negative of the other
   objects in the image (the paper's in-image negatives) of which the boxes prove it false. The others are left out of
   the loss: where one of three ships has the caption "A ship", the other two are not taught as false. With `exclusive`
   a caption that says more than a category is left out only for objects of which the boxes prove it true.
2. Category expressions: objects without a caption get the one of their category ("A SAR ship"), which means all objects
   of that category.
3. Adversarial variants: positives with one word exchanged ("left" for "right", "SAR" for "optical"), at least one for
   each positive that has any.
4. Global negatives: captions of other images, half of them of categories that this image shows too; where these run
   out, expressions of all known categories fill the list.
5. A share of all expressions, true and false ones alike, is reworded.

The boxes decide every target of steps 3 and 4. An expression is a negative only where it is proven false of every
labelled object (the released sampler also teaches true expressions as false). A variant that is proven to mean another
object, as "the rightmost ship" made of "the leftmost ship", is a positive of that object, and one that means another
set ("the two ships on the right") of its objects. Variants that may be true are not used. A caption of several objects
is a positive of all of them.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from optisar_yolo.language import (
    BUILT_IN,
    NOUNS,
    UNREAD,
    LabelledObjects,
    ParsedExpression,
    Variant,
    Vocabulary,
    agree,
    mentions,
    parse,
    reword,
    swap,
    truths_of_variant,
)
from optisar_yolo.plugin import SETTINGS
from optisar_yolo.utils import weights_of

SAME_CATEGORY = 0.5  # share of global negatives that are of categories this image shows too
_TRIES = 4  # draws from the pool per expression of the list, before made-up expressions fill it


@dataclass
class PromptList:
    """Expressions of one image and what they mean for its objects.

    Attributes:
        texts: T different expressions.
        targets: [N, T] float32: 1 the expression means this object, 0 it does not, -1 it may (left out of the loss).
        kinds: Per expression "positive", "category", "swap" or "other".
    """

    texts: list[str]
    targets: np.ndarray
    kinds: list[str] = field(default_factory=list)


class PromptSampler:
    """Draws a `PromptList` for an image.

    Args:
        pool: Captions of the training set, repeats included: global negatives are drawn from it as often as they occur.
        total: Number of expressions T.
        neg_ratio: Adversarial variants per positive; every positive that has one gets at least one.
        kinds: Kinds of words that are exchanged, with their weights (see `optisar_yolo.language.KINDS`); kinds that are
            not named are never exchanged.
        reword_share: Probability of each expression, true or false, to be reworded.
        categories: Probability of each category in the image to get its category expression even if all its objects
            have captions, with or without its modality ("a ship"). As many categories that the image does not show
            are named, too.
        exclusive: A caption that says more than a category is false of every other object of which the boxes do not
            prove it true.
        vocabulary: The nouns of the data set.

    Raises:
        ValueError: total < 2, a negative ratio or a share outside 0…1.
    """

    def __init__(
        self,
        pool: Sequence[str],
        total: int = 20,
        neg_ratio: float = 0.5,
        reword_share: float = 0.0,
        kinds: str = SETTINGS["swap_kinds"].default,
        categories: float = 0.0,
        exclusive: bool = False,
        vocabulary: Vocabulary = BUILT_IN,
    ) -> None:
        if total < 2:
            raise ValueError(f"prompts={total}: a list needs room for a true and a false expression; use 2 or more")
        if neg_ratio < 0 or not 0 <= reword_share <= 1:
            raise ValueError(f"neg_ratio={neg_ratio} must be >= 0 and reword={reword_share} within 0 and 1")
        self.total, self.neg_ratio = total, neg_ratio
        self.reword_share = reword_share
        self.kinds = {k: w for k, w in weights_of(kinds).items() if w}
        self.categories, self.exclusive = categories, exclusive
        self.vocabulary = vocabulary
        self.seen_by = ("SAR", "optical", *(words[0] for words in vocabulary.modalities.values()))
        self._seen_by = re.compile(rf"^(?:{'|'.join(map(re.escape, self.seen_by))}) ", re.IGNORECASE)
        self.pool = list(pool)
        self._by_noun: dict[str | None, list[str]] = defaultdict(list)
        for text in self.pool:
            self._by_noun[parse(text, vocabulary).category].append(text)
        self._nouns = sorted(noun for noun in self._by_noun if noun)

    def __call__(
        self,
        captions: Sequence[Sequence[str]],
        boxes: np.ndarray,
        names: Sequence[str],
        size: tuple[float, float],
        rng: np.random.Generator,
        unlisted: Sequence[str] = (),
    ) -> PromptList:
        """Draw the prompt list of one image.

        Args:
            captions: Captions of each object, of which one is drawn; may be empty.
            boxes: [N, 4] xyxy in pixels, all labelled objects.
            names: Category name of each object ("sar ship").
            size: (width, height) of the image in pixels.
            rng: Source of all choices: the same state gives the same list.
            unlisted: Category names of objects that the image shows and that have no box; no expression that could mean
                one of them is taught as false of the image.

        Returns:
            Exactly `total` different expressions, and their targets.

        Raises:
            ValueError: Numbers of captions, boxes and names differ, or more categories than expressions.
        """
        if not len(captions) == len(boxes) == len(names):
            raise ValueError(f"{len(captions)} captions, {len(boxes)} boxes and {len(names)} names for one image")
        objects = LabelledObjects(boxes, names, size, self.vocabulary, unlisted=unlisted)
        columns: dict[str, np.ndarray] = {}
        kinds: list[str] = []

        def add(text: str, kind: str, owners: Sequence[int] = ()) -> None:
            columns[text] = np.zeros(len(names), np.float32)
            if kind in ("positive", "category"):  # of the others, the sampler has proven that they are false
                certain = self.exclusive and kind == "positive" and self._says_more(text)
                columns[text][[v or (v is None and not certain) for v in objects.truths(text)]] = -1
            columns[text][list(owners)] = 1
            kinds.append(kind)

        positives = self._positives(captions, rng)
        for text, owners in positives.items():
            add(text, "positive", owners)
        for text, name in self._categories(objects, columns, rng):
            add(text, "category", objects.groups[name])
            # Objects of other categories that the noun means as well, or may mean, are left out of the loss.
            columns[text][[i for i in objects.others(objects.groups[name][0]) if objects.names[i] != name]] = -1
        for text in self._absent_categories(objects, kinds.count("category") if names else self.total // 4, rng):
            if len(columns) < self.total and text not in columns:  # a caption may contradict its boxes
                add(text, "other")
        for text, owners in self._adversarial(positives, objects, columns, self.total - len(columns), rng):
            add(text, "swap", owners)
        for text in self._global_negatives(objects, rng):
            if len(columns) >= self.total:
                break
            if text not in columns and objects.false_of_all(text):
                add(text, "other")
        if len(columns) != self.total:
            raise ValueError(
                f"no {self.total} different expressions for an image with {len(objects.groups)} categories"
            )
        texts = self._reword(list(columns), rng)
        return PromptList(texts, np.stack(list(columns.values()), axis=1).reshape(len(names), self.total), kinds)

    def _says_more(self, text: str) -> bool:
        """Return whether a caption says more than the category and modality of its object."""
        read = parse(text, self.vocabulary)
        bare = ParsedExpression(read.category, read.modality, definite=read.definite)
        return read.category is None or read != bare

    def _positives(self, captions: Sequence[Sequence[str]], rng: np.random.Generator) -> dict[str, list[int]]:
        """Draw one caption of each object that has any, for at most half the list: caption -> its objects."""
        captioned = [n for n, c in enumerate(captions) if len(c)]
        room = self.total // 2
        if len(captioned) > room:
            captioned = sorted(rng.choice(captioned, room, replace=False).tolist())
        chosen: dict[str, list[int]] = {}
        for n in captioned:
            text = captions[n][int(rng.integers(len(captions[n])))]
            chosen.setdefault(text, [i for i, own in enumerate(captions) if text in own])  # also where not drawn
        return chosen

    def _categories(
        self, objects: LabelledObjects, columns: dict[str, np.ndarray], rng: np.random.Generator
    ) -> list[tuple[str, str]]:
        """Return (expression, category name) of every category with an object that no expression means yet."""
        covered = np.zeros(len(objects), bool)
        for column in columns.values():
            covered |= column == 1
        made: dict[str, str] = {}
        for name, members in objects.groups.items():
            wanted = not covered[members].all() or (self.categories and rng.random() < self.categories)
            if wanted and len(columns) + len(made) < self.total:
                phrase = category_phrase(name, self.vocabulary)
                drawn = self._category(phrase, rng)
                # A caption of an object, or another category without its modality, may have the same words; then the
                # category gets another frame. Where all are in use, its objects go without.
                a, there_is = mentions(phrase)
                others = (agree(frame.format(phrase)) for frame in (there_is, "Any {}", a, "{}"))
                text = next((t for t in (drawn, *others) if t not in columns and t not in made), None)
                if text is not None:
                    made[text] = name
        return list(made.items())

    def _category(self, name: str, rng: np.random.Generator) -> str:
        """Word the expression of a category."""
        frames = (*mentions(name), "{}")
        frame = frames[int(rng.integers(len(frames)))]
        if self.categories and rng.random() < 0.5:
            name = self._seen_by.sub("", name)
        return agree(frame.format(name))

    def _absent_categories(self, objects: LabelledObjects, count: int, rng: np.random.Generator) -> list[str]:
        """Return expressions of categories that the image does not show, where `categories` is above 0.

        Without them the form of a category expression would reveal that it is true.
        """
        if not self.categories:
            return []
        made = [
            self._category(f"{self.seen_by[int(rng.integers(len(self.seen_by)))]} {self._nouns[i]}", rng)
            for i in rng.permutation(len(self._nouns))
        ]
        return list(islice(filter(objects.false_of_all, made), count))

    def _adversarial(
        self,
        positives: dict[str, list[int]],
        objects: LabelledObjects,
        used: dict[str, Any],
        room: int,
        rng: np.random.Generator,
    ) -> list[tuple[str, list[int]]]:
        """Return variants, in turn over the positives, with the objects that they mean: none, one or those of a set."""
        wanted = min(max(math.ceil(self.neg_ratio * len(positives)), len(positives)), room)
        queues = {text: self._variants(text, rng) for text in positives}
        out: dict[str, list[int]] = {}
        while queues and len(out) < wanted:
            for text, queue in list(queues.items()):
                for variant in queue:
                    if variant.text in used or variant.text in out or objects.may_mean_unlisted(variant.text):
                        continue
                    truths = truths_of_variant(variant, text, positives[text], objects)
                    several = truths.count(True) > 1 and parse(variant.text, objects.vocabulary).number is None
                    if None not in truths and not several:
                        out[variant.text] = [i for i, v in enumerate(truths) if v]
                        break
                else:
                    del queues[text]
                if len(out) >= wanted:
                    break
        return list(out.items())

    def _variants(self, text: str, rng: np.random.Generator) -> Iterator[Variant]:
        """Yield a caption's variants in random order, their kinds drawn by weight."""
        by_kind: dict[str, list[Variant]] = {}
        for variant in swap(text, self.kinds, self.vocabulary):
            by_kind.setdefault(variant.kind, []).append(variant)
        while by_kind:
            kinds = list(by_kind)
            weights = np.cumsum([self.kinds[k] for k in kinds])
            kind = kinds[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
            yield by_kind[kind].pop(int(rng.integers(len(by_kind[kind]))))
            if not by_kind[kind]:
                del by_kind[kind]

    def _global_negatives(self, objects: LabelledObjects, rng: np.random.Generator) -> Iterator[str]:
        """Yield candidates for global negatives: captions of other images, then expressions of all known categories."""
        nouns = [objects.vocabulary.noun_of(name) for name in objects.groups]
        near = [t for noun in nouns for t in [self._by_noun.get(noun)] if t]
        for _ in range(_TRIES * self.total if self.pool else 0):
            if near and rng.random() < SAME_CATEGORY:
                texts = near[int(rng.integers(len(near)))]
                yield texts[int(rng.integers(len(texts)))]
            else:
                yield self.pool[int(rng.integers(len(self.pool)))]
        known = dict.fromkeys((*NOUNS, *objects.vocabulary.nouns))
        frames = {noun: (*mentions(noun), "{}") for noun in known}
        made = [frames[noun][k].format(f"{m} {noun}") for k in range(3) for noun in known for m in self.seen_by]
        yield from (agree(made[i]) for i in rng.permutation(len(made)))

    def _reword(self, texts: list[str], rng: np.random.Generator) -> list[str]:
        """Reword a share of the expressions, true and false ones alike, so that wording does not tell them apart."""
        if not self.reword_share:
            return texts
        out = list(texts)
        for i, text in enumerate(texts):
            if rng.random() < self.reword_share:
                new = reword(text, rng, self.vocabulary, UNREAD)
                out[i] = text if new in out else new
        return out


def category_phrase(name: str, vocabulary: Vocabulary = BUILT_IN) -> str:
    """Return a category name as expressions write it: "sar ship" is "SAR ship"."""
    modality = vocabulary.modality_of(name) if " " in name else None
    word = f"{vocabulary.modality_words[modality][0]} " if modality else ""
    return word + vocabulary.spoken(name)
