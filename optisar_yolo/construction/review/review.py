"""``optisar dataset review``: look at flagged objects in the browser, then apply what was decided.

Decisions go to ``work/review/journal.jsonl`` one by one. ``apply=True`` writes the step's samples from them; they can
also come from another tool, through a COCO JSON file (``export=…``, ``import=…``).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.construction import steps
from optisar_yolo.construction.recipe import recipe_in
from optisar_yolo.construction.review import interchange
from optisar_yolo.construction.review.journal import Decision, Journal, cleaned, resolved
from optisar_yolo.construction.review.queue import SHOW, Queue
from optisar_yolo.construction.samples import Instance, Sample, SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import DataError, Skips, clip, modality_of

DEFAULTS: dict[str, Any] = {
    "port": 8080,
    "host": "127.0.0.1",
    "show": "flagged",
    "by": "",
    "browser": True,
    "apply": False,
    "export": "",
    "import": "",
    "pictures": False,
}


def main(options: dict[str, Any]) -> None:
    """Import decisions, export objects, apply the journal, or, where none of these is asked for, serve the page.

    Args:
        options: ``port``, ``host``, ``browser`` of the page; ``show`` "flagged" or "all" (also for the export); ``by``:
            name in the journal; ``import`` and ``export``: COCO JSON files; ``images``: link the images of the
            export into a folder beside it; ``apply``: write the samples. See `commands.COMMON` for the others.

    Raises:
        DataError: Input that cannot be used.
    """
    work = Path(options["work"])
    if options["show"] not in SHOW:
        raise DataError(f"show={options['show']}: choose from {', '.join(SHOW)}")
    source = steps.input_of(work, "review", options["from"] or None)
    names = recipe_in(work).names
    file, dry_run = work / "review" / "journal.jsonl", options["dry_run"]
    if options["import"]:
        _import(Path(options["import"]), source, Journal(file), names, dry_run)
    if options["apply"]:
        apply(work, source, names, dry_run)
    if options["export"] and not dry_run:
        _export(Path(options["export"]), source, Journal(file), names, options)
    if not (options["import"] or options["apply"] or options["export"]):
        _page(work, source, Journal(file), names, options)


def apply(work: Path, source: SampleFile, names: tuple[str, ...], dry_run: bool = False) -> Report:
    """Write the samples as they were decided.

    Args:
        work: The work folder; its journal is the step's other input.
        source: What was reviewed.
        names: Category names of the data set; empty allows any.
        dry_run: Count only.

    Raises:
        DataError: Nothing was decided, or the samples cannot be written.
    """
    file = work / "review" / "journal.jsonl"
    if not file.is_file():
        raise DataError(f"{file}: nothing has been decided yet; begin with 'optisar dataset review work={work}'")
    decisions = Journal(file).last
    return steps.run(
        work,
        "review",
        lambda samples, report: decided(samples, report, decisions, names),
        source,
        {"names": list(names)},
        inputs=[file],
        dry_run=dry_run,
    )


def decided(
    samples: Iterable[Sample], report: Report, decisions: Mapping[str, Decision], names: tuple[str, ...] = ()
) -> Iterator[Sample]:
    """Apply decisions: rejected objects go, corrected ones are replaced, accepted ones lose their flags.

    An object with a correction that cannot be right keeps its own values and gets a flag. An image that loses its last
    object goes with it.

    Args:
        samples: What was reviewed.
        report: Counts what was done.
        decisions: Object id to the last decision about it.
        names: Category names of the data set; empty allows any.

    Yields:
        The samples as decided.
    """
    unknown = set(decisions)
    for sample in samples:
        kept = []
        for instance in sample.instances:
            unknown.discard(instance.id)
            decision = decisions.get(instance.id)
            after = _checked(resolved(instance, decision), instance, sample, names, report)
            report.count(_outcome(decision, after))
            if after is not None:
                kept.append(after)
        if kept or not sample.instances:
            yield replace(sample, instances=kept)
        else:
            report.count("images without objects left, dropped")
    for id in sorted(unknown):
        report.problems.add("decision about an object that is not here, ignored", id)


def _outcome(decision: Decision | None, after: Instance | None) -> str:
    """Return the name under which an object is counted."""
    if decision is None or decision.action == "open" or (after is not None and after.flags):
        return "flagged and open" if after is not None and after.flags else "not flagged"
    return {"accept": "accepted", "correct": "corrected", "reject": "rejected"}[decision.action]


def _checked(
    after: Instance | None, before: Instance, sample: Sample, names: tuple[str, ...], report: Report
) -> Instance | None:
    """Clip a corrected box, clean corrected captions; what cannot be right becomes a flag on the object as it was."""
    if after is None or after is before:
        return after
    wrong = ""
    box = before.box if after.box == before.box else clip(after.box, (sample.width, sample.height), before.id, Skips())
    if box is None:
        wrong = "box outside the image"
    elif after.category != before.category and names and after.category not in names:
        wrong = f"unknown category '{after.category}'"
    elif after.category != before.category and modality_of(after.category) not in (sample.modality, None):
        wrong = f"category '{after.category}' in a {sample.modality} image"
    if box is None or wrong:
        report.problems.add("correction that cannot be right, not applied", f"{before.id}: {wrong}")
        return replace(before, flags=[*before.flags, f"review: {wrong}"])
    captions = after.captions if after.captions == before.captions else cleaned(after.captions)
    return replace(after, box=box, captions=captions)


def _import(file: Path, source: SampleFile, journal: Journal, names: tuple[str, ...], dry_run: bool) -> None:
    report = Report()
    decisions = list(interchange.decisions_of(file, source, report, journal.last, names))
    if not dry_run:
        _record(journal, decisions)
    for action in ("accept", "correct", "reject"):
        report.count(f"to {action}", sum(d.action == action for d in decisions))
    LOGGER.info(f"{file}: " + ", ".join(f"{n} {name}" for name, n in report.counts.items()))
    for line in report.problems.lines():
        LOGGER.warning(f"  {line}")


def _record(journal: Journal, decisions: list[Decision]) -> None:
    try:
        journal.add(*decisions)
    except OSError as error:
        raise DataError(f"{journal.path}: cannot be written ({error.strerror or error})") from error


def _export(file: Path, source: SampleFile, journal: Journal, names: tuple[str, ...], options: dict[str, Any]) -> None:
    flagged, images = options["show"] == "flagged", options["pictures"]
    try:
        entries, notes = interchange.write_coco(file, source, journal.last, names, flagged, images)
    except OSError as error:
        raise DataError(f"{error.filename or file}: cannot be written ({error.strerror or error})") from error
    LOGGER.info(f"{file}: {images} images, {notes} objects")


def _page(work: Path, source: SampleFile, journal: Journal, names: tuple[str, ...], options: dict[str, Any]) -> None:
    queue = Queue(source.path, options["show"])
    if not len(queue):
        LOGGER.info(f"{source.path}: no flagged objects; show=all reviews every object")
        return
    _check_free(options["host"], options["port"])
    try:
        from optisar_yolo.construction.review.server import serve
    except ImportError as error:
        raise DataError(f"the page needs {error.name}: pip install 'optisar-yolo[build]'") from error
    _record(journal, [])  # a folder that cannot be written is better known before the first decision
    if options["host"] not in ("127.0.0.1", "localhost", "::1"):
        LOGGER.warning(f"host={options['host']}: whoever reaches this address can see the images and decide")
    LOGGER.info(f"{len(queue)} objects to review at http://{options['host']}:{options['port']} (Ctrl-C ends)")
    try:
        serve(
            queue,
            journal,
            names or tuple(sorted(queue.categories)),
            options["by"],
            options["host"],
            options["port"],
            options["browser"],
        )
    except KeyboardInterrupt:
        pass
    done = sum(i in journal.last for i in queue.ids)
    LOGGER.info(
        f"{done} of {len(queue)} decided, kept in {journal.path}. "
        f"Apply them with 'optisar dataset review work={work} apply=True'"
    )


def _check_free(host: str, port: int) -> None:
    """Make sure that the page can be served at this address.

    Raises:
        DataError: It cannot.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except (OSError, OverflowError) as error:
        raise DataError(f"{host}:{port}: the page cannot be served there ({error}); choose another port=") from error
