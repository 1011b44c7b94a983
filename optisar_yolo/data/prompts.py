"""The list of expressions an image is trained with: what is true of its objects, and what is nearly true.

The paper's prompt list has positives, adversarial variants of them, expressions of other objects in the image and of
other images, 20 in all. Here an expression is a negative only where the boxes prove it false of every labelled object
(the released sampler also teaches true expressions as false). A variant that the boxes prove to mean another object, as
"the leftmost ship" made "the rightmost ship", is a positive of that object; expressions that may be true are left out.
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

from optisar_yolo.language import NOUNS, LabelledObjects, Variant, agree, noun_of, parse, reword, swap, verdicts_of
from optisar_yolo.plugin import SETTINGS
from optisar_yolo.utils import weights_of

SAME_CATEGORY = 0.5  # share of other images' expressions taken from categories that this image shows too
_CATEGORY_FRAMES = ("A {}", "There is a {}", "{}")
_MODALITY = re.compile(r"^(?:SAR|optical) ", re.IGNORECASE)
_TRIES = 4  # draws from the pool per expression wanted, before made-up expressions step in


@dataclass
class PromptList:
    """Expressions of one image and what they mean for its objects.

    Attributes:
        texts: T different expressions.
        targets: [N, T] float32: 1 the expression means this object, 0 it does not, -1 it may (leave it out of the
            loss).
        kinds: Per expression "positive", "category", "swap" or "other".
    """

    texts: list[str]
    targets: np.ndarray
    kinds: list[str] = field(default_factory=list)


class PromptSampler:
    """Draws a `PromptList` for an image.

    Args:
        pool: Captions of the training set, in any order, repeats allowed: other images' expressions are drawn from it
            as often as they occur.
        total: Number of expressions T.
        neg_ratio: Adversarial variants per positive; every positive that has one gets at least one.
        category_prompts: Give objects without an expression of their own the one of their category ("A SAR ship"),
            which means all objects of that category. Without it their rows have no 1.
        kinds: Kinds of words that are exchanged, and how often (see `optisar_yolo.language.KINDS`); kinds that are not
            named are left alone. Place and modality are what the method is about.
        reword_share: Probability of each expression, true or false, to be said in other words.
        categories: Probability of each category in the image to be asked for as such ("a ship": all of them),
            whether its objects have expressions or not, with or without its modality; as many absent ones are too.

    Raises:
        ValueError: total < 2, a negative ratio or a share outside 0…1.
    """

    def __init__(
        self,
        pool: Sequence[str],
        total: int = 20,
        neg_ratio: float = 0.5,
        category_prompts: bool = True,
        reword_share: float = 0.0,
        kinds: str = SETTINGS["swap_kinds"].default,
        categories: float = 0.0,
    ) -> None:
        if total < 2:
            raise ValueError(f"prompts={total}: a list needs room for a true and a false expression; use 2 or more")
        if neg_ratio < 0 or not 0 <= reword_share <= 1:
            raise ValueError(f"neg_ratio={neg_ratio} must be >= 0 and reword={reword_share} within 0 and 1")
        self.total, self.neg_ratio = total, neg_ratio
        self.category_prompts, self.reword_share = category_prompts, reword_share
        self.kinds = {k: w for k, w in weights_of(kinds).items() if w}
        self.categories = categories
        self.pool = list(pool)
        self._by_noun: dict[str | None, list[str]] = defaultdict(list)
        for text in self.pool:
            self._by_noun[parse(text).category].append(text)
        self._nouns = sorted(noun for noun in self._by_noun if noun)

    def __call__(
        self,
        captions: Sequence[Sequence[str]],
        boxes: np.ndarray,
        names: Sequence[str],
        size: tuple[float, float],
        rng: np.random.Generator,
    ) -> PromptList:
        """Draw the expressions of one image.

        Args:
            captions: Expressions of each object, of which one is drawn; may be empty.
            boxes: [N, 4] xyxy in pixels, all labelled objects.
            names: Category name of each object ("sar ship").
            size: (width, height) of the image in pixels.
            rng: Source of all choices: the same state gives the same list.

        Returns:
            Exactly `total` different expressions, and their targets.

        Raises:
            ValueError: Numbers of captions, boxes and names differ, or more categories than expressions.
        """
        if not len(captions) == len(boxes) == len(names):
            raise ValueError(f"{len(captions)} captions, {len(boxes)} boxes and {len(names)} names for one image")
        scene = LabelledObjects(boxes, names, size)
        columns: dict[str, np.ndarray] = {}
        kinds: list[str] = []

        def add(text: str, kind: str, column: np.ndarray) -> None:
            columns[text] = column
            kinds.append(kind)

        chosen = self._choose(captions, rng)
        for text, owners in chosen.items():
            add(text, "positive", self._targets(text, owners, scene))
        for text, name in self._categories(scene, columns, rng):
            column = np.zeros(len(names), np.float32)
            column[scene.groups[name]] = 1
            add(text, "category", column)
        nothing = np.zeros(len(names), np.float32)
        for text in self._absent(scene, kinds.count("category") if len(scene) else self.total // 4, rng):
            if len(columns) < self.total and text not in columns:  # a caption may contradict its boxes
                add(text, "other", nothing)
        for text, target in self._swaps(chosen, scene, columns, self.total - len(columns), rng):
            column = nothing.copy()
            column[target] = 1
            add(text, "swap", column)
        for text in self._others(scene, rng):
            if len(columns) >= self.total:
                break
            if text not in columns and scene.false_of_all(text):
                add(text, "other", nothing)
        if len(columns) != self.total:
            raise ValueError(f"no {self.total} different expressions for an image with {len(scene.groups)} categories")
        texts = self._reword(list(columns), rng)
        return PromptList(texts, np.stack(list(columns.values()), axis=1).reshape(len(names), self.total), kinds)

    def _choose(self, captions: Sequence[Sequence[str]], rng: np.random.Generator) -> dict[str, list[int]]:
        """Draw one expression of each expressed object, at most half a list: text -> its objects."""
        expressed = [n for n, c in enumerate(captions) if len(c)]
        room = self.total // 2
        if len(expressed) > room:
            expressed = sorted(rng.choice(expressed, room, replace=False).tolist())
        chosen: dict[str, list[int]] = {}
        for n in expressed:
            chosen.setdefault(captions[n][int(rng.integers(len(captions[n])))], []).append(n)
        return chosen

    @staticmethod
    def _targets(text: str, owners: list[int], scene: LabelledObjects) -> np.ndarray:
        """Return the [N] targets of an object's own expression: also true of another object means "leave out"."""
        column = np.array([-1.0 if v is True else 0.0 for v in scene.verdicts(text)], np.float32)
        column[owners] = 1
        return column

    def _categories(
        self, scene: LabelledObjects, columns: dict[str, np.ndarray], rng: np.random.Generator
    ) -> list[tuple[str, str]]:
        """Return (expression, category name) for every category with an object that no expression means yet."""
        if not self.category_prompts:
            return []
        covered = np.zeros(len(scene), bool)
        for column in columns.values():
            covered |= column == 1
        made: list[tuple[str, str]] = []
        for name, members in scene.groups.items():
            asked = not covered[members].all() or (self.categories and rng.random() < self.categories)
            if asked and len(columns) + len(made) < self.total:
                text = self._category(written(name), rng)
                # A caption of the data set may say just this of one object; then another frame says it of all.
                while text in columns:
                    text = f"Any {written(name)}" if text.startswith("There") else agree(f"There is a {written(name)}")
                made.append((text, name))
        return made

    def _category(self, name: str, rng: np.random.Generator) -> str:
        """Ask for a category."""
        frame = _CATEGORY_FRAMES[int(rng.integers(len(_CATEGORY_FRAMES)))]
        if self.categories and rng.random() < 0.5:
            name = _MODALITY.sub("", name)
        return agree(frame.format(name))

    def _absent(self, scene: LabelledObjects, count: int, rng: np.random.Generator) -> list[str]:
        """Return expressions of categories that the image does not show, where categories are asked for as such.

        Otherwise the wording alone would tell that an expression is true.
        """
        if not self.categories:
            return []
        made = [
            self._category(f"{('SAR', 'optical')[int(rng.integers(2))]} {self._nouns[i]}", rng)
            for i in rng.permutation(len(self._nouns))
        ]
        return list(islice(filter(scene.false_of_all, made), count))

    def _swaps(
        self,
        positives: dict[str, list[int]],
        scene: LabelledObjects,
        used: dict[str, Any],
        room: int,
        rng: np.random.Generator,
    ) -> list[tuple[str, list[int]]]:
        """Return variants and the objects that they mean, none or one.

        In turns over the positives, each time of a kind drawn by its weight.
        """
        wanted = min(max(math.ceil(self.neg_ratio * len(positives)), len(positives)), room)
        queues = {text: self._variants(text, rng) for text in positives}
        out: dict[str, list[int]] = {}
        while queues and len(out) < wanted:
            for text, queue in list(queues.items()):
                for variant in queue:
                    if variant.text in used or variant.text in out:
                        continue
                    verdicts = verdicts_of(variant, text, positives[text], scene)
                    if None not in verdicts and verdicts.count(True) <= 1:
                        out[variant.text] = [i for i, v in enumerate(verdicts) if v]
                        break
                else:
                    del queues[text]
                if len(out) >= wanted:
                    break
        return list(out.items())

    def _variants(self, text: str, rng: np.random.Generator) -> Iterator[Variant]:
        """Yield a caption's variants in random order, kinds weighted."""
        by_kind: dict[str, list[Variant]] = {}
        for variant in swap(text, self.kinds):
            by_kind.setdefault(variant.kind, []).append(variant)
        while by_kind:
            kinds = list(by_kind)
            weights = np.cumsum([self.kinds[k] for k in kinds])
            kind = kinds[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
            yield by_kind[kind].pop(int(rng.integers(len(by_kind[kind]))))
            if not by_kind[kind]:
                del by_kind[kind]

    def _others(self, scene: LabelledObjects, rng: np.random.Generator) -> Iterator[str]:
        """Yield candidates from other images, then made-up ones of all known categories."""
        nouns = [noun_of(name) for name in scene.groups]
        near = [t for noun in nouns for t in [self._by_noun.get(noun)] if t]
        for _ in range(_TRIES * self.total if self.pool else 0):
            if near and rng.random() < SAME_CATEGORY:
                texts = near[int(rng.integers(len(near)))]
                yield texts[int(rng.integers(len(texts)))]
            else:
                yield self.pool[int(rng.integers(len(self.pool)))]
        made = [f.format(f"{m} {noun}") for f in _CATEGORY_FRAMES for noun in NOUNS for m in ("SAR", "optical")]
        yield from (agree(made[i]) for i in rng.permutation(len(made)))

    def _reword(self, texts: list[str], rng: np.random.Generator) -> list[str]:
        """Say a share of the expressions in other words, true and false ones alike: wording must not tell them apart."""
        if not self.reword_share:
            return texts
        out = list(texts)
        for i, text in enumerate(texts):
            if rng.random() < self.reword_share:
                new = reword(text, rng)
                out[i] = text if new in out else new
        return out


def written(name: str) -> str:
    """Return a category name as expressions write it: "sar ship" is "SAR ship"."""
    return "SAR " + name[4:] if name.lower().startswith("sar ") else name
