"""Tells our models from stock ones, by name and by content, without loading PyTorch or running anything from a file.

:func:`is_ours` is the one place that decides; it is asked for every model that anyone opens with ``YOLO(...)``, so it
reads as little as it can: a few lines of a YAML, a header, or the list of class names in a checkpoint.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

MARK = "optisar"
"""How everything of ours begins: file names, and the keys of the metadata in safetensors and ONNX files."""

HEAD = "GroundingDetect"
"""Block that a network description of ours, and no other, ends with (:class:`optisar_yolo.nn.head.GroundingDetect`)."""

EXPORT_NOTE = "optisar.json"
"""Our metadata, where an export is a folder or an archive: a file in it."""

PACKAGE = "optisar_yolo"
_YAML_MARK = re.compile(rf"^[^#\n]*\b{HEAD}\b", re.MULTILINE)  # outside comments
_MAX_HEADER = 100 * 2**20  # bytes; the limit that the safetensors format sets to its header


def is_ours(model: object) -> bool:
    """Tell whether a model name or file belongs to OptiSAR-Net++.

    A file that exists is judged by its content: a YAML with our head among its rows, a ``.pt`` that
    needs classes of this package, a ``.safetensors`` or ``.onnx`` with metadata that begins with ``optisar``, a
    ``.torchscript`` or a folder of OpenVINO with a note of ours. What does not exist is judged by its name
    (``optisar++n.yaml``), so that our errors and our search for it apply.

    Args:
        model: What was given as ``model=``. Anything but a string or a path is not ours.

    Returns:
        ``False`` also for files that cannot be read: Ultralytics reports those.
    """
    if not isinstance(model, (str, Path)) or not str(model).strip():
        return False
    path = Path(str(model).strip())
    if path.is_dir():
        return _folder_is_ours(path)
    test = _CONTENT.get(path.suffix.lower())
    if test is None:
        return not path.suffix and path.name.lower().startswith(MARK) and not path.exists()
    try:
        if path.is_file():
            return test(path)
    except OSError:
        return False
    return "://" not in str(model) and path.name.lower().startswith(MARK)


def _yaml_is_ours(path: Path) -> bool:
    """Look for our head outside the comments of a YAML."""
    return bool(_YAML_MARK.search(path.read_text(encoding="utf-8", errors="replace")))


def _checkpoint_is_ours(path: Path) -> bool:
    """Look for classes of this package among those that a PyTorch checkpoint asks for; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(_asks_for_us(archive.read(name)) for name in pickles)
    except zipfile.BadZipFile:
        return False


def _asks_for_us(pickled: bytes) -> bool:
    """Tell whether a pickle names a class of this package, as opposed to mentioning it in some string."""
    if PACKAGE.encode() not in pickled:  # the usual case, and fast
        return False
    try:
        return any(module.split(".")[0] == PACKAGE for module in _modules(pickled))
    except ValueError:  # not a well-formed pickle
        return False


def _modules(pickled: bytes) -> Iterator[str]:
    """Yield the modules whose members a pickle looks up, in protocols up to 5."""
    memo: dict[object, object] = {}
    strings: list[object] = []  # in the order in which they are pushed
    last: object = None  # what the previous instruction pushed, where that is a string
    for code, argument, _ in pickletools.genops(pickled):
        name = code.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).split(" ", 1)[0]
        elif name == "STACK_GLOBAL" and len(strings) > 1:
            yield str(strings[-2])
        if name == "MEMOIZE" or name.endswith("PUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = last
            continue
        last = argument if isinstance(argument, str) and "UNICODE" in name else None
        if name.endswith("GET"):
            last = memo.get(argument)
        if isinstance(last, str):
            strings.append(last)


def _safetensors_is_ours(path: Path) -> bool:
    """Read the metadata in the header of a safetensors file: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _MAX_HEADER:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and _marked(part for pair in metadata.items() for part in pair)


def _onnx_is_ours(path: Path) -> bool:
    """Read the metadata of an ONNX file: field 14 of its outermost protobuf message, each a (key, value) message."""
    texts: list[str] = []
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            tag = _varint(file.read)
            if tag is None:
                return False
            field, wire = tag >> 3, tag & 7
            if wire == 2:  # length-delimited: the graph, of many megabytes, is one of these and is passed over
                length = _varint(file.read)
                if length is None or length > size - file.tell():
                    return False
                if field == 14:
                    texts.append(file.read(length).decode("utf-8", "replace"))
                else:
                    file.seek(length, 1)
            elif wire == 0:
                if _varint(file.read) is None:
                    return False
            elif wire in (1, 5):
                file.seek(8 if wire == 1 else 4, 1)
            else:
                return False
    # An entry starts with two bytes (field 1, its length) before the key; keys of ours are shorter than 128 characters.
    return _marked(text[2:] for text in texts)


def _torchscript_is_ours(path: Path) -> bool:
    """Look for our note in a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{EXPORT_NOTE}") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _folder_is_ours(path: Path) -> bool:
    """Read the note in a folder that OpenVINO reads."""
    try:
        note = json.loads((path / EXPORT_NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(note, dict) and _marked(iter(note))


def _varint(read: object) -> int | None:
    """Read one protobuf integer of at most 64 bits; ``None`` at the end of the file or where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = read(1)  # type: ignore[operator]
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _marked(texts: Iterator[str]) -> bool:
    """Tell whether one of the texts begins with our mark."""
    return any(str(text).lower().startswith(MARK) for text in texts)


_CONTENT = {
    ".yaml": _yaml_is_ours,
    ".yml": _yaml_is_ours,
    ".pt": _checkpoint_is_ours,
    ".safetensors": _safetensors_is_ours,
    ".onnx": _onnx_is_ours,
    ".torchscript": _torchscript_is_ours,
}
