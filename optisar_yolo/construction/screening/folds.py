"""Cuts a data set into k parts, so that every image can be judged by a model that has not seen it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from optisar_yolo.construction.samples import Sample
from optisar_yolo.data import DataError


def folds_of(samples: Iterable[Sample], folds: int, seed: int) -> dict[str, int]:
    """Assign images to folds of the same size, every source and rare category spread over all of them.

    An image and its transformed copies are one: they get one fold.

    Args:
        samples: The images; iterated twice.
        folds: Number of folds, at least 2.
        seed: Of the draw.

    Returns:
        Name of the origin (see `Sample.origin`) to its fold, from 0.

    Raises:
        DataError: Fewer than two folds, or fewer images than folds.
    """
    if folds < 2:
        raise DataError(f"folds={folds}: an image can be judged by a model that has not seen it from 2 folds on")
    counts = Counter(i.category for sample in samples for i in sample.instances)
    # Dealt out in this order, images of one source with the same rarest category go to all folds in turn.
    groups: dict[str, tuple[str, str]] = {}
    for sample in samples:
        rarest = min((i.category for i in sample.instances), key=lambda c: (counts[c], c), default="")
        groups.setdefault(sample.origin, (rarest, sample.source))
    if len(groups) < folds:
        raise DataError(f"folds={folds}, but there are only {len(groups)} images; use fewer folds")

    def key(name: str) -> tuple[str, str, bytes]:
        return (*groups[name], hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest())

    return {name: number % folds for number, name in enumerate(sorted(groups, key=key))}
