"""Prompt lists that are not checked against the boxes, for comparison with `optisar_yolo.data.prompts`.

``random`` is the recipe of open-vocabulary detectors (YOLOE): captions of the image's objects, and captions of other
images. ``released`` follows the authors' public release with its errors: it exchanges words inside of other words
("bright" becomes "bleft"), never exchanges "SAR" and "optical", makes no variant for an image with one caption, and may
teach an expression that is true of the image as false.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from optisar_yolo.data.prompts import PromptList

FREQUENT = 200  # the release fills its lists with the most frequent captions of the training set
_EXCHANGES = (
    ("upper left", "upper right"), ("upper right", "upper left"), ("lower left", "lower right"),
    ("lower right", "lower left"), ("leftmost", "rightmost"), ("rightmost", "leftmost"), ("left", "right"),
    ("right", "left"), ("top", "bottom"), ("bottom", "top"), ("above", "below"), ("below", "above"),
    ("middle", "corner"), ("large", "small"), ("small", "large"), ("big", "tiny"), ("long", "short"),
)  # fmt: skip


def exchange(text: str) -> list[str]:
    """Return variants of an expression with one string of letters exchanged, also within words."""
    return list(dict.fromkeys(text.replace(old, new, 1) for old, new in _EXCHANGES if old in text))


class UncheckedSampler:
    """Draws a `PromptList` without looking at the boxes.

    Args:
        pool: Captions of the training set, repeats included.
        total: Number of expressions T.
        neg_ratio: Variants per caption of the image, rounded down (``released``).
        released: Follow the release, not only draw at random.

    Raises:
        ValueError: No captions to draw from.
    """

    def __init__(self, pool: Sequence[str], total: int = 20, neg_ratio: float = 0.5, released: bool = False) -> None:
        if not pool:
            raise ValueError("negatives=random and negatives=released draw captions of the data set, which has none")
        self.total, self.neg_ratio, self.released = total, neg_ratio, released
        self.pool = list(pool)
        if released:
            self.pool = [text for text, _ in Counter(self.pool).most_common(FREQUENT)]

    def __call__(
        self,
        captions: Sequence[Sequence[str]],
        boxes: np.ndarray,
        names: Sequence[str],
        size: tuple[float, float],
        rng: np.random.Generator,
        unlisted: Sequence[str] = (),
    ) -> PromptList:
        """Draw the expressions of one image; arguments and result as of ``PromptSampler``."""
        chosen: dict[str, list[int]] = {}
        for n in rng.permutation(len(captions)).tolist():
            if len(captions[n]) and len(chosen) < self.total - 1:
                chosen.setdefault(captions[n][int(rng.integers(len(captions[n])))], []).append(n)
        texts = list(chosen)
        kinds = ["positive"] * len(texts)
        if self.released:
            wanted = min(int(self.neg_ratio * len(texts)), self.total - len(texts))
            variants = [v for text in chosen for v in exchange(text)]
            for i in rng.permutation(len(variants))[:wanted].tolist():
                texts.append(variants[i])
                kinds.append("swap")
        others = self.pool if self.released else [t for t in self.pool if t not in chosen] or self.pool
        while len(texts) < self.total:
            texts.append(others[int(rng.integers(len(others)))])
            kinds.append("other")
        targets = np.zeros((len(names), self.total), np.float32)
        for column, text in enumerate(chosen):
            targets[chosen[text], column] = 1
        return PromptList(texts, targets, kinds)
