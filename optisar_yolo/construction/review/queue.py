"""The objects a reviewer is to look at, found again by their place in the file of samples.

Of each object only its id, its kinds of flags and its place are held; its image's record is read when it is shown.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from optisar_yolo.construction.samples import Sample, sample_of
from optisar_yolo.data import DataError

SHOW = ("flagged", "all")
"""Which objects are reviewed: those with flags, or every one."""


class Queue:
    """Objects in the order of the file.

    Args:
        path: A file of samples. A step that writes it anew meanwhile does no harm: this one stays open as it is.
        show: One of `SHOW`.

    Attributes:
        ids: The objects' ids.
        kinds: Kind of flag to the number of objects that have it.
        categories: All categories of the file, also of objects that are not shown.

    Raises:
        DataError: A line of the file cannot be read.
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
        """Read the image of one object.

        Args:
            position: Which of the objects, from 0.

        Returns:
            The image's sample, and which of its instances the object is.

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
    """Return what a flag is about: "screen" of "screen: best IoU 0.12"."""
    return flag.partition(":")[0].strip()


def next_open(ids: list[str], decided: Mapping[str, object], start: int) -> int | None:
    """Return the first index from `start` on, and then from the beginning, whose id is undecided; None: none is."""
    return next((i for i in (*range(start, len(ids)), *range(min(start, len(ids)))) if ids[i] not in decided), None)
