"""Weights files that are cut off, damaged, of another kind, or made to harm."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from apart import REPOSITORY, command, refused, run

from optisar_yolo import OptiSAR

KIND = "weights files"
SHARED = REPOSITORY / "optisar_yolo/weights/optisar++n-pocket.safetensors"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``.pt`` file of the bundled weights."""
    path = tmp_path_factory.mktemp("pt") / "best.pt"
    OptiSAR(str(SHARED)).save(path)
    return path


def header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a safetensors file into its header and its numbers."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def described(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The bundled file with other metadata; the numbers stay."""
    head, numbers = header(SHARED.read_bytes())
    meta = json.loads(head["__metadata__"]["optisar"])
    change(meta)
    head["__metadata__"]["optisar"] = json.dumps(meta)
    raw = json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + numbers


def scaled(triple: list[Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda m: m["yaml"]["scales"].update({m["yaml"]["scale"]: triple})


def row(number: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda m: m["yaml"]["backbone"].__setitem__(number, value)


METADATA: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a layer of 6.9 GB": lambda m: (scaled([0.5, 1.5, 8192])(m), row(7, [-1, 1, "Conv", [8192, 7, 2]])(m)),
    "many small layers": scaled([8, 0.25, 1024]),
    "a network eight times as wide": scaled([0.5, 8, 8192]),
    "a million repeats": row(2, [-1, 1_000_000, "C3k2", [256, False, 0.25]]),
    "a depth of a million": scaled([1e6, 0.25, 1024]),
    "a depth of NaN": scaled([float("nan"), 0.25, 1024]),
    "100,000 rows": lambda m: m["yaml"].update(backbone=m["yaml"]["backbone"] * 10_000),
    "upsampling again and again": lambda m: m["yaml"]["head"].__setitem__(
        slice(0, 1), [[-1, 1, "nn.Upsample", [None, 4, "nearest"]]] * 12
    ),
    "paddings of 256": lambda m: m["yaml"]["backbone"].__setitem__(
        slice(1, 1), [[-1, 1, "Conv", [64, 3, 1, 256]]] * 60
    ),
    "an upsampling by 10,000": lambda m: m["yaml"]["head"].__setitem__(
        0, [-1, 1, "nn.Upsample", [None, 10_000, "nearest"]]
    ),
    "a kernel of 5,000": row(0, [-1, 1, "Conv", [64, 5000, 2]]),
    "a text of a million numbers": lambda m: m["yaml"].update(text_dim=1_000_000),
    "an unknown block": row(0, [-1, 1, "os.system", ["touch harmed"]]),
    "a row of later rows": row(0, [17, 1, "Conv", [64, 3, 2]]),
    "rows that are texts": lambda m: m["yaml"].update(backbone="Conv"),
    "no rows": lambda m: m["yaml"].update(backbone=[], head=[]),
    "no head": lambda m: m["yaml"]["head"].pop(),
    "no scale": lambda m: m["yaml"].pop("scale"),
    "no description": lambda m: m.pop("yaml"),
    "a description that is a list": lambda m: m.update(yaml=[1]),
    "no names": lambda m: m.pop("names"),
    "names that are a list": lambda m: m.update(names=["ship"]),
    "names without numbers": lambda m: m.update(names={"a": "ship"}),
    "a number as text_model": lambda m: m.update(text_model=7),
    "no text_fingerprint": lambda m: m.pop("text_fingerprint"),
    "an image size of a billion": lambda m: m.update(imgsz=10**9),
    "an image size of text": lambda m: m.update(imgsz="640"),
    "a calibration of text": lambda m: m.update(calibration="yes"),
    "a calibration of NaN": lambda m: m.update(calibration={"slope": float("nan"), "offset": 0, "threshold": 0.5}),
    "wordings of numbers": lambda m: m.update(wordings=[1]),
    "a later format": lambda m: m.update(format=99),
    "a format that is a list": lambda m: m.update(format=[1]),
}


def open_(path: str) -> int:
    """What the child does: open the file through each entrance; 0 where every one says the same."""
    from optisar_yolo.engine.checkpoint import CheckpointError, load_model

    for entrance in (OptiSAR, load_model):
        try:
            entrance(path)
        except CheckpointError as error:
            assert Path(path).name in str(error) and len(str(error)) < 700, str(error)[:2000]
            print(error)
        else:
            return 3
    return 0


def rejected(folder: Path, path: Path) -> str:
    got = run(open_, str(path), folder=folder)
    assert got.status == 0, (got.status, got.err[-1500:], got.out[-500:])
    assert got.seconds < 20 and got.grown < 600, (got.seconds, got.grown)
    assert not (folder / "harmed").exists()
    return got.out


@pytest.mark.fault(
    KIND, "safetensors whose description asks for another network, or lacks keys, or has values of other types"
)
@pytest.mark.parametrize("change", METADATA.values(), ids=METADATA)
def test_metadata(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(described(change))
    rejected(tmp_path, tmp_path / "bad.safetensors")


def tensors(change: Callable[[dict[str, Any], bytearray], Any]) -> bytes:
    """The bundled file with other entries of tensors, or other numbers."""
    head, numbers = header(SHARED.read_bytes())
    mutable = bytearray(numbers)
    change(head, mutable)
    raw = json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(mutable)


def first(head: dict[str, Any]) -> dict[str, Any]:
    return next(v for k, v in head.items() if k.endswith("conv.weight"))


def poke(value: bytes) -> Callable[[dict[str, Any], bytearray], Any]:
    def change(head: dict[str, Any], numbers: bytearray) -> None:
        start = first(head)["data_offsets"][0]
        numbers[start : start + 2] = value

    return change


TENSORS: dict[str, Callable[[dict[str, Any], bytearray], Any]] = {
    "a weight of NaN": poke(b"\x00\x7e"),
    "a weight of infinity": poke(b"\x00\x7c"),
    "a tensor of whole numbers": lambda h, _: first(h).update(dtype="I16"),
    "a tensor of another shape": lambda h, _: first(h).update(shape=first(h)["shape"][::-1]),
    "an unknown tensor": lambda h, _: h.__setitem__(
        "model.99.weight", h.pop(next(k for k in h if k != "__metadata__"))
    ),
    "offsets beyond the file": lambda h, _: first(h).update(data_offsets=[0, 10**12]),
    "a shape of 6.9 GB": lambda h, _: first(h).update(shape=[10**5, 10**4, 3]),
    "a negative shape": lambda h, _: first(h).update(shape=[-1, 3]),
    "an unknown type": lambda h, _: first(h).update(dtype="Q4"),
    "no metadata": lambda h, _: h.pop("__metadata__"),
    "metadata that are no JSON": lambda h, _: h["__metadata__"].update(optisar="{"),
    "deep metadata": lambda h, _: h["__metadata__"].update(optisar="[" * 100_000),
}


@pytest.mark.fault(KIND, "safetensors with NaN, other types, shapes and offsets, or without metadata")
@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_tensors(tmp_path: Path, change: Callable[[dict[str, Any], bytearray], Any]) -> None:
    (tmp_path / "optisar-bad.safetensors").write_bytes(tensors(change))
    rejected(tmp_path, tmp_path / "optisar-bad.safetensors")


@pytest.mark.fault(KIND, "files cut off, empty, with flipped or random bytes, of another kind")
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "7 bytes",
        "half",
        "all but a byte",
        "zeros",
        "random",
        "a flipped header",
        "text",
        "folder",
        "huge header",
    ],
)
def test_damaged(tmp_path: Path, kind: str, how: str, checkpoint: Path) -> None:
    data = (SHARED if kind == "safetensors" else checkpoint).read_bytes()
    path = tmp_path / f"optisar-bad.{kind}"
    flipped = bytearray(data)
    flipped[2:6] = b"\xff" * 4
    if how == "folder":
        path.mkdir()
        refused(command(tmp_path, "predict", f"model={path}", f"source={REPOSITORY}/x.png", "text=a"), path.name)
        return
    path.write_bytes(
        {
            "empty": b"", "7 bytes": data[:7], "half": data[: len(data) // 2], "all but a byte": data[:-1],
            "zeros": bytes(10_000), "random": os.urandom(10_000), "a flipped header": bytes(flipped),
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
            "huge header": struct.pack("<Q", 2**62) + data[8:1000],
        }[how]
    )  # fmt: skip
    rejected(tmp_path, path)
    refused(command(tmp_path, "val", f"model={path}", "data=demo.yaml", f"project={tmp_path}/runs"), path.name)
    assert not (tmp_path / "runs").exists()


class Runs:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


CONTENTS: dict[str, Any] = {
    "a list": [1, 2],
    "a text": "weights",
    "an empty dictionary": {},
    "tensors alone": {"model.0.weight": torch.zeros(3)},
    "a model that is a text": {"model": "optisar++n.yaml", "ema": None},
    "a model that is None": {"model": None, "ema": None},
    "another network": {"model": torch.nn.Linear(2, 2), "ema": None, "train_args": {}},
    "settings that are a list": {"model": torch.nn.Linear(2, 2), "ema": None, "train_args": [1]},
}


@pytest.mark.fault(KIND, "checkpoints that hold something else")
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("way", ["open", "resume", "calibrate"])
def test_contents(tmp_path: Path, content: Any, way: str) -> None:
    path = tmp_path / "optisar-odd.pt"
    torch.save(content, path)
    if way == "resume" and "train_args" in content:
        pytest.skip("a stock model, which Ultralytics trains")
    words = {
        "open": ["predict", f"source={REPOSITORY}/docs/review.png", "text=the ship"],
        "resume": ["train", "resume=True"],
        "calibrate": ["calibrate", "data=demo.yaml", f"save={tmp_path}/new.pt"],
    }[way]
    refused(command(tmp_path, *words, f"model={path}"))
    assert not (tmp_path / "new.pt").exists()


def save_diverged(path: str) -> int:
    """Save a model whose weights are NaN, and then one beyond half precision."""
    from optisar_yolo.engine.checkpoint import CheckpointError

    for value in (float("nan"), 1e6):
        model = OptiSAR(str(SHARED))
        with torch.no_grad():
            next(p for p in model.model.parameters() if p.ndim == 4).view(-1)[0] = value
        try:
            model.save_shared(path)
        except CheckpointError as error:
            assert Path(path).name in str(error)
            continue
        return 3
    model.save(path.replace(".safetensors", ".pt"))
    return 0


@pytest.mark.fault(KIND, "weights of NaN, or beyond half precision, that are to be saved or opened")
def test_diverged_weights(tmp_path: Path, checkpoint: Path) -> None:
    got = run(save_diverged, str(tmp_path / "new.safetensors"), folder=tmp_path)
    assert got.status == 0, got.err[-1500:]
    assert not (tmp_path / "new.safetensors").exists()
    content = torch.load(checkpoint, weights_only=False)
    with torch.no_grad():
        next(content["model"].parameters()).view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "optisar-nan.pt")
    assert "diverged" in rejected(tmp_path, tmp_path / "optisar-nan.pt")


def open_safely(path: str) -> int:
    """Open a file where ULTRALYTICS_SAFE_LOAD is set; 0 where it opens, 3 where it is refused by name."""
    from ultralytics import YOLO, utils
    from ultralytics.nn import tasks

    utils.SAFE_LOAD = tasks.SAFE_LOAD = True  # as the variable does when ultralytics is imported
    from optisar_yolo.engine.checkpoint import CheckpointError, load_model

    try:
        return 0 if type(YOLO(path)) is OptiSAR and load_model(path) is not None else 4
    except CheckpointError as error:
        print(error)
        return 3


@pytest.mark.fault(KIND, "ULTRALYTICS_SAFE_LOAD=1 with our own checkpoints, and with one that runs a command")
@pytest.mark.parametrize("harmful", [False, True], ids=["ours", "harmful"])
def test_safe_load(tmp_path: Path, checkpoint: Path, harmful: bool) -> None:
    pytest.importorskip("ultralytics.utils", reason="").__dict__.get("SAFE_LOAD", None) is None and pytest.skip("later")
    path = checkpoint
    if harmful:
        content = torch.load(checkpoint, weights_only=False)
        path = tmp_path / "optisar-harm.pt"
        torch.save({**content, "note": Runs()}, path, pickle_module=pickle)
    got = run(open_safely, str(path), folder=tmp_path)
    assert got.status == (3 if harmful else 0), (got.status, got.err[-1500:], got.out[-500:])
    assert not (tmp_path / "harmed").exists()
    assert not harmful or ("optisar-harm.pt" in got.out and "safetensors" in got.out)


@pytest.mark.fault(KIND, "names of weights that are not there, offline")
@pytest.mark.parametrize(
    "name",
    ["nope.pt", "nope.safetensors", "folder/nope.onnx", "yolo11n.pt", "optisar++q.yaml", "optisar++q", "optisar++m.pt"],
)
@pytest.mark.parametrize("verb", ["val", "predict", "train", "export"])
def test_missing_weights(tmp_path: Path, name: str, verb: str) -> None:
    words = [verb, f"model={name}", *(["data=demo.yaml"] if verb in ("val", "train") else [])]
    words += ["text=the ship", f"source={REPOSITORY}/docs/review.png"] if verb == "predict" else []
    got = command(tmp_path, *words)
    line = refused(got, Path(name).name)
    assert "scales are n, s, m, l and x" in line or "q" not in name
    assert got.seconds < 15 and "Download" not in got.out + got.err
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".child")] == []
