"""Decisions about objects under review, and the queue of objects to decide on.

:class:`DecisionLog` is the only state of a review: one decision a line, on the disk before the page goes on. Unlike the
journals of other runs it is never begun anew, since it holds a person's work. A crash can tear its last line at most.
Lines that are no decision are left out on reading, with a warning.
"""

from __future__ import annotations

import json
import os
import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ultralytics.utils import LOGGER

from optisar_yolo.construction.samples import Instance, Sample, sample_of
from optisar_yolo.data import Box, DataError, Skips, is_number
from optisar_yolo.language import clean

ACTIONS = ("accept", "correct", "reject", "open")
"""Decisions about an object: accept it, accept it with changes, delete it, leave it undecided again."""


@dataclass(frozen=True)
class Decision:
    """A decision about one object.

    Attributes:
        id: The object's id.
        action: One of `ACTIONS`. Only "correct" has a box, captions or a category.
        box: The corrected box, xyxy in pixels; None keeps the object's own.
        captions: The corrected expressions; None keeps the object's own.
        category: The corrected category; None keeps the object's own.
        by: Name of the reviewer, if known.
        time: UTC in ISO 8601.
    """

    id: str
    action: str
    box: Box | None = None
    captions: tuple[str, ...] | None = None
    category: str | None = None
    by: str = ""
    time: str = ""


def resolved(instance: Instance, decision: Decision | None) -> Instance | None:
    """Return an object after the last decision about it (None: there is none), or None where it was rejected."""
    if decision is None or decision.action == "open":
        return instance
    if decision.action == "reject":
        return None
    if decision.action == "accept":
        return replace(instance, flags=[])
    return replace(
        instance,
        box=instance.box if decision.box is None else decision.box,
        captions=instance.captions if decision.captions is None else list(decision.captions),
        category=decision.category or instance.category,
        flags=[],
    )


def correction(before: Instance, after: Instance, by: str = "") -> Decision:
    """Return the decision of a reviewer that turns one object into the other."""
    return Decision(
        before.id,
        "correct",
        box=after.box if after.box != before.box else None,
        captions=tuple(after.captions) if after.captions != before.captions else None,
        category=after.category if after.category != before.category else None,
        by=by,
    )


class DecisionLog:
    """The decisions of a review.

    Args:
        path: The file; it may be missing, and appears with the first decision.

    Attributes:
        last: Object id to the last decision about it, the most recent decision at the end. "open" ones are left out.

    Raises:
        DataError: The file cannot be read, or not one of its lines is a decision.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: dict[str, Decision] = {}
        torn, kept = Skips(), 0
        try:
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        self._take(_decision(json.loads(line)))
                        kept += 1
                    except (ValueError, RecursionError) as error:
                        if line.strip():
                            torn.add("line that is no decision, left out", f"line {number}: {error}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if torn.counts and not kept:
            raise DataError(f"{path}: no journal of a review; {torn.lines()[0]}. Move the file away to begin anew")
        for problem in torn.lines():
            LOGGER.warning(f"{path}: {problem}")

    def add(self, *decisions: Decision) -> None:
        """Write decisions, and return when they are on the disk.

        Args:
            decisions: Those without a time get the present one.

        Raises:
            OSError: The folder cannot be written or the disk is full; the decisions are then not taken.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        timed = [d if d.time else replace(d, time=now) for d in decisions]
        lines = "".join(
            json.dumps({k: v for k, v in asdict(d).items() if v not in (None, "")}, ensure_ascii=False) + "\n"
            for d in timed
        ).encode(errors="replace")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0) as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                lines = (b"" if file.read(1) == b"\n" else b"\n") + lines  # after a torn line
            written = 0
            while written < len(lines):  # a nearly full disk takes a part and says so only then
                written += file.write(lines[written:])
            os.fsync(file.fileno())
        for decision in timed:
            self._take(decision)

    def _take(self, decision: Decision) -> None:
        self.last.pop(decision.id, None)
        if decision.action != "open":
            self.last[decision.id] = decision


def _decision(content: object) -> Decision:
    """Check one line.

    Raises:
        ValueError: It is no decision.
    """
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    if unknown := sorted(set(content) - set(Decision.__dataclass_fields__)):
        raise ValueError(f"unknown key '{unknown[0]}'")
    for key in ("id", "action"):
        if not isinstance(content.get(key), str) or not content[key]:
            raise ValueError(f"'{key}' is missing or no text")
    if content["action"] not in ACTIONS:
        raise ValueError(f"action '{content['action']}' is none of {', '.join(ACTIONS)}")
    for key in ("category", "by", "time"):
        if not isinstance(content.get(key, ""), str):
            raise ValueError(f"'{key}' is no text")
    box, captions = content.get("box"), content.get("captions")
    if box is not None and not is_box(box):
        raise ValueError("'box' is not four finite numbers x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    if captions is not None and not (isinstance(captions, list) and all(isinstance(c, str) for c in captions)):
        raise ValueError("'captions' is no list of texts")
    return Decision(
        **content
        | {"box": None if box is None else tuple(map(float, box))}
        | {"captions": None if captions is None else tuple(captions)}
    )


def is_box(box: object) -> bool:
    """Tell whether a JSON value is a box: four finite numbers, xyxy, of positive area."""
    if not isinstance(box, Sequence) or len(box) != 4 or not all(is_number(v) for v in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])


def cleaned(captions: Iterable[str]) -> list[str]:
    """Return expressions without surplus white space and without repetitions or empty ones."""
    kept = []
    for caption in captions:
        with suppress(ValueError):
            kept.append(clean(caption))
    return list(dict.fromkeys(kept))


class Queue:
    """The objects to review, in the order of the file.

    Of each object only its id, its kinds of flags and its place are held; its image's record is read when it is shown.

    Args:
        path: A file of samples. It stays open, so that a step may write it anew meanwhile.
        show: "flagged" or "all": the objects with flags, or every one.

    Attributes:
        ids: The objects' ids.
        kinds: Kind of flag to the number of objects that have it.
        categories: All categories of the file, also of objects that are not shown.
    """

    def __init__(self, path: Path, show: str) -> None:
        self.ids: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.categories: set[str] = set()
        self._kinds_of: list[tuple[str, ...]] = []
        self._offsets, self._places = array("Q"), array("L")
        self._lock = threading.Lock()  # images are read in threads
        self._file = open(path, "rb")  # noqa: SIM115  # kept open for as long as the queue lives
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        offset = 0
        for number, line in enumerate(self._file, 1):
            try:
                sample = sample_of(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{path} line {number}: no sample ({error}); repeat the step that wrote it") from error
            for place, instance in enumerate(sample.instances):
                self.categories.add(instance.category)
                if show == "all" or instance.flags:
                    kinds = tuple(sorted({kind_of(f) for f in instance.flags}))
                    self.ids.append(instance.id)
                    self._kinds_of.append(known.setdefault(kinds, kinds))
                    self._offsets.append(offset)
                    self._places.append(place)
                    self.kinds.update(kinds)
            offset += len(line)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.ids)

    def load(self, position: int) -> tuple[Sample, int]:
        """Return the sample of the image of one object, and which of its instances the object is.

        Raises:
            IndexError: No such position.
        """
        if not 0 <= position < len(self):
            raise IndexError(position)
        with self._lock:
            self._file.seek(self._offsets[position])
            line = self._file.readline()
        return sample_of(line), self._places[position]

    def positions(self, kind: str = "") -> list[int]:
        """Return the positions of the objects with a kind of flag, of all where none is named."""
        return [i for i, kinds in enumerate(self._kinds_of) if not kind or kind in kinds]


def kind_of(flag: str) -> str:
    """Return the kind of a flag: "screen" of "screen: best IoU 0.12"."""
    return flag.partition(":")[0].strip()


def next_open(ids: list[str], decided: Mapping[str, object], start: int) -> int | None:
    """Return the first index from `start`, and then from the beginning, whose id is undecided, or None."""
    return next((i for i in (*range(start, len(ids)), *range(min(start, len(ids)))) if ids[i] not in decided), None)
