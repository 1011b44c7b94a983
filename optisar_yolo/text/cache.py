"""Cache of text features: every expression is encoded once, kept in memory and in a file beside the data set.

In memory, all features are one matrix, and a table says which row an expression has. The file is appended to
(`optisar_yolo.text.blocks`): saving costs as much as what is new, whatever the file holds already.

One file per encoder, ``texts-<first 12 digits of its fingerprint>.features``. Files of the former form,
``….safetensors``, are read where there is no new one yet.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from ultralytics.utils import LOGGER, USER_CONFIG_DIR

from optisar_yolo.text.blocks import BlockFile
from optisar_yolo.text.encoder import TextEncoder, check_texts
from optisar_yolo.utils import locked

CHUNK = 512  # expressions between two updates of the progress bar
LARGEST = 1 << 16  # expressions that are written at once: they are copied, and one damaged byte costs them all
MANY = 1024  # new expressions from which on a progress bar is shown
ROOM = 256  # rows of the matrix at first; it doubles when it is full


class TextFeatureCache:
    """Features of expressions, each computed once; safe to use from several threads.

    Expressions that are known are looked up without waiting. The lock is held while new ones are encoded or saved.

    Args:
        encoder: Computes what is missing.
        directory: Folder of the cache file, made on saving. Where it cannot be written, the user's configuration folder
            of Ultralytics is used, and memory after that. None: memory only.

    Attributes:
        encoder: The text encoder.
        path: The file that the next save goes to, or None where features are kept in memory only.
    """

    def __init__(self, encoder: TextEncoder, directory: str | Path | None = None) -> None:
        self.encoder = encoder
        # Both only ever grow, and a row is in the matrix before the table names it, so that reading needs no lock.
        # No tensor: one that is made in inference mode could not be added to outside of it.
        self._vectors = np.empty((0, encoder.width), np.float32)  # [room, D], of which the first rows are in use
        self._rows: dict[str, int] = {}
        self._lock = threading.Lock()
        self._unsaved: list[str] = []
        self._files: list[BlockFile] = []
        if directory is not None:
            name = f"texts-{encoder.fingerprint[:12]}.features"
            folders = [Path(directory), Path(USER_CONFIG_DIR) / "optisar-texts"]
            self._files = [BlockFile(folder / name, encoder.width) for folder in folders]
        self._converted: list[str] = []  # of files of the former form: written with the next that are new
        for file in self._files:
            self._open(file)
        for file in self._files:
            self._open_former(file.path)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which cannot be copied, and the matrix's empty rows; a copy gets its own lock."""
        with self._lock:
            kept = self._vectors[: len(self._rows)].copy()
            lists = {k: list(self.__dict__[k]) for k in ("_unsaved", "_converted", "_files")}
            return {**self.__dict__, "_rows": dict(self._rows), "_vectors": kept, **lists, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def path(self) -> Path | None:
        """The file that the next save goes to."""
        return self._files[0].path if self._files else None

    def __len__(self) -> int:
        """Number of expressions known."""
        return len(self._rows)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the features of expressions; new ones are encoded, and written to disk by :meth:`save`.

        Args:
            texts: N >= 1 expressions; repeats are fine.

        Returns:
            float32 [N, D], each row of length 1.

        Raises:
            TextError: An item is no expression.
        """
        clean = check_texts(texts)
        self._learn(clean)
        rows = [self._rows[t] for t in clean]
        return torch.from_numpy(self._vectors[rows])

    def precompute(self, texts: Sequence[str]) -> None:
        """Encode all new expressions, with a progress bar if they are many, and save.

        Args:
            texts: Expressions; may be empty.

        Raises:
            TextError: An item is no expression.
        """
        if len(texts):
            self._learn(check_texts(texts))
            self.save()

    def save(self) -> Path | None:
        """Append what is new to the file, and take over what another process wrote; do nothing where nothing is new.

        Returns:
            The file, or None where no place could be written (with one warning; the features stay in memory).
        """
        with self._lock:
            while self._files and (self._unsaved or self._files[0].damaged):
                file = self._files[0]
                try:
                    with locked(file.path.with_suffix(".lock")):
                        written = self._take_over(file)  # of two processes that save at once, by the other one
                        new = [t for t in (*self._converted, *self._unsaved) if t not in written]
                        for start in range(0, max(len(new), 1), LARGEST):
                            texts = new[start : start + LARGEST]
                            vectors = self._vectors[[self._rows[t] for t in texts]]
                            sound = np.asarray(np.isfinite(vectors).all(1))  # of a run that went wrong, nothing is kept
                            file.append([t for t, ok in zip(texts, sound.tolist(), strict=True) if ok], vectors[sound])
                    self._unsaved, self._converted = [], []
                except OSError as e:
                    self._files.pop(0)
                    rest = (
                        f"go to {self._files[0].path.parent}"
                        if self._files
                        else "stay in memory until the process ends"
                    )
                    LOGGER.warning(f"{file.path}: text features cannot be saved ({e.strerror or e}); they {rest}")
            return self.path

    def _learn(self, texts: list[str]) -> None:
        """Encode new expressions; `texts` are checked."""
        if all(t in self._rows for t in texts):
            return
        with self._lock:
            self._encode([t for t in dict.fromkeys(texts) if t not in self._rows])

    def _encode(self, new: list[str]) -> None:
        """Encode expressions, none where another thread has just done so; the lock is held."""
        if not new:
            return
        new.sort(key=len)  # like lengths together encode faster
        chunks = [new[i : i + CHUNK] for i in range(0, len(new), CHUNK)]
        what = f"encoding texts ({self.encoder.name})"
        with tqdm(total=len(new), desc=what, unit="text", disable=len(new) < MANY) as bar:
            for chunk in chunks:
                self._add(chunk, self.encoder.encode(chunk).numpy())
                self._unsaved += chunk
                bar.update(len(chunk))

    def _add(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Put expressions into the matrix; of those that are known, the features stay."""
        fresh = {text: i for i, text in enumerate(texts) if text not in self._rows}
        if not fresh:
            return
        used, needed = len(self._rows), len(self._rows) + len(fresh)
        if needed > len(self._vectors):
            if not used and needed == len(vectors):
                self._vectors = vectors  # a file's matrix, without a copy
            else:
                grown = np.empty((max(needed, 2 * len(self._vectors), ROOM), self.encoder.width), np.float32)
                grown[:used] = self._vectors[:used]
                self._vectors = grown
        if self._vectors is not vectors:
            self._vectors[used:needed] = vectors if len(fresh) == len(texts) else vectors[list(fresh.values())]
        self._rows.update(zip(fresh, range(used, needed), strict=True))

    def _take_over(self, file: BlockFile) -> set[str]:
        """Add what the file holds beyond what was read of it; return these expressions."""
        texts, vectors = file.read()
        self._add(texts, vectors)
        return set(texts)

    def _open(self, file: BlockFile) -> None:
        """Read a file; say where it is damaged."""
        if file.path.exists():
            lock = file.path.with_suffix(".lock")
            try:
                # not while another process appends; where no lock can be written, no other process writes either
                with locked(lock) if os.access(lock if lock.exists() else lock.parent, os.W_OK) else nullcontext():
                    self._take_over(file)
            except OSError as e:
                LOGGER.warning(
                    f"{file.path}: text cache cannot be read ({e.strerror or e}); its texts are encoded anew"
                )

    def _open_former(self, path: Path) -> None:
        """Read a file of the former form where there is no new one."""
        former = path.with_suffix(".safetensors")
        if not path.exists() and former.exists():
            texts, vectors = _read_former(former, self.encoder.width)
            self._converted += [t for t in texts if t not in self._rows]
            self._add(texts, vectors)


def _read_former(path: Path, width: int) -> tuple[list[str], NDArray[np.float32]]:
    """Return the texts and features of a file of the former form: ``vectors`` [N, D], ``texts`` as a JSON list."""
    try:
        data = load(path.read_bytes())
        texts, vectors = json.loads(data["texts"].tobytes()), data["vectors"].astype(np.float32)
        if vectors.shape != (len(texts), width) or not np.isfinite(vectors).all():
            raise ValueError(f"{len(texts)} texts do not fit vectors of shape {tuple(vectors.shape)}")
        return texts, vectors
    except (SafetensorError, KeyError, ValueError) as e:
        LOGGER.warning(f"{path}: damaged text cache ({e}); its texts are encoded anew")
    except OSError as e:
        LOGGER.warning(f"{path}: text cache cannot be read ({e.strerror or e}); its texts are encoded anew")
    return [], np.empty((0, width), np.float32)
