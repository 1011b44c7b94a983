"""Keeps decoded training images, so that they are not decoded anew in every epoch (``cache=``).

What is kept is the image as training reads it: BGR, its long side reduced to imgsz. It is kept when it is first read.

- ``False``: nothing.
- ``ram`` (or ``True``): in memory that all workers of a process share, up to two thirds of what is free.
- ``disk``: beside the image, as ``<file name>.<imgsz>.npy``; a file that is older than its image is written anew.
- ``auto``, the default of training: as ``ram``, up to `AUTO` over all workers, so that small data sets stay in memory.

The bounds hold for all workers together. Under DDP each process has its part of them.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from ultralytics.utils import LOGGER

from optisar_yolo.data.records import ImageRecord
from optisar_yolo.utils import appearing, world_size

MODES = (False, None, True, "ram", "disk", "auto")
AUTO = 4 * 2**30  # bytes that are kept where nothing was said
SPARE = 1.5  # free memory, or disk, per byte that is kept: as Ultralytics' margin


class ImageCache:
    """The decoded images of a data set.

    Args:
        images: Their records; the sizes in them say how much room an image takes.
        imgsz: Long side that images are reduced to, pixels.
        mode: One of `MODES`.
        workers: Processes that read the images; where they are not forked, each has its part of the bound.

    Raises:
        ValueError: Another mode.
    """

    def __init__(self, images: Sequence[ImageRecord], imgsz: int, mode: bool | str | None, workers: int = 0) -> None:
        self.mode = "ram" if mode is True else mode or None
        check_mode(mode)
        self.imgsz, self.workers = imgsz, max(workers, 1)
        self._paths: list[Path] = []
        self._full = False  # nothing more can be written
        if self.mode == "disk":
            self._paths = [image.path.with_name(f"{image.path.name}.{imgsz}.npy") for image in images]
            if not _fits_disk(images, imgsz):
                self.mode, self._paths = None, []
        self._bands = images[0].channels if images else 3
        self._bound, self._shapes = 0, np.zeros((0, 3), np.int64)
        if self.mode in ("ram", "auto"):
            self._shapes = np.array([_shape(i, imgsz) for i in images], np.int64).reshape(-1, 3)
            self._bound = self._memory()
        self._reserve(self._bound)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory: a process that is not forked gets its own part of the bound."""
        return {**self.__dict__, "_buffer": None, "_kept": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reserve(self._bound // self.workers)

    def read(self, index: int, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image, decoded where it is not kept yet.

        Args:
            index: Of the image.
            decode: Reads it from its file, reduced to imgsz.

        Returns:
            uint8 [h, w, 3], BGR; not to be written to.
        """
        if self.mode == "disk":
            return self._from_disk(self._paths[index], decode)
        if index >= self._count:
            return decode()
        start, stop = self._offsets[index : index + 2]
        with self._lock:  # of two processes, one writes the pixels before the other sees that they are there
            kept = self._kept[index]
        if not kept:
            img = decode()
            if img.shape != tuple(self._shapes[index]):
                return img  # the record's size is not the file's
            self._pixels[start:stop] = img.reshape(-1)
            with self._lock:
                self._kept[index] = 1
        return self._pixels[start:stop].reshape(self._shapes[index])

    def _reserve(self, bound: int) -> None:
        """Reserve memory for as many images as the bound allows; the system gives it when it is first written to."""
        sizes = self._shapes.prod(1)
        self._count = int(np.searchsorted(np.cumsum(sizes), bound, side="right"))  # the first images are kept
        self._offsets = np.concatenate(([0], np.cumsum(sizes[: self._count]))).tolist()
        if self._count:
            # Anonymous memory: forked workers share it, and it is no file in /dev/shm, which is small in containers.
            self._buffer: mmap.mmap | None = mmap.mmap(-1, self._offsets[-1])
            self._pixels = np.frombuffer(self._buffer, np.uint8)
            self._kept: Any = mmap.mmap(-1, self._count)
            self._lock: Any = multiprocessing.Lock()

    def _memory(self) -> int:
        """Return the bytes that may be kept, and say where not all images fit."""
        wanted = int(self._shapes.prod(1).sum())
        free = int(_free_memory() / SPARE) // max(world_size(), 1)
        bound = free if self.mode == "ram" else min(AUTO // max(world_size(), 1), free)
        if self.mode == "ram" and wanted > free:
            LOGGER.warning(
                f"cache=ram: of {wanted / 2**30:.1f} GiB of images {free / 2**30:.1f} GiB fit into the free memory; "
                "the others are read anew in every epoch (cache=disk keeps them decoded on the disk)"
            )
        return min(bound, wanted)

    def _from_disk(self, path: Path, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image from its file, which is made where it is missing, stale or damaged."""
        original = path.with_name(path.name.removesuffix(f".{self.imgsz}.npy"))
        try:
            if path.stat().st_mtime >= original.stat().st_mtime:
                img = np.load(path, allow_pickle=False)
                if img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] == self._bands:
                    return img
        except (OSError, ValueError, EOFError):
            pass  # not there yet, or not whole
        img = decode()
        if not self._full:
            try:
                with appearing(path, binary=True, sync=False) as file:
                    np.save(file, img, allow_pickle=False)
            except OSError as error:
                LOGGER.warning(
                    f"cache=disk: {path} cannot be written ({error.strerror or error}); further images are not kept"
                )
                self._full = True
        return img


def check_mode(mode: object) -> None:
    """Check what ``cache=`` says.

    Raises:
        ValueError: It is none of `MODES`.
    """
    if not (mode is None or isinstance(mode, bool) or mode in ("ram", "disk", "auto")):
        raise ValueError(
            f"cache={mode} is none of False (keep nothing), ram, disk and auto (up to {AUTO >> 30} GiB of memory)"
        )


def reduced(height: int, width: int, imgsz: int) -> tuple[int, int]:
    """Return the height and width of an image whose long side is reduced to imgsz, where it is longer."""
    r = imgsz / max(height, width)
    return (max(round(height * r), 1), max(round(width * r), 1)) if r < 1 else (height, width)


def _shape(image: ImageRecord, imgsz: int) -> tuple[int, int, int]:
    """Return height, width and bands of an image as it is kept."""
    return (*reduced(image.height, image.width, imgsz), image.channels)


def _fits_disk(images: Sequence[ImageRecord], imgsz: int) -> bool:
    """Tell whether decoded images fit on the disk beside their files; say where they do not."""
    if not images:
        return False
    folder = images[0].path.parent
    wanted = sum(h * w * bands for h, w, bands in (_shape(i, imgsz) for i in images))
    free, writable = shutil.disk_usage(folder).free, os.access(folder, os.W_OK)
    if not writable or wanted * SPARE > free:
        why = (
            f"{wanted / 2**30:.1f} GiB of images, and half as much to spare, do not fit in {free / 2**30:.1f} GiB"
            if writable
            else "the folder cannot be written"
        )
        LOGGER.warning(f"cache=disk: {folder}: {why}; images are read anew in every epoch")
    return writable and wanted * SPARE <= free


def _free_memory() -> int:
    """Return the bytes of memory that are free, or that the container has left where it has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="utf-8"))
        files = re.search(r"^inactive_file (\d+)", Path("/sys/fs/cgroup/memory.stat").read_text(encoding="utf-8"), re.M)
        used -= int(files[1]) if files else 0  # the system takes them back
        return free if limit == "max" else max(min(free, int(limit) - used), 0)
    except (OSError, ValueError):
        return free
