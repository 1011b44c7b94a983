"""Drops what cannot be right and says the same thing in the same way (``optisar dataset clean``).

An image goes when its file cannot be read, when the same file was seen before, or when no object of it is left. An
object goes when its box or its category means nothing; two records of one object become one with the captions of both.
A caption goes when there is nothing to read in it; the object stays. Everything that goes is counted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import JpegImagePlugin, PngImagePlugin

from optisar_yolo.construction import steps
from optisar_yolo.construction.cleaning.naming import Namer
from optisar_yolo.construction.cleaning.objects import mend, merge, settle
from optisar_yolo.construction.recipe import Recipe, recipe_in
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.sources.images import image_size
from optisar_yolo.construction.steps import Report, ordered_map
from optisar_yolo.data import DataError, Skips, read_image
from optisar_yolo.language import clean as normalise
from optisar_yolo.utils import UsageError

DEFAULTS: dict[str, Any] = {"pixels": False, "hash": True, "ambiguous": "flag"}
AMBIGUOUS = ("flag", "drop", "keep")
"""What to do with a caption that is said of several objects of one image."""


def main(options: dict[str, Any]) -> None:
    """Run the step.

    Args:
        options: ``pixels``: decode every image; ``hash``: find images whose files are equal; ``ambiguous``: one of
            `AMBIGUOUS`; and those of every step.

    Raises:
        DataError: Nothing was imported, or a source's categories do not fit its modality.
        UsageError: An unknown value of ``ambiguous``.
    """
    if options["ambiguous"] not in AMBIGUOUS:
        raise UsageError(f"ambiguous={options['ambiguous']}: choose from {', '.join(AMBIGUOUS)}")
    work = Path(options["work"])
    source = steps.input_of(work, "clean", options["from"] or None)
    recipe = recipe_in(work)
    keep = {k: options[k] for k in DEFAULTS}

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        return clean(samples, report, recipe, jobs=options["jobs"], **keep)

    steps.run(work, "clean", step, source, keep | {"recipe": recipe.as_dict()}, dry_run=options["dry_run"])


def clean(
    samples: Iterable[Sample],
    report: Report,
    recipe: Recipe,
    pixels: bool = False,
    hash: bool = True,
    ambiguous: str = "flag",
    jobs: int = 1,
) -> Iterator[Sample]:
    """Clean what was imported.

    Args:
        samples: What to clean; read twice, so no iterator.
        report: Counts what is dropped or mended.
        recipe: Says which category of the dataset config a source's word stands for. Where it keeps the sources' own
            splits, two records of one object are merged only within a split.
        pixels: Decode every image. Otherwise only what its file says about itself is checked.
        hash: Drop an image whose file equals an earlier one's.
        ambiguous: What to do with a caption said of several objects of an image: "flag" them, "drop" it, or "keep" it.
        jobs: Threads that read images.

    Yields:
        Images with at least one object; boxes inside and of positive area, categories of the dataset config.

    Raises:
        DataError: A sample's source is not in the recipe, or maps to the other modality; or no image is left.
    """
    namer = Namer(recipe, samples)
    seen: set[bytes] = set()
    left = 0

    def look_at(sample: Sample) -> tuple[Sample, _Look]:
        return sample, _look(sample.path, pixels, hash)

    for sample, look in ordered_map(look_at, samples, jobs):
        if look.size is None:
            report.problems.add("image that cannot be read, dropped", f"{sample.path}: {look.problem}")
            continue
        if hash and look.digest in seen:
            report.problems.add("image whose file equals an earlier one, dropped", sample.name)
            continue
        sample = _sized(sample, look.size, report.problems)
        checked = (_instance(i, sample, namer, report) for i in sample.instances)
        instances = merge((i for i in checked if i), report, recipe.by_source)
        if ambiguous != "keep":
            instances = settle(instances, report, drop=ambiguous == "drop")
        if instances:
            left += 1
            seen.add(look.digest)  # here: one folder may be two sources, whose images keep their objects in one only
            yield replace(sample, instances=instances)
        else:
            report.problems.add("image without any object left, dropped", sample.name)
    if not left:
        raise DataError("no image is left after cleaning: " + ("; ".join(report.problems.lines()) or "none came in"))


@dataclass(frozen=True)
class _Look:
    """What an image's file says: its hash, its size in pixels (None: unreadable), and what is wrong with it."""

    digest: bytes = b""
    size: tuple[int, int] | None = None
    problem: str = ""


def _look(path: str, pixels: bool, hash: bool) -> _Look:
    try:
        digest = bytes.fromhex(steps.sha256(Path(path))) if hash else b""
        size = image_size(Path(path))
        if pixels:
            _decode(Path(path))
    except (ValueError, OSError) as error:  # DataError is a ValueError
        return _Look(problem=str(error))
    return _Look(digest, size)


def _decode(path: Path) -> None:
    """Read all pixels.

    Raises:
        DataError: The image cannot be decoded, or a part of it is missing, which OpenCV fills with grey.
    """
    read_image(path)
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if start.startswith(b"\xff\xd8\xff"):
                JpegImagePlugin.jpeg_factory(file, str(path)).load()
            elif start == b"\x89PNG":
                PngImagePlugin.PngImageFile(file, str(path)).load()
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
            raise DataError(f"{path}: the image is damaged ({error}); copy it again") from error


def _sized(sample: Sample, size: tuple[int, int], problems: Skips) -> Sample:
    """Give a sample the size of its file, where its annotation said another."""
    if size == (sample.width, sample.height):
        return sample
    said = f"{sample.width}x{sample.height}"
    problems.add("image of another size than its annotation says, the file's size counts", f"{sample.name}, {said}")
    # The boxes may be those of an image of the other size.
    flag = f"size: the annotation says {said}, the file is {size[0]}x{size[1]}"
    instances = [replace(i, flags=[*i.flags, flag]) for i in sample.instances]
    return replace(sample, width=size[0], height=size[1], instances=instances)


def _instance(instance: Instance, sample: Sample, namer: Namer, report: Report) -> Instance | None:
    """Return an object with its box checked, its category named and its captions normalised; None to drop it."""
    box = mend(instance.box, (sample.width, sample.height), instance.id, report.problems)
    if box is None:
        return None
    category = namer.name(sample.source, instance.category)
    if category is None:
        report.problems.add("object of a category that the recipe does not name, dropped", f"{instance.category!r}")
        return None
    captions = []
    for caption in instance.captions:
        try:
            text = normalise(caption)
        except ValueError:
            report.problems.add("caption without a visible character, dropped", instance.id)
            continue
        said = namer.reword(sample.source, text)
        if said != text:
            report.count("captions rewritten")
            report.problems.add("caption with a finer word, rewritten", f"{text} -> {said}")
        captions.append(said)
    return replace(instance, box=box, category=category, captions=captions)
