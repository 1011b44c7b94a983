"""Reads pickled lists without running anything that they name.

A pickle is a program: it can name any function of any module and call it. Here only the names that plain data needs
are accepted, and they stand for the functions and classes below, which read numbers and arrays as NumPy pickles them.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from optisar_yolo.data import DataError

_MAGIC = (
    0x1950A86A20F9469CFC6C  # begins a file of torch.save before its zip form; two more pickles follow, then the data
)
_LONGEST = 1024  # bytes of an array; four numbers need 32
_NUMBER = re.compile(r"[iuf][1248]")
_REMEDY = 'convert it in a place you trust to a JSON list of {"image": …, "bbox": …, "phrase": …}'

# What a broken or hostile pickle can raise in the interpreter's own reader; a RecursionError is a RuntimeError.
_BROKEN: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
)
T = TypeVar("T", str, bytes)


class _Dtype:
    """Stands for numpy.dtype: keeps the name of a number type and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of type {str(code)[:20]!r}, which holds no numbers")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = ("<" if state[1] == "|" else str(state[1])) + self.code

    def read(self, data: bytes) -> list[Any]:
        """Return the numbers in raw bytes."""
        return np.frombuffer(_short(data), np.dtype(self.code)).tolist()


class _Array(list[Any]):
    """Stands for numpy.ndarray: a flat list of its numbers."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self[:] = state[2].read(state[4])


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return dtype.read(data)[0]


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: bytes, dtype: _Dtype, *_: object) -> list[Any]:
    return dtype.read(data)


def _encode(text: str, *_: object) -> bytes:
    return _short(text).encode("latin1")  # how protocol 2 writes bytes


def _short(data: T) -> T:
    """Refuse long arrays: a small file can name one of them a million times, each time for a new copy."""
    if len(data) > _LONGEST:
        raise pickle.UnpicklingError(f"an array of {len(data)} bytes, which is no box")
    return data


_STAND_INS: dict[str, Any] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "_codecs.encode": _encode,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}


class _Inert(pickle.Unpickler):
    """Finds nothing but the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name, and refuse all others."""
        if (stand_in := _STAND_INS.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only running that could read it")
        return stand_in

    def persistent_load(self, pid: object) -> Any:
        """Refuse tensors."""
        raise pickle.UnpicklingError("it holds tensors")


def read_pickle(file: Path) -> object:
    """Read plain data from a pickle, or from a file of torch.save in its zip or its older form.

    The data may be numbers, texts, lists, tuples, dictionaries, and NumPy's numbers and arrays of numbers, which become
    numbers and flat lists.

    Raises:
        DataError: The file cannot be read, or holds anything else; nothing of it was run.
    """
    try:
        data = file.read_bytes()
        if zipfile.is_zipfile(io.BytesIO(data)):
            data = _unzip(data)
        stream = io.BytesIO(data)
        content = _load(stream)
        if content == _MAGIC:
            for _ in range(3):  # version, facts about the machine, the data
                content = _load(stream)
        return content
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except _BROKEN as error:
        raise DataError(f"{file}: no pickle of plain data ({error}); {_REMEDY}") from error


def _unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.compress_type != zipfile.ZIP_STORED:  # torch.save does not compress; what unpacks to any size
                    raise ValueError("its data.pkl is compressed")
                return archive.read(entry)
    raise ValueError("a zip file without data.pkl")


def _load(stream: BinaryIO) -> object:
    """Load one pickle from a stream, and leave the stream at its end."""
    start = stream.tell()
    for opcode, argument, position in pickletools.genops(stream):  # also checks all lengths against what is there
        # A place in the memo beyond the number of bytes so far is a lie, and makes the interpreter fill the memory.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > (position or 0):
            raise ValueError("a memo that does not fit the file")
    stream.seek(start)
    return _Inert(stream).load()
