"""The step ``review``: decide on flagged objects in the browser, then apply the decisions.

Decisions are written to ``work/review/journal.jsonl`` one by one. ``apply=True`` writes the step's samples from them.
They can also come from another tool, through a COCO JSON file (``export=…``, ``import=…``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ultralytics.utils import LOGGER

from optisar_yolo.construction import steps
from optisar_yolo.construction.recipe import recipe_in
from optisar_yolo.construction.review import interchange
from optisar_yolo.construction.review.decisions import Decision, DecisionLog, Queue, cleaned, resolved
from optisar_yolo.construction.samples import Instance, Sample, SampleFile
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.data import DataError, Skips, clip, modality_of
from optisar_yolo.utils import check_address


def review_step(
    work: WorkFolder,
    port: int,
    host: str,
    show: str,
    by: str,
    browser: bool,
    apply: bool,
    export: str | None,
    images: bool,
    decisions: str | None,
) -> None:
    """Import decisions, export objects, apply decisions, or else serve the page.

    The arguments are the command's options; `decisions` is its ``import``.

    Raises:
        DataError: Input that cannot be used.
    """
    source = steps.input_of(work.path, "review", work.source)
    names = recipe_in(work.path).names
    file = work.path / "review" / "journal.jsonl"
    if decisions:
        _import(Path(decisions), source, DecisionLog(file), names, work.dry_run)
    if apply:
        apply_decisions(work.path, source, names, work.dry_run)
    if export and not work.dry_run:
        with steps.unwritable("cannot be written", Path(export)):
            last = DecisionLog(file).last
            entries, notes = interchange.write_coco(Path(export), source, last, names, show == "flagged", images)
        LOGGER.info(f"{export}: {entries} images, {notes} objects")
    if not (decisions or apply or export):
        _page(work.path, Queue(source.path, show), DecisionLog(file), names, by, host, port, browser)


def apply_decisions(work: Path, source: SampleFile, names: tuple[str, ...], dry_run: bool = False) -> Report:
    """Write the samples as they were decided; the log of decisions is the step's other input.

    Raises:
        DataError: Nothing was decided, or the samples cannot be written.
    """
    file = work / "review" / "journal.jsonl"
    if not file.is_file():
        raise DataError(f"{file}: nothing has been decided yet; begin with 'optisar dataset review work={work}'")
    decisions = DecisionLog(file).last
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
        samples: The images under review.
        report: Counts the outcomes.
        decisions: Object id to the last decision about it.
        names: Category names of the data set; empty allows any.
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
            report.count("pictures without objects left, dropped")
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


def _import(file: Path, source: SampleFile, log: DecisionLog, names: tuple[str, ...], dry_run: bool) -> None:
    report = Report()
    decisions = list(interchange.decisions_of(file, source, report, log.last, names))
    if not dry_run:
        with steps.unwritable("cannot be written", log.path):
            log.add(*decisions)
    for action in ("accept", "correct", "reject"):
        report.count(f"to {action}", sum(d.action == action for d in decisions))
    counts, *problems = report.lines()
    LOGGER.info(f"{file}: {counts}")
    for line in problems:
        LOGGER.warning(f"  {line}")


def _page(
    work: Path, queue: Queue, log: DecisionLog, names: tuple[str, ...], by: str, host: str, port: int, browser: bool
) -> None:
    if not len(queue):
        LOGGER.info(f"{work}: no flagged objects; show=all reviews every object")
        return
    try:
        check_address(host, port)
    except ValueError as error:
        raise DataError(str(error)) from error
    try:
        from optisar_yolo.construction.review.page import serve
    except ImportError as error:
        raise DataError(f"the page needs {error.name}: pip install 'optisar-yolo[build]'") from error
    with steps.unwritable("cannot be written", log.path):
        log.add()  # nothing, to find a folder that cannot be written before the first decision
    if host not in ("127.0.0.1", "localhost", "::1"):
        LOGGER.warning(f"host={host}: everyone who reaches this address can see the images and decide")
    LOGGER.info(f"{len(queue)} objects to review at http://{host}:{port} (Ctrl-C ends)")
    with suppress(KeyboardInterrupt):
        serve(queue, log, names or tuple(sorted(queue.categories)), by, host, port, browser)
    done = sum(i in log.last for i in queue.ids)
    LOGGER.info(
        f"{done} of {len(queue)} decided, kept in {log.path}. "
        f"Apply them with 'optisar dataset review work={work} apply=True'"
    )
