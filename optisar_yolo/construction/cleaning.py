"""The step ``clean``: drops what cannot be right, and gives the same thing the same name.

1. An image is dropped when its file cannot be read or equals an earlier one, or when no object of it is left.
2. An object is dropped when its box or its category cannot be used (:func:`mend`, :class:`Namer`).
3. Two records of one object become one with the captions of both (:func:`merge`).
4. A caption without a visible character is dropped; the object stays. Captions of several objects of an image are
   flagged or dropped (:func:`settle`).

Everything that is dropped is counted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import JpegImagePlugin, PngImagePlugin

from optisar_yolo.construction import steps
from optisar_yolo.construction.finer_words import Unifier, fold
from optisar_yolo.construction.image_files import image_size
from optisar_yolo.construction.recipe import ANY, Recipe, recipe_in
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.data import Box, DataError, Skips, clip, is_number, modality_of, read_image
from optisar_yolo.language import clean as normalise
from optisar_yolo.utils import iou, ordered_map

INSIDE = 0.5  # share of a box that must lie in the image; a box further out belongs to another image or convention
SAME = 0.99  # IoU from which two boxes of a category are two records of one object


def mend(box: object, size: tuple[int, int], record: str, problems: Skips) -> Box | None:
    """Return a box inside its image, or None where it cannot be used.

    Args:
        box: xyxy in pixels, from a file: anything.
        size: Width and height of the image in pixels.
        record: How messages name the box.
        problems: Counts what was dropped or clipped, and why.
    """
    if not isinstance(box, tuple) or len(box) != 4 or not all(map(is_number, box)):
        problems.add("box that is not four finite numbers, dropped", f"{record}: {box}")
        return None
    x1, y1, x2, y2 = map(float, box)
    if x2 <= x1 or y2 <= y1:
        problems.add("box of zero or negative size, dropped", record)
        return None
    share = _share(x1, x2, size[0]) * _share(y1, y2, size[1])
    if share < INSIDE:
        problems.add("box mostly outside its image, dropped", f"{record}, {share:.0%} of it inside")
        return None
    return clip((x1, y1, x2, y2), size, record, problems)


def _share(low: float, high: float, side: float) -> float:
    """Return which share of a stretch lies between 0 and the side."""
    return max(min(high, side) - max(low, 0.0), 0.0) / (high - low)


def comparable(caption: str) -> str:
    """Return a caption for comparisons: without letter case and without the final full stop."""
    return caption.casefold().rstrip(" .!")


def merge(instances: Iterable[Instance], report: Report, by_source: bool = False) -> list[Instance]:
    """Make one object of records with the same category and box, with each of its captions once.

    With `by_source`, records of different splits stay apart.
    """
    groups: dict[tuple[str, str], list[Instance]] = {}
    merged: list[Instance] = []
    for instance in instances:
        group = groups.setdefault((instance.category, instance.split if by_source else ""), [])
        same = iou(instance.box, [i.box for i in group]) >= SAME if group else ()
        first = next((i for i, hit in zip(group, same, strict=True) if hit), None)
        if first is None:
            first = replace(instance, captions=[], flags=[])
            group.append(first)
            merged.append(first)
        else:
            report.problems.add("object recorded twice, merged", f"{instance.id} into {first.id}")
        present = {comparable(c) for c in first.captions}
        for caption in instance.captions:
            if comparable(caption) in present:
                report.problems.add("caption said twice of one object, kept once", instance.id)
                continue
            present.add(comparable(caption))
            first.captions.append(caption)
        first.flags.extend(f for f in instance.flags if f not in first.flags)
    return merged


def settle(instances: list[Instance], report: Report, drop: bool = False) -> list[Instance]:
    """Flag the objects of an image, merged before, that share a caption, or drop the caption from all of them."""
    owners: dict[str, list[Instance]] = {}
    for instance in instances:
        for caption in instance.captions:
            owners.setdefault(comparable(caption), []).append(instance)
    # Records of one object in two splits of its source are not two objects.
    shared = {c: o for c, o in owners.items() if any(iou(o[0].box, i.box) < SAME for i in o[1:])}
    if not shared:
        return instances
    report.count("captions said of several objects", sum(len(o) for o in shared.values()))
    settled = []
    for instance in instances:
        mine = {c: len(shared[comparable(c)]) for c in instance.captions if comparable(c) in shared}
        if drop:
            settled.append(replace(instance, captions=[c for c in instance.captions if c not in mine]))
        else:
            flags = [f"ambiguous: '{c}' is said of {n} objects" for c, n in mine.items()]
            settled.append(replace(instance, flags=[*instance.flags, *flags]))
    return settled


class Namer:
    """Translates the words of a recipe's sources.

    Args:
        recipe: Has each source's words and their categories. Letter case, blanks, hyphens and underscores in a word are
            ignored where the recipe has no exact entry.
        samples: All imported images, read once. A caption may hold any category word of its source, since relations
            name neighbours.

    Raises:
        DataError: A sample's source is not in the recipe, or a source maps to categories of the other modality.
    """

    def __init__(self, recipe: Recipe, samples: Iterable[Sample]) -> None:
        self._exact = {s.name: s.categories for s in recipe.sources}
        self._folded = {s.name: {fold(w): n for w, n in s.categories.items() if w != ANY} for s in recipe.sources}
        for source in recipe.sources:
            if other := [n for n in source.categories.values() if modality_of(n) != source.modality]:
                raise DataError(f"source {source.name} is {source.modality}, and its recipe maps to '{other[0]}'")
        words: dict[str, set[str]] = {s.name: {w for w in s.categories if w != ANY} for s in recipe.sources}
        for sample in samples:
            if sample.source not in words:
                raise DataError(
                    f"{sample.name}: source '{sample.source}' is not in the recipe; import with the recipe at hand"
                )
            words[sample.source].update(i.category for i in sample.instances)
        self._vocabulary = recipe.vocabulary
        self._unifiers = {source: self._unifier(source, found) for source, found in words.items()}

    def _unifier(self, source: str, words: set[str]) -> Unifier:
        names = {word: self.name(source, word) for word in words}
        return Unifier({_bare(w): _bare(n) for w, n in names.items() if n is not None}, self._vocabulary)

    def name(self, source: str, word: str) -> str | None:
        """Return the dataset config's category for a source's word, None where the recipe has none for it."""
        exact = self._exact[source]
        return exact.get(word) or self._folded[source].get(fold(word)) or exact.get(ANY)

    def reword(self, source: str, caption: str) -> str:
        """Return a caption with the nouns of the dataset config in the place of the source's finer words."""
        return self._unifiers[source].rewrite(caption)


def _bare(name: str) -> str:
    """Return a category without its modality: "the optical ship" of a caption is no finer word for a ship."""
    return name.split(maxsplit=1)[-1] if modality_of(name) else name


def clean_step(work: WorkFolder, pixels: bool, hash: bool, ambiguous: str) -> None:
    """Run the step; for the options see :func:`clean`.

    Raises:
        DataError: Nothing was imported, or a source's categories do not fit its modality.
    """
    source = steps.input_of(work.path, "clean", work.source)
    recipe = recipe_in(work.path)
    options = {"pixels": pixels, "hash": hash, "ambiguous": ambiguous}

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        return clean(samples, report, recipe, pixels, hash, ambiguous, work.jobs)

    steps.run(work.path, "clean", step, source, options | {"recipe": recipe.as_dict()}, dry_run=work.dry_run)


def clean(
    samples: Iterable[Sample],
    report: Report,
    recipe: Recipe,
    pixels: bool = False,
    hash: bool = True,
    ambiguous: str = "flag",
    jobs: int = 1,
) -> Iterator[Sample]:
    """Clean imported images.

    Args:
        samples: The images; read twice, so no iterator.
        report: Counts what is dropped or corrected.
        recipe: Has the category of each source's words. Where it keeps the sources' own splits, two records of one
            object are merged only within a split.
        pixels: Decode every image. Otherwise only its file's header is checked.
        hash: Drop an image whose file equals an earlier one's.
        ambiguous: For a caption of several objects of an image: "flag" the objects, "drop" the caption, or "keep" it.
        jobs: Threads that read images.

    Raises:
        DataError: A sample's source is not in the recipe, or maps to the other modality; or no image is left.
    """
    namer = Namer(recipe, samples)
    seen: set[bytes] = set()
    left = 0

    def inspect(sample: Sample) -> tuple[Sample, _File]:
        return sample, _inspect(Path(sample.path), pixels, hash)

    for sample, file in ordered_map(inspect, samples, jobs):
        if file.size is None:
            report.problems.add("image that cannot be read, dropped", f"{sample.path}: {file.problem}")
            continue
        if hash and file.digest in seen:
            report.problems.add("image whose file equals an earlier one, dropped", sample.name)
            continue
        sample = _sized(sample, file.size, report.problems)
        checked = [_instance(i, sample, namer, report) for i in sample.instances]
        lost = [i.category for i, kept in zip(sample.instances, checked, strict=True) if kept is None]
        unlisted = [namer.name(sample.source, word) or word for word in (*sample.unlisted, *lost)]
        instances = merge((i for i in checked if i), report, recipe.by_source)
        if ambiguous != "keep":
            instances = settle(instances, report, drop=ambiguous == "drop")
        if instances:
            left += 1
            seen.add(file.digest)  # here: one folder may be two sources, whose images keep their objects in one only
            yield replace(sample, instances=instances, unlisted=unlisted)
        else:
            report.problems.add("image without any object left, dropped", sample.name)
    if not left:
        raise DataError("no image is left after cleaning: " + ("; ".join(report.problems.lines()) or "none came in"))


@dataclass(frozen=True)
class _File:
    """An image's file: its hash, the image's size in pixels (None: unreadable), and what is wrong with it."""

    digest: bytes = b""
    size: tuple[int, int] | None = None
    problem: str = ""


def _inspect(path: Path, pixels: bool, hash: bool) -> _File:
    try:
        digest = bytes.fromhex(steps.sha256(path)) if hash else b""
        size = image_size(path)
        if pixels:
            _decode(path)
    except (ValueError, OSError) as error:  # DataError is a ValueError
        return _File(problem=str(error))
    return _File(digest, size)


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
    """Give a sample the size of its file, where its annotation has another."""
    if size == (sample.width, sample.height):
        return sample
    noted = f"{sample.width}x{sample.height}"
    problems.add("image of another size than its annotation says, the file's size counts", f"{sample.name}, {noted}")
    # The boxes may be those of an image of the other size.
    flag = f"size: the annotation says {noted}, the file is {size[0]}x{size[1]}"
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
        reworded = namer.reword(sample.source, text)
        if reworded != text:
            report.count("captions rewritten")
            report.problems.add("caption with a finer word, rewritten", f"{text} -> {reworded}")
        captions.append(reworded)
    return replace(instance, box=box, category=category, captions=captions)
