"""Runs one step of data-set construction: reads samples, writes samples, and leaves a manifest of what was done.

A work folder holds one folder per step, such as ``clean/samples.jsonl`` and ``clean/manifest.json``. The manifest names
the step's inputs with their hashes, its options, its counts, and the hash of its output. A step whose manifest still
fits is not run again. A step that was killed leaves no manifest, so it is run again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction.samples import Sample, SampleFile, write_lines
from optisar_yolo.data import SPLITS, DataError, Skips
from optisar_yolo.utils import UnreadableFileError, file_sha256, read_json_file, write_atomic
from optisar_yolo.version import __version__

CHAIN = ("import", "clean", "describe", "screen", "review", "transform", "split")
"""The steps that write samples, in their order; all but the first and the last may be left out."""
GROWING = ("transform",)
"""Steps that write more images than they read."""
PRINTED = 16
"""Number of counts that are printed; the manifest has all."""


@dataclass(frozen=True)
class WorkFolder:
    """Where a data set is built, and how each step runs there.

    Attributes:
        path: The folder.
        source: Name of the step to read from; None or "": the nearest earlier one that has been run.
        dry_run: Count, and write nothing.
        jobs: Number of threads.
        seed: Seed of random draws.
    """

    path: Path
    source: str | None = None
    dry_run: bool = False
    jobs: int = 2
    seed: int = 0


_TOTALS = ("pictures", "objects", "expressions")
_RANK = {name: i for i, name in enumerate((*_TOTALS, *(f"{s} {name}" for s in SPLITS for name in _TOTALS)))}
"""Counts that a line begins with: those of the whole set, then those of each split."""


@dataclass
class Report:
    """What a step did.

    Attributes:
        counts: Numbers to report, by name. The names are keys of the manifest, where images are "pictures".
        problems: Records that were dropped or corrected, with the first few of each kind named.
    """

    counts: dict[str, int] = field(default_factory=dict)
    problems: Skips = field(default_factory=Skips)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the counts."""
        self.counts[name] = self.counts.get(name, 0) + number

    def lines(self, most: int | None = None) -> list[str]:
        """Return the counts in words, then the problems, a line each.

        Args:
            most: Number of counts that are listed; None lists all.
        """
        ordered = sorted(self.counts, key=lambda name: _RANK.get(name, len(_RANK)))
        listed = [f"{self.counts[k]} {k.replace('picture', 'image')}" for k in ordered][:most]
        more = len(self.counts) - len(listed)
        return [", ".join([*listed, *([f"{more} more counts"] if more else [])]), *self.problems.lines()]


Step = Callable[[Any, Report], Iterable[Sample]]
"""A step's function: from `SampleFile` (or, for the first step, the recipe) and `Report` to the samples that follow."""


def output_of(work: Path, step: str) -> Path:
    """Return the file of samples that a step writes."""
    return work / step / "samples.jsonl"


def input_of(work: Path, step: str, given: str | None = None) -> SampleFile:
    """Return the samples that a step reads: those of the nearest earlier step that has been run, or of a given one.

    Raises:
        DataError: Nothing to read from.
    """
    earlier = CHAIN[: CHAIN.index(step)] if step in CHAIN else CHAIN
    if given and given not in CHAIN:
        raise DataError(f"from={given}: no such step; steps that write samples are {', '.join(CHAIN)}")
    for name in (given,) if given else reversed(earlier):
        if (work / name / "manifest.json").is_file():
            return SampleFile(output_of(work, name))
    raise DataError(
        f"{work}: {f'step {given} has not' if given else 'no step has'} been run here; begin with "
        f"'optisar dataset import recipe=… work={work}'"
    )


def run(
    work: Path,
    step: str,
    function: Step,
    source: Any,
    options: dict[str, Any],
    inputs: Iterable[Path] = (),
    dry_run: bool = False,
) -> Report:
    """Run a step, or say that what it would write is there already.

    Args:
        work: The work folder.
        step: Name of the step and of its folder.
        function: What it does.
        source: What it reads: a `SampleFile`, or anything the function knows.
        options: All that its result depends on beside its inputs; JSON can say it.
        inputs: Files whose content the result depends on, beside the file of samples.
        dry_run: Do the work and count, write nothing.

    Returns:
        The report, read from the manifest where the step was not run again.

    Raises:
        DataError: Input that cannot be used, or a folder that cannot be written.
    """
    files = [source.path] if isinstance(source, SampleFile) else []
    request = {
        "step": step,
        "version": __version__,
        "options": options,
        "inputs": {str(file): sha256(file) for file in [*files, *inputs]},
    }
    target, manifest = output_of(work, step), work / step / "manifest.json"
    request = json.loads(json.dumps(request))  # as it will be read back: lists for tuples
    done = _read(manifest)
    if done and {k: done.get(k) for k in request} == request and target.is_file() and done["output"] == sha256(target):
        LOGGER.info(f"{step}: up to date ({manifest})")
        return Report(done["counts"], Skips(done["problems"], done["examples"]))
    report = Report()
    start = time.perf_counter()
    total = len(source) if isinstance(source, SampleFile) and step not in GROWING else None
    samples = TQDM(_counted(function(source, report), report), desc=step, total=total, unit=" images")
    with unwritable(f"{step} cannot go on", target):
        if dry_run:
            deque(samples, maxlen=0)
        else:
            manifest.unlink(missing_ok=True)  # from here on the step counts as not done
            for part in target.parent.glob(f".{target.name}.*.part"):  # left by a run that was killed
                part.unlink(missing_ok=True)
            write_lines(target, samples)
            record = request | {
                "counts": report.counts,
                "problems": report.problems.counts,
                "examples": report.problems.examples,
                "seconds": round(time.perf_counter() - start, 2),
                "peak_memory_mib": peak_memory(),
                "output": sha256(target),
            }
            write_json(manifest, record)
    counts, *problems = report.lines(PRINTED)
    LOGGER.info(f"{step}{' (dry run)' if dry_run else ''}: {counts}")
    for line in problems:
        LOGGER.info(f"  {line}")
    return report


@contextmanager
def unwritable(message: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a DataError: its file (`path` where it names none) and a message."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path}: {message} ({error.strerror or error})") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON that people read, atomically.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _counted(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
    for sample in samples:
        report.count("pictures")
        report.count("objects", len(sample.instances))
        report.count("expressions", sum(len(i.captions) for i in sample.instances))
        yield sample


def _read(manifest: Path) -> dict[str, Any] | None:
    """Return a manifest's content, or None where none can be read."""
    try:
        content = read_json_file(manifest)
    except UnreadableFileError:
        return None
    return content if isinstance(content, dict) else None


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        DataError: The file cannot be read.
    """
    with unwritable("cannot be read", file):
        return file_sha256(file)


def peak_memory() -> int:
    """Return the largest amount of memory that this process has held, in MiB."""
    try:  # Linux; its getrusage includes the memory of the parent process
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) // 2**10
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes on macOS, KiB elsewhere
