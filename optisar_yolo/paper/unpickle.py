"""Reads a PyTorch checkpoint without importing or calling anything that it names.

A pickle can call any function. Here it makes only tensors and plain containers. Every other class or function that it
names becomes an :class:`Inert` object, which only stores attributes. A model of a framework that is not installed
thus opens too, as a tree of named parts.
"""

from __future__ import annotations

import collections
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
MOST_PARTS = 100_000  # a pickle of a few bytes can refer to its parts again and again
DEEPEST = 50  # levels of modules in modules; a pickled module can contain itself


class UnpickleError(ValueError):
    """A file that cannot be read as a checkpoint; the message says why, without the file's name."""


class Inert:
    """Stands for an object of a class that is not loaded.

    Attributes:
        origin: Module and name of the class or function in the pickle.
        state: Its attributes, where they are a dictionary.
    """

    origin = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Take any arguments and ignore them."""
        made = super().__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        """Keep attributes that are a dictionary, or the first of a pair as slots give it."""
        if isinstance(state, tuple) and state:
            state = state[0]
        self.state = dict(state) if isinstance(state, dict) else {}

    def _ignore(self, *_: Any) -> None:
        """Do nothing with the parts of a list, set or dictionary of an unknown class."""

    append = extend = add = __setitem__ = _ignore


class _Storage(NamedTuple):
    """Type of a storage that a pickle names; its persistent id locates the numbers."""

    dtype: torch.dtype


class _Rebuild:
    """Makes a tensor as ``torch._utils._rebuild_tensor_v2`` does, or passes on the data of a parameter."""

    __slots__ = ("parameter",)

    def __init__(self, parameter: bool) -> None:
        self.parameter = parameter

    def __call__(self, data: Any, *rest: Any) -> Any:
        """Return the tensor: data and whatever, of a parameter; storage, offset, size and strides, of a tensor."""
        if self.parameter:
            return data
        offset, size, stride = rest[:3]
        return torch.as_strided(data, size, stride, offset)  # refuses what lies outside the storage


_REBUILD = {
    "_rebuild_tensor": _Rebuild(False),
    "_rebuild_tensor_v2": _Rebuild(False),
    "_rebuild_parameter": _Rebuild(True),
    "_rebuild_parameter_with_state": _Rebuild(True),
}


class _Reader(pickle.Unpickler):
    """Unpickler whose world holds containers, tensors and inert objects."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(folder + "data.pkl"))
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for here; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module in ("builtins", "__builtin__") and name == "set":
            return set
        if module == "torch" and name in DTYPES:
            return _Storage(DTYPES[name])
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        return type(name, (Inert,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Tensor:
        """Read the numbers of a storage, once."""
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise UnpickleError(f"it keeps its numbers in a way that is not known here ({kind})")
        if key not in self.storages:
            raw = bytearray(self.archive.read(f"{self.folder}data/{key}"))
            if len(raw) != count * storage.dtype.itemsize:
                raise UnpickleError(f"storage {key} holds {len(raw)} bytes instead of {count * storage.dtype.itemsize}")
            empty = torch.empty(0, dtype=storage.dtype)
            self.storages[key] = torch.frombuffer(raw, dtype=storage.dtype) if raw else empty
        return self.storages[key]


def read_checkpoint(path: Path) -> Any:
    """Read the object that ``torch.save`` wrote.

    Args:
        path: A file in PyTorch's zip format (any version since 1.6).

    Returns:
        Containers, numbers, texts, tensors on the CPU and :class:`Inert` objects.

    Raises:
        FileNotFoundError: No such file.
        UnpickleError: Not such a file, damaged, or of a kind that cannot be read safely.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [n for n in names if n.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise UnpickleError("it is a zip archive, but no PyTorch checkpoint (no data.pkl in it)")
            if any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist()):
                raise UnpickleError("its parts are compressed, which PyTorch never does")
            folder = pickles[0].removesuffix("data.pkl")
            order = folder + "byteorder"
            if order in names and archive.read(order).decode("ascii", "replace") != sys.byteorder:
                raise UnpickleError("it was written on a machine of the other byte order")
            return _Reader(archive, folder).load()
    except zipfile.BadZipFile as error:
        raise UnpickleError(
            "it is truncated or no PyTorch checkpoint (no zip archive); copy or download it again"
        ) from error
    except (UnpickleError, FileNotFoundError):
        raise
    # what a pickle that is damaged or made to harm can raise here: nothing in it has been called
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UnpickleError(f"it is damaged or refused ({reason})") from error


def tensors_of(part: Any) -> dict[str, Tensor]:
    """Return the parameters and lasting buffers of a pickled module under their names, or the tensors of a dictionary.

    Raises:
        UnpickleError: A module that contains itself, or more parts than any model has.
    """
    if isinstance(part, dict):
        return {str(k): v for k, v in part.items() if isinstance(v, Tensor)}
    found: dict[str, Tensor] = {}
    ahead: list[tuple[str, Any]] = [("", part)]
    for _ in range(MOST_PARTS):
        if not ahead:
            return found
        prefix, module = ahead.pop()
        if prefix.count(".") > DEEPEST:
            raise UnpickleError(f"its modules are nested deeper than {DEEPEST} levels, or one contains itself")
        if not isinstance(module, Inert):
            continue
        passing = module.state.get("_non_persistent_buffers_set")
        for kind, left_out in (("_parameters", None), ("_buffers", passing)):
            for name, value in _dict(module.state.get(kind)).items():
                if isinstance(value, Tensor) and not (isinstance(left_out, set) and name in left_out):
                    found[f"{prefix}{name}"] = value
        children = _dict(module.state.get("_modules")).items()
        ahead += [(f"{prefix}{name}.", child) for name, child in reversed(children)]
    raise UnpickleError(f"it has more than {MOST_PARTS} parts")


def part_of(part: Any, name: str) -> dict[Any, Any]:
    """Return the attributes of a pickled module inside another (``model.8.m.0``); none where there is no such part."""
    for step in name.split("."):
        part = _dict(part.state.get("_modules")).get(step) if isinstance(part, Inert) else None
    return part.state if isinstance(part, Inert) else {}


def _dict(value: Any) -> dict[Any, Any]:
    """Return a dictionary; an empty one where there is something else."""
    return value if isinstance(value, dict) else {}
