"""Writes files so that a reader sees the old content or the new, never a part; locks, and names made of text."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PART = ".part"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_WRITERS = ("PytorchStreamWriter", "unexpected pos", "iostream error")  # of torch's writer and of C++ (OpenVINO)
LONGEST_NAME = 100
"""Bytes of a name made of text: file systems take 255, and endings and numbers are added."""
_UNSAFE = frozenset('/\\:*?"<>|')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # names of devices on Windows


def file_name_of(text: str) -> str:
    """Return a text as the name of a file or folder: one part of a path, on every system.

    A text that is such a name already stays as it is. Any other loses what file systems do not take, is cut, and gets
    a few digits at its end, so that two texts never share a name.
    """
    name = "".join("_" if c in _UNSAFE or unicodedata.category(c)[0] == "C" else c for c in text)
    name = name.strip(" .")
    if name == text and name and len(name.encode()) <= LONGEST_NAME and not _RESERVED.fullmatch(name):
        return name
    name = name.encode()[: LONGEST_NAME - 10].decode(errors="ignore").strip(" .")
    digits = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
    return f"{'_' if _RESERVED.fullmatch(name) else ''}{name or 'text'}-{digits}"


def results_folder(kind: str, project: str | Path | None = None) -> Path:
    """Return the folder that holds the folders of runs, by one rule for all verbs and for Python.

    Results go where the user stands: into ``runs/<kind>`` of the working folder. ``project`` names another folder; a
    relative one starts from the working folder too. Ultralytics' setting ``runs_dir`` is for its own models: it is the
    place where Ultralytics was first started, of which a user seldom knows.

    Args:
        kind: Kind of the runs, such as ``"detect"`` or ``"scene"``.
        project: The folder, as the user named it.

    Returns:
        An absolute path, which need not exist.
    """
    return Path(project).expanduser().absolute() if project else Path.cwd() / "runs" / kind


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[bytes] | None]:
    """Hold a lock file; without waiting, the result is None where another process holds it.

    The system frees it when the process, and those that it passed the file to, have ended. Where there are no such
    locks, nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except (ImportError, OSError):
            pass
        yield file


@contextmanager
def naming(path: Path, disk: bool = False) -> Iterator[None]:
    """Make the errors of writing a file name it: those of a full disk do not, and torch and OpenVINO hide them.

    Args:
        path: The file, or the folder of the files.
        disk: Name it only where the disk is full or cannot be written: other things happen in the block.

    Raises:
        OSError: As in the block.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None and (not disk or error.errno in _DISK):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except RuntimeError as error:  # of a writer whose own message says nothing of the disk
        if not any(words in str(error) for words in _WRITERS):
            raise
        cause = next((e for e in (error.__cause__, error.__context__) if isinstance(e, OSError)), None)
        raise OSError(
            cause.errno if cause else errno.ENOSPC, cause.strerror if cause else "No space left on device", str(path)
        ) from error


@contextmanager
def appearing(path: Path, binary: bool = False, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a new file for writing that appears under its name when the block ends without an error.

    Args:
        path: The target; its folder is made if it is missing.
        binary: Open it for bytes, not for UTF-8 text.
        sync: Wait for the disk.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART}")
    try:
        how: dict[str, Any] = {"mode": "xb"} if binary else {"mode": "x", "encoding": "utf-8", "newline": ""}
        with naming(path):
            with open(part, **how) as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())  # a full disk may show only here
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def missing_folders(path: Path) -> list[Path]:
    """Return a folder and those above it that do not exist yet, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def is_part(name: str) -> bool:
    """Tell whether a file's name is that of a part which a killed run left behind."""
    return name.startswith(".") and name.endswith(PART)


def write_atomic(path: str | Path, content: str | bytes, sync: bool = True) -> Path:
    """Write a file beside its target and rename it into place; text is UTF-8.

    Args:
        path: The target; its folder is made if it is missing.
        content: Text or bytes.
        sync: Wait for the disk. Without it, a power cut may lose the file; use that for many small files only.

    Returns:
        The target's path.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    path = Path(path)
    with appearing(path, binary=True, sync=sync) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path
