"""The step ``describe``: writes expressions for objects without any, from their boxes and categories.

`optisar_yolo.language.LabelledObjects` decides which claims single out one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from optisar_yolo.construction import steps
from optisar_yolo.construction.copies import labelled_objects
from optisar_yolo.construction.recipe import declared_in
from optisar_yolo.construction.samples import Sample, rng_of
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.language import BUILT_IN, LabelledObjects, Vocabulary, describe as describe_object, parse

DRAWS = 10  # wordings drawn at most until one names the modality, or does not, as requested


def describe_step(work: WorkFolder, each: int, modality: float) -> None:
    """Run the step; for the options see :func:`describe`.

    Raises:
        DataError: Input that cannot be used.
    """
    options: dict[str, Any] = {"each": each, "modality": modality, "seed": work.seed}
    source = steps.input_of(work.path, "describe", work.source)
    vocabulary, declared = declared_in(work.path)

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        return describe(samples, report, **options, vocabulary=vocabulary)

    steps.run(work.path, "describe", step, source, options | declared, dry_run=work.dry_run)


def describe(
    samples: Iterable[Sample],
    report: Report,
    each: int = 1,
    modality: float = 0.5,
    seed: int = 0,
    vocabulary: Vocabulary = BUILT_IN,
) -> Iterator[Sample]:
    """Give every object without an expression some that are true of it and of no other object of its image.

    Objects that have an expression keep it. An object without any unambiguous expression stays without.

    Args:
        samples: Images with their boxes; categories are those of the data set ("sar ship").
        report: Counts expressions written and objects left without.
        each: Expressions per object, each with another claim, as far as so many claims single it out.
        modality: Share of the expressions that name the modality.
        seed: Seed of the wording, which depends on it and the image's name alone.
        vocabulary: The nouns of the data set; those of the samples' categories are added.
    """
    for sample in samples:
        if sample.width < 1 or sample.height < 1:
            report.problems.add("image without a size, nothing described", sample.name)
        elif not all(i.captions for i in sample.instances):
            objects = labelled_objects(sample, vocabulary)
            _describe(sample, objects, report, each, modality, rng_of(f"{seed}:{sample.name}"))
        yield sample


def _describe(
    sample: Sample, objects: LabelledObjects, report: Report, each: int, modality: float, rng: np.random.Generator
) -> None:
    if sample.unlisted:
        report.count("images with dropped objects, which no expression may mean")
    taken = {c.casefold() for i in sample.instances for c in i.captions}
    for index, instance in enumerate(sample.instances):
        if instance.captions:
            continue
        claims = len(
            describe_object(objects, index, rng)
        )  # the number is the same at each call; only the wording is drawn
        for claim in rng.permutation(claims)[:each]:
            text = _worded(objects, index, int(claim), bool(rng.random() < modality), rng)
            if text.casefold() in taken:  # an expression of another object in the source
                report.count("expressions that another object has already, left out")
                continue
            taken.add(text.casefold())
            instance.captions.append(text)
            report.count("expressions written")
            report.count("of these with the modality", int(parse(text, objects.vocabulary).modality is not None))
        report.count("objects described" if instance.captions else "objects without an unambiguous expression")


def _worded(objects: LabelledObjects, index: int, claim: int, modality: bool, rng: np.random.Generator) -> str:
    """Return one claim about an object, with or without its modality if one of `DRAWS` wordings is so."""
    for _ in range(DRAWS):
        text = describe_object(objects, index, rng)[claim]
        if (parse(text, objects.vocabulary).modality is not None) == modality:
            break
    return text
