"""Chooses which images are mirrored or turned, so that rare categories come up to a number of objects."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low

from optisar_yolo.construction.samples import TRANSFORMS, Sample


@dataclass(frozen=True)
class Choice:
    """What to copy, and why.

    Attributes:
        copies: Position of an image among the samples to the transforms that it is copied with.
        counts: Objects by category before.
        target: The number that rare categories were to reach.
    """

    copies: dict[int, tuple[str, ...]]
    counts: dict[str, int]
    target: int


def usable(sample: Sample, by_source: bool) -> bool:
    """Tell whether an image may be copied: not one that is a copy, nor one that belongs to "val" or "test".

    Args:
        sample: The image.
        by_source: Objects keep the splits of their sources, so that all of its objects must be training ones.
    """
    splits = {sample.split} | ({i.split for i in sample.instances} if by_source else set())
    return not sample.transform and splits <= {"", "train"}


def choose(samples: Iterable[Sample], target: int = 0, by_source: bool = False, seed: int = 0) -> Choice:
    """Choose copies for the categories with fewer objects than a target, the rarest category first.

    An image is used at most once with each transform, and every image of a category once before any is used twice;
    images with few objects of frequent categories come first, ties are drawn. An image is passed over where it holds
    a rare category that has reached the target, so that none exceeds it by more than the objects of one image.

    Args:
        samples: Read once; of each image its name and its numbers of objects are remembered.
        target: Number of objects to reach; 0: the (lower) median of the categories' numbers.
        by_source: As for `usable`; only usable images are counted.
        seed: Of the draws, which do not depend on the order of the samples.
    """
    total: Counter[str] = Counter()
    held: dict[int, tuple[str, tuple[tuple[str, int], ...]]] = {}
    for position, sample in enumerate(samples):
        if usable(sample, by_source):
            mine = Counter(i.category for i in sample.instances)
            total.update(mine)
            held[position] = (sample.name, tuple(mine.items()))
    if not total:
        return Choice({}, {}, target)
    target = target or median_low(total.values())
    rare = {c for c, n in total.items() if n < target}
    count = Counter(total)
    taken: dict[int, list[str]] = {}
    for category in sorted(rare, key=lambda c: (total[c], c)):
        images = [_Candidate(p, *held[p], rare, seed) for p in held if any(c == category for c, _ in held[p][1])]
        images.sort(key=lambda p: (p.frequent, p.draw))
        for turn in range(len(TRANSFORMS)):
            for image in images:
                if count[category] >= target:
                    break
                transform = image.order[turn]
                if transform in taken.get(image.position, ()):
                    continue
                if any(c in rare and count[c] >= target for c, _ in image.objects):
                    continue
                taken.setdefault(image.position, []).append(transform)
                count.update(dict(image.objects))
    return Choice({p: tuple(sorted(t, key=TRANSFORMS.index)) for p, t in taken.items()}, dict(total), target)


class _Candidate:
    """An image that can be copied: its objects by category, how many of them are of frequent categories, its draws."""

    def __init__(
        self, position: int, name: str, objects: tuple[tuple[str, int], ...], rare: set[str], seed: int
    ) -> None:
        self.position, self.objects = position, objects
        self.frequent = sum(n for c, n in objects if c not in rare)
        rng = random.Random(f"{seed}/{name}")
        self.draw = rng.random()
        self.order = rng.sample(TRANSFORMS, len(TRANSFORMS))
