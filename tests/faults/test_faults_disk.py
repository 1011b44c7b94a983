"""A full disk (files that may not grow), folders that cannot be written, processes that are killed."""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from apart import REPOSITORY, Outcome, command, refused

pytestmark = pytest.mark.timeout(900)
FULL, KILLED = "full disk and folders that cannot be written", "killed processes"
IMAGE = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
TRAIN = ["train", "model=optisar++n.yaml", "imgsz=64", "batch=2", "epochs=2", "prompts=8", "plots=False", "workers=0",
         "device=cpu", "warmup_epochs=0", "verbose=False", "seed=1"]  # fmt: skip


def files(folder: Path, *without: str) -> dict[str, str]:
    """The files of a folder with hashes of their content; parts that a killed process left are none."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in without
    }


def parts(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.endswith((".part", ".partial"))]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "port.png"), IMAGE)
    return tmp_path / "port.png"


def words_of(verb: str, folder: Path, image: Path, out: Path, tiny: Path) -> list[str]:
    own = [f"project={out}", "name=run", "exist_ok=True"]
    return {
        "predict": ["predict", f"source={image}", "text=the ship", "conf=0", "imgsz=64", "save=True", *own],
        "predict txt": [
            "predict",
            f"source={image}",
            "text=the ship",
            "conf=0",
            "imgsz=64",
            "save_txt=True",
            "topk=84",
            "save_conf=True",
            *own,
        ],
        "val": ["val", f"data={tiny}", "imgsz=64", "device=cpu", "plots=False", "save_json=True", *own],
        "train": [*TRAIN, f"data={tiny}", *own],
        "scene": ["scene", f"source={image}", "text=the ship", "imgsz=64", "map=False", *own],
        "calibrate": ["calibrate", f"data={tiny}", "imgsz=64", "device=cpu", f"save={out}/new.safetensors"],
        **{
            f"export {kind}": ["export", f"format={kind}", "imgsz=64", f"model={folder}/w.safetensors"]
            for kind in ("torchscript", "onnx", "openvino")
        },
    }[verb]


EXPORTS = ["export torchscript", "export onnx", "export openvino"]
VERBS = ["predict", "predict txt", "val", "train", "scene", "calibrate", *EXPORTS]


@pytest.mark.fault(FULL, "files that cannot grow beyond 2,000 bytes, in predict, val, train, scene, calibrate, export")
@pytest.mark.parametrize("verb", VERBS)
def test_full_disk(tmp_path: Path, image: Path, tiny: Path, verb: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny.parent, data)
    shutil.copy(REPOSITORY / "optisar_yolo/weights/optisar++n-pocket.safetensors", tmp_path / "w.safetensors")
    out = tmp_path / "out"
    before = files(data)
    words = words_of(verb, tmp_path, image, out, data / tiny.name)
    got = command(tmp_path, *words, file_size=2000, seconds=300)
    line = refused(got, str(tmp_path), "File too large", status=(1,), grown=3000)
    assert "raise it or write elsewhere" in line
    assert not parts(tmp_path), parts(tmp_path)
    there = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".child")}
    assert there <= {"data", "out", "runs", "port.png", "w.safetensors"}, there
    after = files(data)
    assert after | before == after, "every file that was there is as it was"


@pytest.mark.fault(FULL, "a file where the folder of results should be")
@pytest.mark.parametrize("verb", [v for v in VERBS if v not in EXPORTS])
def test_no_folder(tmp_path: Path, image: Path, tiny: Path, verb: str) -> None:
    (tmp_path / "out").write_text("mine")
    got = command(tmp_path, *words_of(verb, tmp_path, image, tmp_path / "out", tiny), seconds=300)
    refused(got, str(tmp_path / "out"), status=(1,), grown=3000)
    assert (tmp_path / "out").read_text() == "mine"


def killed(folder: Path, words: list[str], there: Path, pattern: str, count: int = 1) -> Outcome:
    """Run a command and kill it when a number of files of a pattern are there."""
    return command(folder, *words, seconds=400, kill=lambda: len(list(there.glob(pattern))) >= count)


@pytest.mark.fault(KILLED, "kill -9 in a training, which is resumed")
@pytest.mark.parametrize("after", ["the first last.pt", "the second row of results.csv"])
def test_killed_training(tmp_path: Path, tiny: Path, after: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny.parent, data)
    words = [*TRAIN, f"data={data / tiny.name}", f"project={tmp_path}"]
    whole = command(tmp_path, *words, "name=whole", seconds=400)
    assert whole.status == 0, whole.err[-1500:]
    table = tmp_path / "cut/results.csv"
    there = {
        "the first last.pt": lambda: (tmp_path / "cut/weights/last.pt").exists(),
        "the second row of results.csv": lambda: table.exists() and len(table.read_text().splitlines()) > 2,
    }[after]
    got = command(tmp_path, *words, "name=cut", seconds=400, kill=there)
    if got.status == 0:
        pytest.skip("it had ended before")
    assert got.status == -9
    again = command(tmp_path, "train", "resume=True", f"model={tmp_path}/cut/weights/last.pt", seconds=400)
    assert again.status == 0, again.err[-1500:]
    import torch

    states = [
        torch.load(tmp_path / n / "weights/last.pt", weights_only=False)["model"].state_dict() for n in ("whole", "cut")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    rows = [list(csv.DictReader((tmp_path / n / "results.csv").open())) for n in ("whole", "cut")]
    assert [{k: v for k, v in row.items() if k != "time"} for row in rows[0]] == [
        {k: v for k, v in row.items() if k != "time"} for row in rows[1]
    ], "each epoch has one row"


@pytest.mark.fault(KILLED, "kill -9 in a raster, in a rendering of a data set")
@pytest.mark.parametrize("what", ["scene", "render"])
def test_killed_and_run_again(tmp_path: Path, what: str) -> None:
    if what == "scene":
        cv2.imwrite(str(tmp_path / "wide.png"), np.random.default_rng(0).integers(0, 255, (900, 1500), np.uint8))
        words = ["scene", f"source={tmp_path}/wide.png", "text=['the ship', 'the tower']", "imgsz=128", "map=False",
                 "conf=0.01", "name=run", "exist_ok=True"]  # fmt: skip
        whole = command(tmp_path, *words, f"project={tmp_path}/a", seconds=400)
        got = killed(tmp_path, [*words, f"project={tmp_path}/b"], tmp_path / "b", "**/*.jsonl")
        again = command(tmp_path, *words, f"project={tmp_path}/b", seconds=400)
        first, second = files(tmp_path / "a"), files(tmp_path / "b")
        names = {n for n in first if n.endswith((".geojson", ".csv"))}
        assert names, first
    else:
        for name in ("a", "b"):
            (tmp_path / f"{name}.yaml").write_text(
                f"path: {tmp_path / name}\nval: val.json\nrender: {{seed: 0, val: 40}}\n"
                "names: [optical ship, optical airplane, optical harbor, sar ship, sar transmission tower]\n"
            )
        words = ["val", "imgsz=64", "device=cpu", "plots=False", "exist_ok=True"]
        whole = command(tmp_path, *words, f"data={tmp_path}/a.yaml", f"project={tmp_path}/r", seconds=400)
        got = killed(tmp_path, [*words, f"data={tmp_path}/b.yaml", f"project={tmp_path}/r"], tmp_path, ".b*/**/*.*", 5)
        again = command(tmp_path, *words, f"data={tmp_path}/b.yaml", f"project={tmp_path}/r", seconds=400)
        first, second = (files(tmp_path / n) for n in ("a", "b"))
        names = {n for n in first if not n.startswith("texts")}
    assert whole.status == again.status == 0, (whole.err[-800:], again.err[-800:])
    assert got.status in (-9, 0)
    assert {n: first[n] for n in names} == {n: second.get(n) for n in names}
