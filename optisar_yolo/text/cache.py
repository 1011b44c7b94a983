"""Cache of text features: every expression is encoded once, kept in memory and in a file beside the data set.

One file per encoder, ``texts-<first 12 digits of its fingerprint>.safetensors``, with ``vectors`` float32 [N, D] and
``texts``, a JSON list as bytes. It is replaced as a whole, so that a reader gets the old or the new file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from ultralytics.utils import LOGGER, USER_CONFIG_DIR

from optisar_yolo.text.encoder import TextEncoder, check_texts
from optisar_yolo.utils import locked, write_atomic

CHUNK = 512  # expressions between two updates of the progress bar
MANY = 1024  # new expressions from which on a progress bar is shown


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
        self._known: dict[str, Tensor] = {}  # only ever grows, so that reading needs no lock
        self._lock = threading.Lock()
        self._unsaved = False
        self._places: list[Path] = []
        if directory is not None:
            name = f"texts-{encoder.fingerprint[:12]}.safetensors"
            self._places = [Path(directory) / name, Path(USER_CONFIG_DIR) / "optisar-texts" / name]
        for place in reversed(self._places):
            self._known.update(self._read(place))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which cannot be copied; a copy gets its own."""
        with self._lock:
            return {**self.__dict__, "_known": dict(self._known), "_places": list(self._places), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def path(self) -> Path | None:
        """The file that the next save goes to."""
        return self._places[0] if self._places else None

    def __len__(self) -> int:
        """Number of expressions known."""
        return len(self._known)

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
        return torch.stack([self._known[t] for t in clean])

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
        """Write the file, merged with what another process wrote meanwhile; do nothing where nothing is new.

        Returns:
            The file, or None where no place could be written (with one warning; the features stay in memory).
        """
        with self._lock:
            while self._unsaved and self._known and self._places:
                place = self._places[0]
                try:
                    # The second of two processes that save at once merges what the first wrote.
                    with locked(place.with_suffix(".lock")):
                        for text, vector in self._read(place).items():
                            self._known.setdefault(text, vector)
                        self._write(place)
                    self._unsaved = False
                except OSError as e:
                    self._places.pop(0)
                    rest = (
                        f"go to {self._places[0].parent}" if self._places else "stay in memory until the process ends"
                    )
                    LOGGER.warning(f"{place}: text features cannot be saved ({e.strerror or e}); they {rest}")
            return self.path

    def _learn(self, texts: list[str]) -> None:
        """Encode new expressions; `texts` are checked."""
        if all(t in self._known for t in texts):
            return
        with self._lock:
            self._encode([t for t in dict.fromkeys(texts) if t not in self._known])

    def _encode(self, new: list[str]) -> None:
        """Encode expressions, none where another thread has just done so; the lock is held."""
        if not new:
            return
        new.sort(key=len)  # like lengths together encode faster
        chunks = [new[i : i + CHUNK] for i in range(0, len(new), CHUNK)]
        what = f"encoding texts ({self.encoder.name})"
        with tqdm(total=len(new), desc=what, unit="text", disable=len(new) < MANY) as bar:
            for chunk in chunks:
                for text, vector in zip(chunk, self.encoder.encode(chunk), strict=True):
                    self._known[text] = vector.clone()  # a view would keep and pickle the whole chunk
                bar.update(len(chunk))
        self._unsaved = True

    def _read(self, place: Path) -> dict[str, Tensor]:
        """Return what a file holds; nothing where it is absent or, with a warning, damaged."""
        try:
            data = load(place.read_bytes())
            texts, vectors = json.loads(data["texts"].numpy().tobytes()), data["vectors"]
            if vectors.shape != (len(texts), self.encoder.width) or not vectors.isfinite().all():
                raise ValueError(f"{len(texts)} texts do not fit vectors of shape {tuple(vectors.shape)}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (SafetensorError, KeyError, ValueError) as e:
            LOGGER.warning(f"{place}: damaged text cache ({e}); its texts are encoded anew")
            self._unsaved = True  # so that the next save puts a sound file in its place
            return {}
        except OSError as e:
            LOGGER.warning(f"{place}: text cache cannot be read ({e.strerror or e}); its texts are encoded anew")
            return {}
        return dict(zip(texts, vectors.float().clone().unbind(0), strict=True))

    def _write(self, place: Path) -> None:
        """Replace the file atomically."""
        raw = torch.tensor(bytearray(json.dumps(list(self._known), ensure_ascii=False).encode()), dtype=torch.uint8)
        write_atomic(place, save({"texts": raw, "vectors": torch.stack(list(self._known.values()))}))
