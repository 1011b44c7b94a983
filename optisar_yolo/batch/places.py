"""Where things lie: a path or a URI (``s3://``, ``gs://``, ``file://``) as a filesystem of Arrow and a path in it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pyarrow import fs

from optisar_yolo.batch.options import BatchError


def is_uri(name: str) -> bool:
    """Tell a URI from a path."""
    return "://" in name


def locate(name: str, base: str = "") -> tuple[Any, str]:
    """Return the ``pyarrow.fs.FileSystem`` that holds a file, and the file's path in it.

    Keys of object storage are taken as they are written: a space is a space. ``file://`` URIs are unquoted.

    Args:
        name: Path or URI.
        base: Folder of relative paths, a path or a URI; by default the current one.

    Raises:
        BatchError: A URI of a kind that Arrow does not know, or without what it needs to be reached.
    """
    if not is_uri(name):
        path = Path(name).expanduser()
        if path.is_absolute() or not is_uri(base):
            return _root("file", "", "")[0], str((Path(base) / path).absolute())
        start = urlsplit(base, allow_fragments=False)
        name = urlunsplit(start._replace(path=f"{start.path.rstrip('/')}/{name}"))
    parts = urlsplit(name, allow_fragments=False)
    filesystem, root = _root(parts.scheme, parts.netloc, parts.query)
    path_in = unquote(parts.path) if parts.scheme == "file" else parts.path
    return filesystem, f"{root.rstrip('/')}/{path_in.lstrip('/')}".rstrip("/")


@lru_cache(maxsize=64)
def _root(scheme: str, host: str, query: str) -> tuple[Any, str]:
    """Return a filesystem and the path of its URI's root: opened once, as that may ask the network."""
    if scheme == "file":
        return fs.LocalFileSystem(), "/"
    uri = f"{scheme}://{host}/" + (f"?{query}" if query else "")
    try:
        return fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, ImportError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        raise BatchError(f"{uri}: cannot be opened ({error}); known are paths, file://, s3:// and gs://") from error


def parent(name: str) -> str:
    """Return the folder of a file, as an absolute path or a URI with the same query."""
    if not is_uri(name):
        return str(Path(name).expanduser().absolute().parent)
    parts = urlsplit(name, allow_fragments=False)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))


def ending(name: str) -> str:
    """Return what follows the last dot of a file's name, in small letters."""
    path = urlsplit(name, allow_fragments=False).path if is_uri(name) else name
    return path.lower().rpartition(".")[2]
