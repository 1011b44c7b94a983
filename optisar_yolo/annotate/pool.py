"""The pool of captions for annotation, read from a list, a table, COCO JSON or a dataset config."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.utils import LOGGER

from optisar_yolo.data import DataError, Skips, is_id, load_dataset_config, read_json, read_text
from optisar_yolo.language import BUILT_IN, Vocabulary, clean

KINDS = (
    ".txt (a caption a line), .json (a list, or COCO JSON with captions), .csv (a column) or .yaml (a dataset config)"
)


class Caption(NamedTuple):
    """A caption of the pool.

    Attributes:
        text: The caption.
        categories: Categories of the objects that it describes in the pool's file, the most frequent first; empty
            where the file has none.
        vocabulary: The nouns of the pool's data set.
    """

    text: str
    categories: tuple[str, ...] = ()
    vocabulary: Vocabulary = BUILT_IN


def load_pool(source: str | Path | Sequence[str], split: str = "train", column: str = "caption") -> list[Caption]:
    """Read a pool.

    Args:
        source: A file (see `KINDS`), or the captions themselves.
        split: Of a dataset config: the split whose captions are taken.
        column: Of a CSV file: the column that holds the captions.

    Returns:
        The captions in their order, each once, at least one. Blank captions and values that are no text are left out
        and counted.

    Raises:
        DataError: No such file, a file of another kind, or no caption in it.
    """
    skips = Skips()
    if isinstance(source, (str, Path)):
        where, (pairs, vocabulary) = str(source), _read(Path(source), split, column)
    else:
        where, pairs, vocabulary = "the list given as pool", [(text, "") for text in source], BUILT_IN
    pool = _collect(pairs, skips, vocabulary.including({category for _, category in pairs if category}))
    if lines := skips.lines():
        LOGGER.warning(f"{where}: " + "; ".join(lines))
    if not pool:
        raise DataError(f"{where}: no caption in it; a pool needs at least one, such as 'the ship at the top'")
    return pool


def _collect(pairs: Iterable[tuple[Any, str]], skips: Skips, vocabulary: Vocabulary) -> list[Caption]:
    """Make a pool of pairs of caption and category ("" where it is unknown), each caption once."""
    known: dict[str, Counter[str]] = {}
    repeated = 0
    for number, (text, category) in enumerate(pairs, 1):
        try:
            caption = clean(text)
        except ValueError:
            skips.add("blank caption or no text, left out", f"number {number}")
            continue
        repeated += caption in known and not category  # in annotations, repeated captions are normal
        counts = known.setdefault(caption, Counter())
        if category:
            counts[category] += 1
    if repeated:
        LOGGER.info(f"pool: {repeated} captions occur more than once and are used once")
    return [Caption(text, tuple(c for c, _ in counts.most_common()), vocabulary) for text, counts in known.items()]


def _read(file: Path, split: str, column: str) -> tuple[list[tuple[Any, str]], Vocabulary]:
    """Read pairs of caption and category from a file, and the vocabulary of a dataset config."""
    suffix = file.suffix.lower()
    if suffix in (".yaml", ".yml"):
        config = load_dataset_config(file)
        if split not in config.splits:
            raise DataError(
                f"{config.path}: no split '{split}' to take captions from; it has {', '.join(config.splits)}"
            )
        return _annotated(read_json(config.splits[split]), config.splits[split]), config.vocabulary
    if suffix not in (".txt", ".json", ".csv"):
        raise DataError(f"{file}: no pool of captions; give {KINDS}")
    if not file.is_file():
        raise DataError(f"{file}: no such file; pool= takes {KINDS}")
    if suffix == ".txt":
        return [(line, "") for line in read_text(file).splitlines()], BUILT_IN
    if suffix == ".csv":
        return _table(file, column), BUILT_IN
    content = read_json(file)
    if isinstance(content, list):
        return [(text, "") for text in content], BUILT_IN
    return _annotated(content, file), BUILT_IN


def _annotated(content: object, file: Path) -> list[tuple[Any, str]]:
    """Read captions and categories from COCO JSON."""
    notes = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(notes, list):
        raise DataError(f"{file}: expected a list of captions, or COCO JSON with 'annotations' that have a 'caption'")
    listed = content.get("categories")
    names = {
        c["id"]: c["name"]
        for c in (listed if isinstance(listed, list) else ())
        if isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
    }
    pairs: list[tuple[Any, str]] = []
    for note in notes:
        if not isinstance(note, dict) or "caption" not in note:
            continue
        number = note.get("category_id")
        name = (names.get(number) if is_id(number) else None) or note.get("category_name")
        category = " ".join(name.split()) if isinstance(name, str) else ""
        captions = note["caption"] if isinstance(note["caption"], list) else [note["caption"]]
        pairs += [(text, category) for text in captions]
    return pairs


def _table(file: Path, column: str) -> list[tuple[Any, str]]:
    """Read a column, and the column "category" where there is one, from a CSV file."""
    rows = csv.DictReader(io.StringIO(read_text(file)))
    try:
        if column not in (rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise DataError(f"{file}: no column '{column}'; its first line names {found}. Choose with column=…")
        return [(row[column] or "", " ".join((row.get("category") or "").split())) for row in rows]
    except csv.Error as error:
        raise DataError(f"{file}: not a CSV file ({error})") from error
