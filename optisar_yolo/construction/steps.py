"""Runs one step of data-set construction: reads samples, writes samples, and leaves a manifest of what was done.

A work folder holds one folder per step: ``clean/samples.jsonl``, ``clean/manifest.json``. The manifest names the step's
inputs with their hashes, its options, its counts, and the hash of what it wrote; a step whose manifest still fits is
not run again, and a step that was killed has none, so it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction.samples import Sample, SampleFile, write_lines
from optisar_yolo.data import DataError, Skips
from optisar_yolo.utils import write_atomic
from optisar_yolo.version import __version__

T = TypeVar("T")
R = TypeVar("R")

CHAIN = ("import", "clean", "describe", "screen", "review", "transform", "split")
"""The steps that write samples, in their order; all but the first and the last may be left out."""
GROWING = ("transform",)
"""Steps that write more images than they read."""
SAID = 16
"""Counts that are printed; the manifest has them all."""


@dataclass
class Report:
    """What a step did.

    Attributes:
        counts: Numbers to report, by name ("images", "captions rewritten").
        problems: Records that were dropped or mended, with the first few of each kind named.
    """

    counts: dict[str, int] = field(default_factory=dict)
    problems: Skips = field(default_factory=Skips)

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the counts."""
        self.counts[name] = self.counts.get(name, 0) + number


Step = Callable[[Any, Report], Iterable[Sample]]
"""A step's function: from `SampleFile` (or, for the first step, the recipe) and `Report` to the samples that follow."""


def output_of(work: Path, step: str) -> Path:
    """Return the file of samples that a step writes."""
    return work / step / "samples.jsonl"


def input_of(work: Path, step: str, given: str | None = None) -> SampleFile:
    """Return what a step reads: the samples of the nearest earlier step that has been run.

    Args:
        work: The work folder.
        step: One of `CHAIN`, or a step that comes after all of these ("write").
        given: Name of the step to read from instead.

    Raises:
        DataError: Nothing to read from.
    """
    earlier = CHAIN[: CHAIN.index(step)] if step in CHAIN else CHAIN
    if given is not None and given not in CHAIN:
        raise DataError(f"from={given}: no such step; steps that write samples are {', '.join(CHAIN)}")
    for name in (given,) if given else reversed(earlier):
        if (work / name / "manifest.json").is_file():
            return SampleFile(output_of(work, name))
    raise DataError(
        f"{work}: {given or 'no earlier step'} has not been run here; begin with "
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
    target, note = output_of(work, step), work / step / "manifest.json"
    request = json.loads(json.dumps(request))  # as it will be read back: lists for tuples
    done = _read(note)
    if done and {k: done.get(k) for k in request} == request and target.is_file() and done["output"] == sha256(target):
        LOGGER.info(f"{step}: up to date ({note})")
        return Report(done["counts"], Skips(done["problems"], done["examples"]))
    report = Report()
    start = time.perf_counter()
    total = len(source) if isinstance(source, SampleFile) and step not in GROWING else None
    samples = TQDM(_counted(function(source, report), report), desc=step, total=total, unit=" images")
    try:
        if dry_run:
            deque(samples, maxlen=0)
        else:
            note.unlink(missing_ok=True)  # from here on the step counts as not done
            for part in target.parent.glob(f".{target.name}.*.part"):  # of a run that was killed
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
            write_atomic(note, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(f"{error.filename or target}: {step} cannot go on ({error.strerror or error})") from error
    said = [f"{v} {k}" for k, v in report.counts.items()]
    more = f", and {len(said) - SAID} more counts" + ("" if dry_run else f" in {note}") if len(said) > SAID else ""
    LOGGER.info(f"{step}{' (dry run)' if dry_run else ''}: " + ", ".join(said[:SAID]) + more)
    for line in report.problems.lines():
        LOGGER.info(f"  {line}")
    return report


def _counted(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
    for sample in samples:
        report.count("pictures")
        report.count("objects", len(sample.instances))
        report.count("expressions", sum(len(i.captions) for i in sample.instances))
        yield sample


def _read(manifest: Path) -> dict[str, Any] | None:
    """Return a manifest's content, or None where there is none that can be read: the step is then run again."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def sha256(file: Path) -> str:
    """Return the hash of a file's content."""
    try:
        with open(file, "rb") as content:
            digest = hashlib.sha256()
            while block := content.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def peak_memory() -> int:
    """Return the most memory this process has held so far, in MiB."""
    try:  # Linux; its getrusage counts the memory of the process that started this one as well
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


def ordered_map(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """Apply a function in threads, a few items ahead of the reader, and yield the results in order.

    Args:
        function: Work that waits (files, network) or leaves Python (decoding).
        items: Its inputs; only about 4 x jobs of them are held at a time.
        jobs: Number of threads; with 1 nothing runs beside the reader.

    Yields:
        The results in the order of the items.
    """
    if jobs <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
