"""What the readers of all source formats give: images and objects as the files say, before anything is looked up."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field

from optisar_yolo.construction.recipe import Source
from optisar_yolo.data import Box, DataError, Skips

FORMS = {"voc": "xyxy", "list": "xyxy", "coco": "xywh", "yolo": "shares"}
"""How each format usually writes a box; "shares" is YOLO's centre, width and height as shares of the image."""
FEW = 4
"""With fewer boxes than this, a source is not suspected of having been read in the wrong form."""


@dataclass
class RawObject:
    """One object: its box in the form of its source (None: not four numbers), the source's word, expressions, split."""

    box: Box | None
    category: str
    captions: list[str]
    split: str = ""

    def __post_init__(self) -> None:
        """Make the texts such that UTF-8 can write them."""
        self.category, self.captions = writable(self.category), [writable(c) for c in self.captions]


@dataclass
class RawImage:
    """One image.

    Attributes:
        name: Its file, as the annotation names it.
        record: How messages name the annotation.
        objects: Its objects, also those that cannot be used: their places in this list are part of their ids.
        size: Width and height in pixels, None where the annotation does not say.
    """

    name: str
    record: str
    objects: list[RawObject] = field(default_factory=list)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Make the texts such that UTF-8 can write them."""
        self.name, self.record = writable(self.name), writable(self.record)


class BoxReader:
    """Turns a source's boxes into xyxy in pixels, and notices when they are not of the form that its recipe declares.

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.form = source.boxes or FORMS[source.format]
        self.other = {"xyxy": "xywh", "xywh": "xyxy"}.get(self.form)
        self.total = self.outside = self.mistaken = self.shares = 0

    def read(self, box: Box, size: tuple[int, int]) -> Box:
        """Return a box as xyxy in pixels.

        Args:
            box: Four numbers in the source's form; any values.
            size: Width and height of the image in pixels.
        """
        self.total += 1
        self.shares += self.form != "shares" and max(map(abs, box)) <= 1
        read = to_xyxy(box, self.form, size)
        if not _fits(read, size):
            self.outside += 1
            self.mistaken += self.other is not None and _fits(to_xyxy(box, self.other, size), size)
        return read

    def check(self) -> None:
        """Judge the boxes read so far.

        Raises:
            DataError: More than half of them cannot be of the declared form; the message says what to change.
        """
        if self.total < FEW:
            return
        start = f"source {self.name}: %s of {self.total} boxes"
        if 2 * self.mistaken > self.total:
            raise DataError(
                f"{start % self.mistaken} leave their images or have no area when read as {self.form}, and fit as "
                f"{self.other}; set 'boxes: {self.other}' for this source in the recipe"
            )
        if 2 * self.shares > self.total:
            raise DataError(f"{start % self.shares} have no value above 1: shares of the image; give pixels")
        if 2 * self.outside > self.total:
            other = f" and as {self.other}" if self.other else ""
            raise DataError(
                f"{start % self.outside} leave their images or have no area, read as {self.form}{other}: they belong "
                "to images of another size, or are written in another form"
            )


def to_xyxy(box: Box, form: str, size: tuple[int, int]) -> Box:
    """Turn a box of the form "xyxy", "xywh" or "shares" into xyxy in pixels."""
    a, b, c, d = box
    if form == "xyxy":
        return box
    if form == "xywh":
        return a, b, a + c, b + d
    width, height = size
    return (a - c / 2) * width, (b - d / 2) * height, (a + c / 2) * width, (b + d / 2) * height


def _fits(box: Box, size: tuple[int, int]) -> bool:
    """Tell whether a box has an area and lies in the image, give or take a pixel; NaN does not."""
    return -1 <= box[0] < box[2] <= size[0] + 1 and -1 <= box[1] < box[3] <= size[1] + 1


def four_numbers(values: object) -> Box | None:
    """Return four numbers as floats, NaN and infinities included, or None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    try:
        return float(values[0]), float(values[1]), float(values[2]), float(values[3])
    except OverflowError:  # a whole number of hundreds of digits
        return None


def texts(value: object, record: str, problems: Skips) -> list[str]:
    """Return the expressions in a field that holds one, a list of them, or nothing; counts what is no text."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    for text in found:
        if not isinstance(text, str):
            problems.add("caption that is no text, dropped", f"{record}: {reprlib.repr(text)}")
    return [text.strip() for text in found if isinstance(text, str) and text.strip()]


def writable(text: str) -> str:
    """Return a text with "?" for what UTF-8 cannot write: halves of surrogate pairs, which JSON can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
