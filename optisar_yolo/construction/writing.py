"""The step ``write``: writes a data set in the layout of the released OptSAR-RSVG.

1. An image's new name follows from its place among the samples alone (:func:`jobs_of`), and every file appears whole or
   not at all, so a run that was killed goes on where it stopped.
2. ``manifest.json`` in the folder records what the files were made from; a folder with other files is refused
   (:func:`claim`).
3. Images are written as `optisar_yolo.data.read_image` reads them, which applies a file's EXIF orientation, as training
   does: linked or copied files keep their orientation mark, files that are encoded anew are upright.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from optisar_yolo.construction import steps
from optisar_yolo.construction.recipe import Recipe, recipe_in, renamed_keys
from optisar_yolo.construction.samples import TRANSFORMS, Sample, SampleFile
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.construction.written_files import Target, WriteJob, coco_file, usable, write_image
from optisar_yolo.data import SPLITS, DataError
from optisar_yolo.utils import appearing, is_part, ordered_map, read_json_file, write_atomic

PREFIX = {"optical": "opt", "sar": "sar"}
NOTE = "manifest.json"
SHARED = "pictures in several splits"
TABLE = "names.csv"
OURS = ("images", "labels", "annotations", TABLE, *(f"{split}.json" for split in SPLITS))
COLUMNS = ("file_name", "split", "name", "origin", "source", "transform", "licence")


def write_step(work: WorkFolder, to: str, link: bool, format: str, replace: bool) -> None:
    """Run the step; the arguments are its command's options.

    Raises:
        DataError: A folder with other files, or one that cannot be written.
    """
    source = steps.input_of(work.path, "write", work.source)
    recipe = recipe_in(work.path)
    target = Target(Path(to).expanduser().absolute(), recipe.names, link, format)
    options = {"link": link, "format": format, "recipe": recipe.as_dict()}
    plan = {"samples": steps.sha256(source.path), "options": options}
    with steps.unwritable("cannot be written", target.root):
        complete = claim(target.root, plan, recipe, replace, work.dry_run)
        if not complete and not work.dry_run:
            (work.path / "write" / "manifest.json").unlink(missing_ok=True)  # the step counts as not done

    def step(samples: SampleFile, report: Report) -> Iterator[Sample]:
        if work.dry_run:
            return estimate(samples, report, recipe, target)
        return write(samples, report, recipe, target, work.jobs)

    options = {"to": str(target.root)} | options
    report = steps.run(work.path, "write", step, source, options, dry_run=work.dry_run)
    if not (complete or work.dry_run):
        with steps.unwritable("cannot be written", target.root / NOTE):
            _note(target.root, plan, complete=True, shared=report.counts.get(SHARED, 0))


def config_of(root: Path, recipe: Recipe) -> Path:
    """Return the dataset config's file.

    Raises:
        DataError: The recipe's name cannot be a file's name.
    """
    if not recipe.name or Path(recipe.name).name != recipe.name:
        raise DataError(f"the recipe's name '{recipe.name}' cannot be a file's name; change it and import again")
    return root / f"{recipe.name.lower()}.yaml"


def claim(root: Path, plan: dict[str, Any], recipe: Recipe, replace: bool, dry_run: bool) -> bool:
    """Claim a folder for a data set, or check that it is already claimed; no file of others is touched.

    Args:
        root: The data set's folder.
        plan: Samples and options of the data set, as plain values.
        recipe: Names the dataset config.
        replace: Delete the files of another plan.
        dry_run: Change nothing.

    Returns:
        Whether the folder already holds the complete data set.

    Raises:
        DataError: The folder holds other things.
        OSError: It cannot be written.
    """
    config = config_of(root, recipe)
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file; choose another to=")
    present = [p for p in root.iterdir() if not is_part(p.name)] if root.is_dir() else []
    if present and not (root / NOTE).is_file():
        raise DataError(f"{root}: holds files ({present[0].name}) that this command did not write; choose another to=")
    if present:
        try:
            note = read_json_file(root / NOTE)
            made_from = note["plan"]
            made_from["options"]["recipe"] = renamed_keys(made_from["options"]["recipe"])[0]  # of an earlier version
            same, complete = made_from == plan, bool(note["complete"])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{root / NOTE}: not written by this command; choose another to=") from None
        if same and complete:
            return config.is_file() and _whole(root)
        if not same and not replace:
            raise DataError(
                f"{root}: holds another build (other samples or options); choose another to=, or replace=True to "
                "delete its images, labels and annotations first"
            )
        if not same and not dry_run:
            clear(root, config)
    if not dry_run:
        _note(root, plan, complete=False)
        for part in [p for p in root.rglob(".*") if is_part(p.name)]:  # of a run that was killed
            part.unlink(missing_ok=True)
    return False


def _whole(root: Path) -> bool:
    """Tell whether all images are there that the table of names lists, and the annotations of their splits."""
    try:
        with open(root / TABLE, encoding="utf-8", newline="") as file:
            rows = [(row["split"], row["file_name"]) for row in csv.DictReader(file)]
    except (OSError, KeyError):
        return False
    files = {f"{split}.json" for split, _ in rows} | {f"images/{split}/{name}" for split, name in rows}
    return all((root / name).is_file() for name in files)


def clear(root: Path, config: Path) -> None:
    """Delete what this command writes, and nothing else."""
    for path in (*(root / name for name in OURS), config):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _note(root: Path, plan: dict[str, Any], complete: bool, shared: int = 0) -> None:
    """Record in the folder what it is made from, and how many images are in several splits on purpose."""
    content = {"made by": "optisar dataset write", "plan": plan, "complete": complete, SHARED: shared}
    steps.write_json(root / NOTE, content)


def jobs_of(samples: Iterable[Sample], report: Report, recipe: Recipe) -> Iterator[WriteJob]:
    """Give every image its name and splits, in the order of the samples; leave out what cannot be written."""
    numbers = dict.fromkeys(PREFIX, 0)
    for sample in samples:
        if sample.modality not in PREFIX:
            report.problems.add("image of unknown modality, left out", sample.name)
            continue
        if sample.transform not in ("", *TRANSFORMS):
            report.problems.add("image with an unknown transform, left out", f"{sample.name}: {sample.transform}")
            continue
        numbers[sample.modality] += 1  # counts those left out too: a name never depends on a file's state
        size = (sample.width, sample.height)
        sample.instances = [i for i in sample.instances if usable(i, size, recipe, report)]
        present = {sample.split} if sample.split else {i.split for i in sample.instances}
        splits = [s for s in SPLITS if s in present]
        if not splits:
            report.problems.add("image of no split, left out (run 'optisar dataset split')", sample.name)
            continue
        yield WriteJob(sample, f"{PREFIX[sample.modality]}_{numbers[sample.modality]:06d}", splits)


def estimate(samples: Iterable[Sample], report: Report, recipe: Recipe, target: Target) -> Iterator[Sample]:
    """Count the images that `write` would write, and the disk space that they need."""
    needed = 0
    for job in jobs_of(samples, report, recipe):
        needed += sum(target.missing(job, split) for split in job.splits)
        for split in job.splits:
            report.count(f"{split} pictures")
        yield job.sample
    report.count("MiB still to be written, about", math.ceil(needed / 2**20))


def write(samples: Iterable[Sample], report: Report, recipe: Recipe, target: Target, jobs: int = 1) -> Iterator[Sample]:
    """Write a data set: images, labels and XML one by one, JSON, dataset config and table of names at the end.

    Args:
        samples: Images with their splits; read again where the disk is full, to report how much is missing.
        report: Counts images and expressions, and records that cannot be written.
        recipe: Names the data set, its categories in their order, and the sources' licences.
        target: Folder and format.
        jobs: Threads.

    Yields:
        The samples that are in the data set, with their new names and files.

    Raises:
        DataError: Nothing can be written, or the disk is full.
    """
    licences = {s.name: s.licence for s in recipe.sources}
    written = dict.fromkeys(SPLITS, 0)
    try:
        with ExitStack() as open_files:
            files = {s: open_files.enter_context(coco_file(target.root / f"{s}.json", recipe.names)) for s in SPLITS}
            table = csv.writer(open_files.enter_context(appearing(target.root / TABLE)))
            table.writerow(COLUMNS)
            planned = jobs_of(samples, report, recipe)
            for job, problem in ordered_map(partial(write_image, target=target), planned, jobs):
                sample = job.sample
                if problem:
                    report.problems.add(f"{problem}, left out", f"{sample.name}: {sample.path}")
                    continue
                if len(job.splits) > 1:
                    report.count(SHARED)
                for split in job.splits:
                    objects = job.objects(split)
                    files[split].add(target.file_name(job), sample.width, sample.height, objects, sample.unlisted)
                    written[split] += 1
                    report.count(f"{split} pictures")
                    report.count(f"{split} expressions", sum(len(i.captions) for i in objects))
                    origin = (sample.name, sample.origin, sample.source, sample.transform)
                    table.writerow([target.file_name(job), split, *origin, licences.get(sample.source, "")])
                sample.name, sample.path = job.stem, str(target.image(job, job.splits[0]))
                sample.transform = ""  # the new file shows the image as it is
                yield sample
            if not any(written.values()):
                raise DataError(f"{target.root}: nothing to write; {'; '.join(report.problems.lines()) or 'no image'}")
    except OSError as error:
        raise DataError(_stopped(error, samples, recipe, target, sum(written.values()))) from error
    write_atomic(config_of(target.root, recipe), _config(recipe, [s for s in SPLITS if written[s]], licences))


def _stopped(error: OSError, samples: Iterable[Sample], recipe: Recipe, target: Target, done: int) -> str:
    """Return where writing stopped and what it needs to go on."""
    plan = jobs_of(samples, Report(), recipe)
    missing = sum(target.missing(job, split) for job in plan for split in job.splits) / 2**20
    return (
        f"{error.filename or target.root}: cannot be written ({error.strerror or error}) after {done} images; about "
        f"{math.ceil(missing)} MiB are still to be written. Make room or correct the permissions and repeat the "
        "command: it goes on from there"
    )


def _config(recipe: Recipe, splits: list[str], licences: dict[str, str]) -> str:
    """Return the dataset config's text."""
    head = [f"# {recipe.name}, written by 'optisar dataset write'. Its images keep the licences of their sources:"]
    head += [f"#   {name}: {' '.join(licence.split()) or 'not stated'}" for name, licence in licences.items()]
    content = {
        "path": ".",
        **{split: f"{split}.json" for split in splits},
        "images": "images",
        "labels": "labels",
        "names": dict(enumerate(recipe.names)),
    }
    content |= recipe.declared
    return "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
