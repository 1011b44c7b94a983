"""The cache of graphs that prediction on a CPU keeps: full disks, kills, damage, other versions, two at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apart import REPOSITORY, Outcome, optisar, outcome, refused, run, start

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

KIND = "cache of engines"
WORDS = [
    "predict", f"source={REPOSITORY}/docs/review.png", "text=['the ship', 'a plane']", "conf=0", "imgsz=64",
    "save_txt=True", "save_conf=True", "exist_ok=True",
]  # fmt: skip


def ground(cache: str, version: str, *words: str) -> int:
    """Run a command in this process, with a cache of its own and perhaps another version of the package."""
    from optisar_yolo.export import engines, graph_cache

    graph_cache.USER_CONFIG_DIR = Path(cache)
    engines.__version__ = version or engines.__version__
    return optisar(*words)


def words_of(folder: Path, name: str, engine: str) -> tuple[str, str, list[str]]:
    return str(folder / "cache"), "", [*WORDS, f"engine={engine}", f"project={folder}", f"name={name}"]


def predicted(folder: Path, name: str, engine: str, version: str = "", **more: Any) -> Outcome:
    cache, _, words = words_of(folder, name, engine)
    return run(ground, cache, version, *words, folder=folder, seconds=200, **more)


def boxes(folder: Path, name: str) -> np.ndarray:
    return np.loadtxt(next((folder / name / "labels").glob("*.txt")), ndmin=2)


def entries(folder: Path) -> list[Path]:
    return [p for p in (folder / "cache/optisar-engines").glob("*") if p.is_dir() and not p.name.startswith(".")]


def parts(folder: Path) -> list[Path]:
    return list((folder / "cache").rglob("*.part"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache of one graph, and the boxes of PyTorch."""
    folder = tmp_path_factory.mktemp("made")
    assert predicted(folder, "torch", "torch").status == 0
    got = predicted(folder, "onnx", "onnx")
    assert got.status == 0, got.err[-1500:]
    np.testing.assert_allclose(boxes(folder, "onnx"), boxes(folder, "torch"), atol=1e-3)
    assert len(entries(folder)) == 1
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "cache", tmp_path / "cache")
    return tmp_path


@pytest.mark.fault(KIND, "a full disk while a graph is written")
@pytest.mark.parametrize("limit", [2000, 3_000_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    got = predicted(tmp_path, "full", "onnx", file_size=limit)
    refused(got, "File too large", status=(1,), grown=3000)
    assert not entries(tmp_path) and not parts(tmp_path)


@pytest.mark.fault(KIND, "kill -9 while a graph is written")
def test_killed(made: Path, tmp_path: Path) -> None:
    got = predicted(tmp_path, "cut", "onnx", kill=lambda: bool(list((tmp_path / "cache").rglob(".*.part/**/*"))))
    assert got.status == -9 and not entries(tmp_path) and parts(tmp_path)
    again = predicted(tmp_path, "again", "onnx")
    assert again.status == 0, again.err[-1500:]
    np.testing.assert_allclose(boxes(tmp_path, "again"), boxes(made, "torch"), atol=1e-3)
    assert len(entries(tmp_path)) == 1 and not parts(tmp_path)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a flipped byte": lambda p: flip(p / "net-encoder.onnx"),
    "a half file": lambda p: (p / "net-query.onnx").write_bytes((p / "net-query.onnx").read_bytes()[:1000]),
    "no description": lambda p: (p / "entry.json").write_text(""),
    "a missing file": lambda p: (p / "net-encoder.onnx").unlink(),
}


@pytest.mark.fault(KIND, "graphs with a flipped byte, cut off, missing, or without their description")
@pytest.mark.parametrize(("damage", "engine"), [*((d, "onnx") for d in DAMAGE), ("a flipped byte", "auto")])
def test_damaged(made: Path, mine: Path, damage: str, engine: str) -> None:
    DAMAGE[damage](entries(mine)[0])
    got = predicted(mine, "again", engine)
    assert got.status == 0, got.err[-1500:]
    np.testing.assert_allclose(boxes(mine, "again"), boxes(made, "torch"), atol=1e-3)


@pytest.mark.fault(KIND, "a graph of another version")
def test_other_version(made: Path, mine: Path) -> None:
    got = predicted(mine, "again", "onnx", version="0.0.9")
    assert got.status == 0, got.err[-1500:]
    assert len(entries(mine)) == 2, "it has a graph of its own"
    np.testing.assert_allclose(boxes(mine, "again"), boxes(made, "torch"), atol=1e-3)


@pytest.mark.fault(KIND, "two processes that make one graph at once")
def test_two_processes(made: Path, tmp_path: Path) -> None:
    children = []
    for name in ("one", "two"):
        cache, version, words = words_of(tmp_path, name, "onnx")
        children.append(start(ground, cache, version, *words, folder=tmp_path))
    for child in children:
        got = outcome(*child, seconds=300)
        assert got.status == 0, got.err[-1500:]
    for name in ("one", "two"):
        np.testing.assert_allclose(boxes(tmp_path, name), boxes(made, "torch"), atol=1e-3)
    assert len(entries(tmp_path)) == 1 and not parts(tmp_path)
