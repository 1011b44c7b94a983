"""The step ``describe``: writes expressions for objects without any, from their boxes and categories.

`optisar_yolo.language.LabelledObjects` decides which claims single out one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.construction import steps
from optisar_yolo.construction.copies import labelled_objects
from optisar_yolo.construction.recipe import declared_in
from optisar_yolo.construction.samples import Sample, rng_of
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.data import DataError, distinguishing_colour, read_image
from optisar_yolo.language import (
    BUILT_IN,
    Vocabulary,
    agree,
    describe as describe_object,
    describe_sets,
    draw_by_kind,
    mentions,
    parse,
    reword as reword_text,
)

MODALITY = 0.5  # share of the expressions that name the modality, where the set has both


def describe_step(
    work: WorkFolder, each: int, modality: float | None, sets: bool, colours: bool, reword: float
) -> None:
    """Run the step; for the options see :func:`describe`.

    Raises:
        DataError: Input that cannot be used.
    """
    source = steps.input_of(work.path, "describe", work.source)
    if modality is None:
        modality = MODALITY if len({sample.modality for sample in source}) > 1 else 0.0
    options: dict[str, Any] = {
        "each": each, "modality": modality, "sets": sets, "colours": colours, "reword": reword, "seed": work.seed,
    }  # fmt: skip
    vocabulary, declared = declared_in(work.path)

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        return describe(samples, report, **options, vocabulary=vocabulary)

    steps.run(work.path, "describe", step, source, options | declared, dry_run=work.dry_run)


def describe(
    samples: Iterable[Sample],
    report: Report,
    each: int = 1,
    modality: float = MODALITY,
    seed: int = 0,
    vocabulary: Vocabulary = BUILT_IN,
    sets: bool = False,
    colours: bool = False,
    reword: float = 0.0,
) -> Iterator[Sample]:
    """Give every object without an expression some that are true of it and of no other object of its image.

    Objects that have an expression keep it. An object without any unambiguous expression stays without, or gets one of
    a set that it belongs to.

    Args:
        samples: Images with their boxes; categories are those of the data set ("sar ship").
        report: Counts expressions written and objects left without.
        each: Expressions per object, each with another claim, as far as so many claims single it out.
        modality: Share of the expressions that name the modality.
        seed: Seed of the wording, which depends on it and the image's name alone.
        vocabulary: The nouns of the data set; those of the samples' categories are added.
        sets: Objects that nothing singles out get an expression of several objects ("the two ships on the left"), as
            all objects of the set do. Without them, kinds that stand close together get few expressions.
        colours: Measure colours in optical images, and name one that tells an object from the others ("the red car").
        reword: Share of the expressions that are said in other words.
    """
    for sample in samples:
        if sample.width < 1 or sample.height < 1:
            report.problems.add("image without a size, nothing described", sample.name)
        elif not all(i.captions for i in sample.instances):
            _Describer(sample, report, vocabulary, modality, reword, rng_of(f"{seed}:{sample.name}")).run(
                each, sets, colours
            )
        yield sample


class _Describer:
    """Describes the objects of one image."""

    def __init__(
        self,
        sample: Sample,
        report: Report,
        vocabulary: Vocabulary,
        modality: float,
        reword: float,
        rng: np.random.Generator,
    ) -> None:
        self.sample, self.report, self.modality, self.reword, self.rng = sample, report, modality, reword, rng
        self.objects = labelled_objects(sample, vocabulary)
        self.taken = {c.casefold() for i in sample.instances for c in i.captions}

    def run(self, each: int, sets: bool, colours: bool) -> None:
        """Describe all objects that have no expression."""
        if self.sample.unlisted:
            self.report.count("images with dropped objects, which no expression may mean")
        bare = [i for i, instance in enumerate(self.sample.instances) if not instance.captions]
        img = self._pixels() if colours and self.sample.modality == "optical" else None
        for index in bare:
            texts = describe_object(self.objects, index, self.rng, modality=float(self.rng.random() < self.modality))
            if img is not None:
                texts += self._coloured(img, index)
            for text in draw_by_kind(texts, each, self.rng, self.objects.vocabulary):
                self._add(text, [index])
        if sets:
            self._sets(bare)
        for index in bare:
            described = bool(self.sample.instances[index].captions)
            self.report.count("objects described" if described else "objects without an unambiguous expression")

    def _coloured(self, img: NDArray[np.uint8], index: int) -> list[str]:
        """Return the expression that names an object's colour, where it is measurable and tells it from the others."""
        objects = self.objects
        noun, others = objects.vocabulary.noun_of(objects.names[index]), objects.others(index)
        if objects.may_mean_unlisted(noun):
            return []
        colour = distinguishing_colour(img, objects.boxes, index, others)
        text = ("The {}", mentions(noun)[0])[int(self.rng.integers(2))].format(f"{colour} {noun}")
        return [agree(text[0].upper() + text[1:])] if colour else []

    def _pixels(self) -> NDArray[np.uint8] | None:
        """Read the image, where its file is as the boxes say."""
        try:
            img = read_image(Path(self.sample.path))
        except DataError:
            img = None
        if img is None or img.shape[:2] != (self.sample.height, self.sample.width) or self.sample.transform:
            self.report.count("optical images whose colours cannot be measured")
            return None
        return img

    def _sets(self, bare: list[int]) -> None:
        """Give objects that nothing singles out the expressions of sets that they belong to."""
        left = {i for i in bare if not self.sample.instances[i].captions}
        if not left:
            return
        for text, members in describe_sets(self.objects, self.rng, float(self.rng.random() < self.modality)):
            if left & set(members) and set(members) <= set(bare) and self._add(text, list(members)):
                self.report.count("expressions of several objects")
                left -= set(members)

    def _add(self, text: str, members: list[int]) -> bool:
        """Add an expression to its objects, unless another object has it already."""
        if self.rng.random() < self.reword:
            text = reword_text(text, self.rng, self.objects.vocabulary)
        if text.casefold() in self.taken:  # an expression of another object in the source
            self.report.count("expressions that another object has already, left out")
            return False
        self.taken.add(text.casefold())
        for index in members:
            self.sample.instances[index].captions.append(text)
        self.report.count("expressions written")
        self.report.count("of these with the modality", int(parse(text, self.objects.vocabulary).modality is not None))
        return True
