"""Images as prediction gets them: files, arrays and lists, read as in training at any depth and channel count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.utils import LOGGER

from optisar_yolo.data import DataError, read_image


class ImageFiles(LoadImagesAndVideos):
    """Ultralytics' loader of files, but images are read as in training, at any depth and channel count.

    A file that cannot be read is skipped and named, one of many; where nothing at all can be read, that is an error.
    """

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Read the next batch: paths, images uint8 [h, w, 3] BGR and log lines.

        Raises:
            DataError: None of the files is an image.
        """
        paths: list[str] = []
        images: list[np.ndarray] = []
        lines: list[str] = []
        self.mode = "image"
        while self.count < self.ni and len(images) < self.bs:
            path = self.files[self.count]
            self.count += 1
            try:
                images.append(read_image(path))
            except DataError as error:
                self.unread = getattr(self, "unread", 0) + 1
                if self.unread == self.nf:
                    raise
                LOGGER.warning(f"skipped: {error}")
                continue
            paths.append(path)
            lines.append(f"image {self.count}/{self.nf} {path}: ")
        return (paths, images, lines) if images else super().__next__()  # videos, or the end


def opened(source: Any) -> tuple[Any, list[str]]:
    """Read what is given as images or as a list, and leave other sources to Ultralytics.

    Args:
        source: As given to ``predict``.

    Returns:
        A list of images uint8 [h, w, 3] BGR and their names, or the source itself and no names.

    Raises:
        DataError: One of them is no image.
    """
    single = isinstance(source, (np.ndarray, Image.Image))
    if not single and not isinstance(source, (list, tuple)):
        return source, []
    images, names = [], []
    for i, item in enumerate([source] if single else source):
        is_file = isinstance(item, (str, Path)) and "://" not in str(item)
        images.append(read_image(item) if is_file or isinstance(item, (np.ndarray, Image.Image)) else item)
        names.append(str(item) if isinstance(item, (str, Path)) else getattr(item, "filename", "") or f"image{i}.jpg")
    return images, names
