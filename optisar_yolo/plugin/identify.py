"""Tells our models from stock ones, by name and by content, without loading PyTorch or running anything from a file.

:func:`is_ours` decides for every model that anyone opens with ``YOLO(...)``, so it reads as little as it can: a YAML, a
header, the end of a file, or the list of objects in a checkpoint.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

MARK = "optisar"
"""How everything of ours begins: file names, and the keys of the metadata in safetensors and ONNX files."""

HEAD = "GroundingDetect"
"""Block that a network description of ours, and no other, ends with (:class:`optisar_yolo.nn.head.GroundingDetect`)."""

HUB = "hf://"
"""How names of weights on the Hugging Face Hub begin."""

EXPORT_NOTE = "optisar.json"
"""Our metadata, where an export is a folder or an archive: a file in it."""

# How a pickle names a class, as opposed to a string that mentions it: GLOBAL (protocols up to 3: "c", module, class, a
# line each) or two short strings, each perhaps memoized, and STACK_GLOBAL (from protocol 4 on). The class that a
# checkpoint of ours names first is written in full; repetitions may refer back to it.
_CLASS = re.compile(
    rb"coptisar_yolo[\w.]*\n\w+\n|\x8c.optisar_yolo[\w.]*\x94?\x8c.\w+\x94?\x93",
    re.DOTALL,
)
# An entry of ONNX' metadata: field 1 holds the key, field 2 the value, which of ours is JSON.
_ONNX_ENTRY = re.compile(rb"\n\x07" + MARK.encode() + rb"\x12[\x80-\xff]*[\x00-\x7f]\{")
_MAX_TAIL = 4 * 2**20  # bytes; metadata with ten thousand fixed expressions are smaller
_YAML_MARK = re.compile(rf"^[^#\n]*\b{HEAD}\b", re.MULTILINE)  # outside comments
_MAX_HEADER = 100 * 2**20  # bytes; the limit that the safetensors format sets to its header


def is_ours(model: object) -> bool:
    """Tell whether a model name or file belongs to OptiSAR-Net++.

    A file that exists is judged by its content: a YAML with our head among its rows, a ``.pt`` that names classes of
    this package, a ``.safetensors`` or ``.onnx`` with our metadata, a ``.torchscript`` or a folder of OpenVINO with
    our note. A file that does not exist is judged by its name (``optisar++n.yaml``), so that our errors and our search
    for it apply.

    Args:
        model: What was given as ``model=``. Anything but a string or a path is not ours.

    Returns:
        ``False`` also for files that cannot be read: Ultralytics reports those.
    """
    if not isinstance(model, (str, Path)) or not str(model).strip():
        return False
    try:
        return _judge(model)
    except Exception:  # an encrypted archive, a name that is too long: nothing that we can open
        return False


def _judge(model: str | Path) -> bool:
    """Judge a name or file; an error of any kind where it cannot be read."""
    path = Path(str(model).strip())
    if str(model).strip().startswith(HUB):
        return True  # Ultralytics reads none of them
    if path.is_dir():
        return _folder_is_ours(path)
    test = _CONTENT.get(path.suffix.lower())
    if test is None:
        return not path.suffix and path.name.lower().startswith(MARK) and not path.exists()
    if path.is_file():
        return test(path)
    return "://" not in str(model) and path.name.lower().startswith(MARK)


def _yaml_is_ours(path: Path) -> bool:
    """Look for our head outside the comments of a YAML."""
    return bool(_YAML_MARK.search(path.read_text(encoding="utf-8", errors="replace")))


def _checkpoint_is_ours(path: Path) -> bool:
    """Look for a class of this package in the pickle of a PyTorch checkpoint; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(_CLASS.search(archive.read(name)) for name in pickles)
    except zipfile.BadZipFile:
        return False


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
    """Look for our metadata at the end of an ONNX file: they come after the graph, which has many megabytes."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _MAX_TAIL, 0))
        return bool(_ONNX_ENTRY.search(file.read()))


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
