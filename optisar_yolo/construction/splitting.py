"""The step ``split``: assigns images to train, val and test with similar shares of categories and modalities.

By image, it is iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): the rarest category first, each image
to the split that lacks most of that category. An image and all its transformed copies go together.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from optisar_yolo.construction import steps
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.data import SPLITS, DataError


@dataclass
class Group:
    """Images that must not be separated: one and its transformed copies.

    Attributes:
        images: Number of images.
        holds: Number of objects by category, and of images by modality ("sar").
    """

    images: int = 0
    holds: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def split_step(work: WorkFolder, ratio: str, by: str) -> None:
    """Run the step; the arguments are its command's options. `by` is "image", its former name "picture", or "source".

    Raises:
        DataError: A ratio that cannot be read, or input that cannot be used.
    """
    source = steps.input_of(work.path, "split", work.source)
    if by == "source":
        steps.run(work.path, "split", by_source, source, {"by": by}, dry_run=work.dry_run)
        return
    shares = parse_ratio(ratio)
    steps.run(
        work.path,
        "split",
        lambda samples, report: by_image(samples, report, shares, work.seed),
        source,
        {"ratio": ratio, "by": "image", "seed": work.seed},
        dry_run=work.dry_run,
    )


def parse_ratio(text: str) -> tuple[float, float, float]:
    """Read "8:1:1" into shares of train, val and test that add up to 1.

    Raises:
        DataError: Not three numbers of which none is negative and one is positive.
    """
    try:
        parts = [float(p) for p in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) != len(SPLITS) or not all(0 <= p < float("inf") for p in parts) or not sum(parts):
        raise DataError(f"ratio={text}: expected three numbers for {', '.join(SPLITS)}, such as 8:1:1")
    train, val, test = (p / sum(parts) for p in parts)
    return train, val, test


def by_image(
    samples: Iterable[Sample], report: Report, ratio: tuple[float, float, float], seed: int = 0
) -> Iterator[Sample]:
    """Assign every image to one split: set `Sample.split` and every object's split.

    Args:
        samples: Images; read twice.
        report: Counts each split's images, expressions and objects by category.
        ratio: Shares of train, val and test in the images, met to within the images of one group.
        seed: Seed of the order among similar images.

    Raises:
        DataError: No image, or an image and its copy would get into two splits.
    """
    index, groups = _groups(samples)
    if not groups:
        raise DataError("no image to split; look at what the earlier steps dropped")
    assigned = stratify(groups, ratio, seed)
    splits: dict[str, int] = {}
    for sample in samples:
        chosen = assigned[index[sample.origin]]
        if splits.setdefault(sample.origin, chosen) != chosen:
            raise DataError(f"{sample.name}: it and a transformed copy of it would be in two splits")
        sample.split = SPLITS[chosen]
        for instance in sample.instances:
            instance.split = sample.split
        _count(sample, report)
        yield sample


def by_source(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
    """Keep the splits of the source, which belong to objects: an image may be in several.

    `Sample.split` is set where all objects of the image are in one split. The report counts images in several splits.

    Raises:
        DataError: No object has a split.
    """
    found = False
    for sample in samples:
        given = {i.split for i in sample.instances}
        found = found or bool(given - {""})
        sample.split = given.pop() if len(given) == 1 else ""
        if len(given - {""}) > 1:
            report.count("pictures in several splits")
        for instance in sample.instances:
            if not instance.split:
                report.problems.add("object that the source gives no split, without its expressions", instance.id)
        _count(sample, report)
        yield sample
    if not found:
        raise DataError("by=source: the source gives no object a split; use by=image")


def _count(sample: Sample, report: Report) -> None:
    """Count an image in its splits."""
    for split in {i.split for i in sample.instances} | {sample.split}:
        if split:
            report.count(f"{split} pictures")
    for instance in sample.instances:
        if instance.split:
            report.count(f"{instance.split} expressions", len(instance.captions))
            report.count(f"{instance.split} {instance.category}")


def _groups(samples: Iterable[Sample]) -> tuple[dict[str, int], list[Group]]:
    """Put images of one origin, or of one file, into a group each.

    Returns:
        Origin to number of its group, and the groups.
    """
    parent: dict[str, str] = {}  # a forest over origins and files; its roots stand for the groups

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    found: dict[str, Group] = {}  # by origin
    for sample in samples:
        parent[root(f"\0{os.path.normpath(sample.path)}")] = root(sample.origin)
        group = found.setdefault(sample.origin, Group())
        group.images += 1
        group.holds[sample.modality] += 1
        for instance in sample.instances:
            group.holds[instance.category] += 1

    numbers: dict[str, int] = {}
    groups: list[Group] = []
    index: dict[str, int] = {}
    for origin, part in found.items():
        number = index[origin] = numbers.setdefault(root(origin), len(groups))
        if number == len(groups):
            groups.append(part)
            continue
        groups[number].images += part.images
        for key, count in part.holds.items():
            groups[number].holds[key] += count
    return index, groups


def stratify(groups: list[Group], ratio: tuple[float, float, float], seed: int) -> list[int]:
    """Return a split's number for every group, so that all splits have similar shares of every category and modality.

    A split that has its number of images gets no more, so that the sizes are off by less than one group.

    Args:
        groups: The groups.
        ratio: Shares of the splits.
        seed: Seed of the order among equal groups.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = defaultdict(list)
    for number in rng.permutation(len(groups)).tolist():
        for key in groups[number].holds:
            members[key].append(number)
    places = _rounded(sum(g.images for g in groups), ratio)
    total = {key: sum(groups[n].holds[key] for n in numbers) for key, numbers in members.items()}
    lacking = {key: [share * count for share in ratio] for key, count in total.items()}
    assigned = [-1] * len(groups)

    def after(key: str, split: int, group: Group) -> tuple[float, float]:
        """Return the shares that a split would still lack, of a category and of its images."""
        wanted = ratio[split] * total[key]
        return (lacking[key][split] - group.holds[key]) / wanted, places[split] / ratio[split]

    while members:
        left = {key: sum(assigned[n] < 0 for n in numbers) for key, numbers in members.items()}
        rarest = min(left, key=lambda key: (left[key], key))
        # Images with many objects of the category first: those with few even out what these leave.
        for number in sorted(members.pop(rarest), key=lambda n: -groups[n].holds[rarest]):
            if assigned[number] >= 0:
                continue
            group = groups[number]
            free = [s for s in range(len(SPLITS)) if places[s] > 0]
            assigned[number] = best = max(free, key=lambda s: after(rarest, s, group))
            places[best] -= group.images
            for key, count in group.holds.items():
                lacking[key][best] -= count
    return assigned


def _rounded(total: int, ratio: tuple[float, float, float]) -> list[int]:
    """Divide a number into whole parts that add up to it, largest remainders first."""
    exact = [share * total for share in ratio]
    parts = [int(e + 1e-9) for e in exact]
    for split in sorted(range(len(parts)), key=lambda s: parts[s] - exact[s])[: total - sum(parts)]:
        parts[split] += 1
    return parts
