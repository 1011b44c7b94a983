"""Expressions for objects that nobody described (``optisar dataset describe``), from their boxes alone.

What can be said, and when it singles out one object, is decided by `optisar_yolo.language.LabelledObjects`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.construction import steps
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import DataError
from optisar_yolo.language import LabelledObjects, parse

DEFAULTS: dict[str, Any] = {"each": 1, "modality": 0.5}
DRAWS = 10  # wordings drawn at most until one names the modality, or does not, as wished


def main(options: dict[str, Any]) -> None:
    """Run the step ``describe``.

    Args:
        options: ``each``: expressions per object, each with another claim. ``modality``: share of the expressions that
            name the modality ("the SAR ship"), in [0, 1].

    Raises:
        DataError: An option out of range, or input that cannot be used.
    """
    if options["each"] < 1:
        raise DataError(f"each={options['each']}: every object needs at least 1 expression")
    if not 0 <= options["modality"] <= 1:
        raise DataError(f"modality={options['modality']}: a share lies between 0 and 1")
    work = Path(options["work"])
    source = steps.input_of(work, "describe", options["from"] or None)
    keep = {k: options[k] for k in ("each", "modality", "seed")}
    steps.run(work, "describe", lambda s, r: describe(s, r, **keep), source, keep, dry_run=options["dry_run"])


def describe(
    samples: Iterable[Sample], report: Report, each: int = 1, modality: float = 0.5, seed: int = 0
) -> Iterator[Sample]:
    """Give every object without an expression some that are true of it and of no other object of its image.

    Objects that have an expression keep it; an object about which nothing unambiguous can be said stays without.

    Args:
        samples: Images with their boxes; categories are names of the dataset config ("sar ship").
        report: Counts expressions written and objects left without.
        each: Expressions per object, as far as there are so many claims that single it out.
        modality: Share of the expressions that name the modality.
        seed: Of the wording; an image's wording depends on the seed and its name alone.

    Yields:
        The samples with their new expressions.
    """
    for sample in samples:
        if sample.width < 1 or sample.height < 1:
            report.problems.add("image without a size, nothing described", sample.name)
        elif not all(i.captions for i in sample.instances):
            _describe(sample, report, each, modality, rng_of(seed, sample.name))
        yield sample


def rng_of(seed: int, name: str) -> np.random.Generator:
    """Return an image's own source of draws, the same whatever other images there are."""
    digest = hashlib.sha256(f"{seed}:{name}".encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _describe(sample: Sample, report: Report, each: int, modality: float, rng: np.random.Generator) -> None:
    boxes = np.array([i.box for i in sample.instances], dtype=np.float64)
    scene = LabelledObjects(boxes, [i.category for i in sample.instances], (sample.width, sample.height))
    taken = {c.casefold() for i in sample.instances for c in i.captions}
    for index, instance in enumerate(sample.instances):
        if instance.captions:
            continue
        claims = len(scene.describe(index, rng))  # the list is as long at each call; only the wording is drawn
        for claim in rng.permutation(claims)[:each]:
            text = _worded(scene, index, int(claim), bool(rng.random() < modality), rng)
            if text.casefold() in taken:  # said of another object by the source
                report.count("expressions that another object has already, left out")
                continue
            taken.add(text.casefold())
            instance.captions.append(text)
            report.count("expressions written")
            report.count("of these with the modality", int(parse(text).modality is not None))
        report.count("objects described" if instance.captions else "objects without an unambiguous expression")


def _worded(scene: LabelledObjects, index: int, claim: int, modality: bool, rng: np.random.Generator) -> str:
    """Return one claim about an object, worded with or without its modality as far as some draws offer it."""
    for _ in range(DRAWS):
        text = scene.describe(index, rng)[claim]
        if (parse(text).modality is not None) == modality:
            break
    return text
