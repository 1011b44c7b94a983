"""Keeps a language model's answers, so that a run that was killed pays for none of them twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from optisar_yolo.data import DataError


class Reply(NamedTuple):
    """An answer, and the tokens that it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class ReplyCache:
    """Answers by the hash of what was asked, in one SQLite file; threads may share it.

    Args:
        path: The file; made if it is missing.

    Raises:
        DataError: The file cannot be made, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=30, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS replies"
                " (key TEXT PRIMARY KEY, text TEXT, prompt_tokens INTEGER, completion_tokens INTEGER)"
            )
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def get(self, key: str) -> Reply | None:
        """Return the answer stored under a key, or None."""
        question = "SELECT text, prompt_tokens, completion_tokens FROM replies WHERE key = ?"
        try:
            with self._lock:
                row = self._file.execute(question, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return Reply(*row) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Store an answer; when this returns, a killed process does not lose it.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        try:
            with self._lock, self._file:  # the connection commits when the block ends
                self._file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (key, *reply))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _failed(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: the model's answers cannot be stored ({error}); free the disk, or delete the file "
            "if it is damaged (its answers are then paid for again)"
        )
