"""The samples that every step of data-set construction reads and writes: an image with its objects, one JSON line each.

Files of lines are read and written one line at a time, so that memory does not grow with the data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.data import DataError
from optisar_yolo.utils import appearing

TRANSFORMS = ("hflip", "vflip", "rot180")
"""Ways in which an image may be changed: mirrored left to right, mirrored top to bottom, turned by 180 degrees."""


@dataclass
class Instance:
    """One object of an image.

    Attributes:
        id: Unique in the data set and kept from step to step: "opt-rsvg/000001.jpg#0"; a transformed copy's ends with
            "@hflip".
        box: xyxy in pixels. As the source says after `import`, inside the image and of positive area after `clean`.
        category: The source's word after `import`, a category of the data set ("optical ship") after `clean`.
        captions: Its expressions; empty for an object without any.
        split: "train", "val" or "test" where the source assigns it, else "".
        flags: Reasons to review it ("screen: best IoU 0.12"); empty for none.
    """

    id: str
    box: tuple[float, float, float, float]
    category: str
    captions: list[str] = field(default_factory=list)
    split: str = ""
    flags: list[str] = field(default_factory=list)


@dataclass
class Sample:
    """One image.

    Attributes:
        name: Unique in the data set: "opt-rsvg/000001.jpg"; a transformed copy's ends with "@hflip".
        path: Its file, as it is at the source.
        source: Name of the source in the recipe.
        modality: "optical" or "sar".
        width: In pixels.
        height: In pixels.
        instances: Its objects.
        transform: How the file's pixels are to be changed when the set is written: "" or one of `TRANSFORMS`. Boxes and
            captions are of the changed image.
        split: "train", "val" or "test" once assigned to the whole image, else "".
        unlisted: Categories of objects that the image shows and that were dropped, such as crowds and boxes that cannot
            be used; "" where the category is not known. No expression may be generated that could mean one of them.
    """

    name: str
    path: str
    source: str
    modality: str
    width: int
    height: int
    instances: list[Instance] = field(default_factory=list)
    transform: str = ""
    split: str = ""
    unlisted: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Name of the image that this one was made from; its own where it was not transformed."""
        return self.name.removesuffix(f"@{self.transform}") if self.transform else self.name


def sample_of(line: str | bytes) -> Sample:
    """Return the sample that a JSON line holds.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: The line holds none.
    """
    content = json.loads(line)
    instances = [Instance(**{**i, "box": tuple(i["box"])}) for i in content.pop("instances")]
    return Sample(instances=instances, **content)


class SampleFile:
    """A file of samples that can be read again and again, from its beginning each time.

    Args:
        path: The file, one JSON object a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples.

        Raises:
            DataError: A line cannot be read; the message names it.
        """
        with open(self.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield sample_of(line)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise DataError(
                        f"{self.path} line {number}: no sample of this version ({error}); repeat the step that wrote it"
                    ) from error

    def __len__(self) -> int:
        """Count the samples by reading the lines."""
        with open(self.path, "rb") as file:
            return sum(1 for _ in file)


def rng_of(key: str) -> np.random.Generator:
    """Return a random generator that depends on a text alone, such as a seed and an image's name."""
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def write_lines(path: Path, records: Iterable[Sample | dict[str, Any]]) -> int:
    """Write samples or plain dictionaries as JSON lines, one at a time, and return their number.

    Raises:
        OSError: The folder cannot be written or the disk is full; the file is then as it was.
    """
    count = 0
    with appearing(path) as file:
        for record in records:
            content = record if isinstance(record, dict) else asdict(record)
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
            count += 1
    return count
