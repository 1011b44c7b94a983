"""Further expressions for the images of a data set: files that a dataset config names beside its splits.

.. code-block:: yaml

    expressions:
      natural:                                       # a name for the tables
        val: ../natural/val.json                     # COCO JSON with captions, by split
        absent: {val: ../natural/absent_val.json}    # a list of {file_name, caption}, each false of the whole image
        images: ../other/images                      # by default the data set's own images

Validation grounds them and gives them rows of their own. Training does not use them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import DataError, DatasetConfig, ExpressionSource
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import ImageRecord, Skips, find_file, load_split, modality_by_name, read_json
from optisar_yolo.language import clean


@dataclass(frozen=True)
class SourceSplit:
    """The expressions of one source for one split.

    Attributes:
        name: Of the source.
        images: The images with their expressions; one without any has absent ones alone.
        absent: Per image the expressions that are false of it.
    """

    name: str
    images: list[ImageRecord] = field(default_factory=list)
    absent: list[list[str]] = field(default_factory=list)


def load_source(config: DatasetConfig, source: ExpressionSource, split: str) -> SourceSplit | None:
    """Read the expressions of a source for one split.

    Args:
        config: The dataset config.
        source: One of `DatasetConfig.sources`.
        split: "train", "val" or "test".

    Returns:
        The expressions; None where the source has none for the split, or where a file is missing, which is logged.

    Raises:
        DataError: A file that is there and cannot be read as what it should be.
    """
    file, absent_file = source.splits.get(split), source.absent.get(split)
    if file is None and absent_file is None:
        return None
    if missing := [f for f in (file, absent_file) if f is not None and not f.is_file()]:
        LOGGER.warning(f"{config.path}: expressions '{source.name}' are left out: {missing[0]} does not exist")
        return None
    folder = source.images.get(split, config.images.get(split, config.root))
    if not folder.is_dir():
        LOGGER.warning(f"{config.path}: expressions '{source.name}' are left out: no folder of images {folder}")
        return None
    own = split not in source.images  # other images have no label files that belong to these names
    images: list[ImageRecord] = []
    if file is not None:
        made = replace(config, splits={split: file}, images={split: folder}, labels=config.labels if own else {})
        images = load_split(made, split)
    absent: dict[str, list[str]] = {}
    if absent_file is not None:
        content = read_json(absent_file)
        if not isinstance(content, list):
            raise DataError(f"{absent_file}: a list of records with 'file_name' and 'caption' is expected")
        skips = Skips()
        for number, record in enumerate(content):
            name, caption = (record.get(k) for k in ("file_name", "caption")) if isinstance(record, dict) else (0, 0)
            if not isinstance(name, str) or not isinstance(caption, str) or not caption.strip():
                skips.add("record without file_name and caption", f"[{number}]")
                continue
            path = find_file(folder, name)
            if path is None:
                skips.add("image file missing", str(folder / name))
                continue
            absent.setdefault(str(path), []).append(clean(caption))
            if all(str(image.path) != str(path) for image in images):
                height, width = read_image(path).shape[:2]
                nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ()
                modality = modality_by_name(name, config.modalities) or "optical"
                images.append(ImageRecord(path, width, height, modality, *nothing))
        if lines := skips.lines():
            LOGGER.warning(f"{absent_file}: skipped records: " + "; ".join(lines))
    return SourceSplit(source.name, images, [absent.get(str(image.path), []) for image in images])
