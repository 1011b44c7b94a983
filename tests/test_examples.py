"""The examples run unchanged in any folder, and the bundled weights find the right objects."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import load_split
from optisar_yolo.engine.checkpoint import find_weights, load_shared
from optisar_yolo.synthetic.render import render_image
from optisar_yolo.text import load_text_encoder
from optisar_yolo.utils.options import BUNDLED_MODEL

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOP = "The airplane closest to the top of the image"
BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")


def run(name: str, folder: Path, *words: Any, fails: bool = False, **environment: str) -> str:
    """Run an example in a folder, and return what it printed (to stderr where it must fail)."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=env, check=False)
    assert (done.returncode != 0) == fails, done.stderr[-2000:]
    return done.stderr if fails else done.stdout


def overlap(found: Any, true: Any) -> float:
    """Return the IoU of two boxes, xyxy."""
    return float(box_iou(*(torch.tensor(np.asarray(b, np.float64))[None] for b in (found, true))))


def topmost(made: dict[str, Any], kind: str = "optical airplane") -> np.ndarray:
    """Return the box of a kind whose centre is highest."""
    return min((b for b, n in zip(made["boxes"], made["names"], strict=True) if n == kind), key=lambda b: b[1] + b[3])


def test_quick_start(tmp_path: Path) -> None:
    said = run("quickstart.py", tmp_path)
    found = [float(v) for v in re.search(r"\[\[(.+?)\]\]", said)[1].split(",")]
    assert TOP in said
    assert overlap(found, topmost(render_image(seed=0, split="test", number=0))) >= 0.5
    assert (tmp_path / "answer.png").stat().st_size > 0


def test_thirty_expressions(tmp_path: Path) -> None:
    *answers, counts, times = run("ask_many.py", tmp_path).splitlines()
    together, expressions, single = (int(n) for n in re.findall(r"\d+", counts))
    assert (len(answers), expressions, single) == (together, 30, together)
    boxes = {line.rsplit("]  ")[1]: [int(v) for v in BOX.search(line).groups()] for line in answers}
    assert overlap(boxes[TOP], topmost(render_image(seed=0, split="test", number=0))) >= 0.5
    assert not any("ship" in text for text in boxes)  # there is none
    fast, slow = (float(n) for n in re.findall(r"[\d.]+(?= s)", times))
    assert fast < slow
    assert (
        cv2.imread(str(tmp_path / "many.png")).shape[1] == render_image(seed=0, split="test", number=0)["img"].shape[1]
    )


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)  # where the export of packaged weights goes
    made = render_image(seed=0, split="test", number=0)
    cv2.imwrite("port.png", made["img"])
    np.save("text.npy", load_text_encoder("pocket").encode([TOP]).numpy())
    said = run("onnx_only.py", tmp_path, OptiSAR(BUNDLED_MODEL).export(format="onnx"), "port.png", "text.npy")
    *box, conf = (float(v) for v in said.split())
    assert overlap(box, topmost(made)) >= 0.5 and 0 < conf <= 1


def test_raster_with_coordinates(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    warp = pytest.importorskip("rasterio.warp")
    pytest.importorskip("bokeh")
    said = run("geotiff.py", tmp_path)
    features = json.loads((tmp_path / "scene" / "objects.geojson").read_text())["features"]
    assert [f["properties"]["sentence"] for f in features] == [
        "the largest airplane", "the ship in the north-west", "the easternmost baseball diamond"
    ]  # fmt: skip
    with rasterio.open(tmp_path / "scene.tif") as raster:
        crs, place, size = raster.crs, ~raster.transform, raster.shape[::-1]
    middles = []
    for feature in features:  # back to pixels, by GDAL and not by us
        lon, lat = zip(*feature["geometry"]["coordinates"][0], strict=True)
        x, y = warp.transform("EPSG:4326", crs, lon, lat)
        columns, rows = zip(*(place * xy for xy in zip(x, y, strict=True)), strict=True)
        box = [min(columns), min(rows), max(columns), max(rows)]
        assert box == pytest.approx(feature["properties"]["pixels"], abs=0.1)
        middles.append((np.mean(columns[:4]), np.mean(rows[:4])))
        assert f"{np.mean(lat[:4]):.6f} N {np.mean(lon[:4]):.6f} E" in said
    made = render_image(seed=0, split="test", number=0)  # the image in the middle of the upper row
    shrunk = made["boxes"] * np.tile(np.divide((400, 320), made["img"].shape[1::-1]), 2) + [400, 0, 400, 0]
    kinds = np.array(made["names"]) == "optical airplane"
    largest = max(shrunk[kinds], key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    assert overlap(features[0]["properties"]["pixels"], largest) >= 0.5
    assert middles[1][0] < size[0] / 3 and middles[1][1] < size[1] / 3
    assert (tmp_path / "scene" / "map.html").is_file()


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Run `optisar serve` on a free port, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "optisar_yolo", "serve", f"port={port}"]
    with open(folder / "serve.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "serve.log").read_text()
                time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_client_of_the_service(tmp_path: Path) -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client", "limits"):
        pytest.importorskip(package)
    made = render_image(seed=0, split="test", number=0)
    cv2.imwrite(str(tmp_path / "port.png"), made["img"])
    with service(tmp_path) as url:
        said = run("service_client.py", tmp_path, "port.png", TOP, "the SAR ship", OPTISAR_URL=url).splitlines()
    found = [float(v) for v in re.search(r"\[(.+)\]", said[0])[1].split(",")]
    assert said[0].startswith(f"{TOP}: 0.") and overlap(found, topmost(made)) >= 0.5
    assert said[1] == "the SAR ship: nothing found"
    assert "the largest ship" in said[2]
    assert f"nobody answers at {url}" in run(
        "service_client.py", tmp_path, "port.png", TOP, fails=True, OPTISAR_URL=url
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_training_on_own_boxes(tmp_path: Path) -> None:
    said = run("train_on_your_boxes.py", tmp_path)
    config = load_dataset_config(tmp_path / "mine" / "mine.yaml")
    images = {split: load_split(config, split) for split in config.splits}
    assert sum(map(len, images.values())) == 30
    assert all(any(own for p in split for own in p.captions) for split in images.values())  # from boxes alone
    assert (tmp_path / "runs" / "mine" / "weights" / "best.pt").is_file()
    true, found = (tuple(map(int, b)) for b in BOX.findall(said)[-2:])
    assert overlap(found, true) > 0.3
    assert re.search(r"the model says .+, confidence [01]\.\d\d\s*$", said)


@pytest.mark.timeout(300)
def test_notebook_gives_what_it_shows(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    file = EXAMPLES / "ask.ipynb"
    assert file.stat().st_size < 300_000
    stored = nbformat.read(file, as_version=4)
    nbformat.validate(stored)
    fresh = nbformat.from_dict(stored)
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(fresh, timeout=200, kernel_name="python3", resources=resources).execute()
    shows = 0
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        before, after = shown(old), shown(new)
        said = re.sub(
            r".*\(engine=auto\)\n", "", after[0]
        )  # said where this machine has a graph of the weights already
        assert same_words(before[0], said), after[0]
        assert before[1] == after[1]
        shows += sum("image/jpeg" in kinds for kinds in before[1])
    assert shows >= 4


def shown(cell: Any) -> tuple[str, list[list[str]]]:
    """What a cell prints, in however many messages it came, and the kinds of what it shows."""
    outputs = cell.get("outputs", [])
    printed = "".join(o["text"] for o in outputs if o["output_type"] == "stream")
    return printed, [sorted(o["data"]) for o in outputs if "data" in o]


def same_words(one: str, other: str) -> bool:
    """Tell whether texts are alike but for small differences of numbers, as other processors give them."""
    number = re.compile(r"\d+(?:\.\d+)?")
    pairs = list(zip(number.findall(one), number.findall(other), strict=False))
    near = all(abs(float(a) - float(b)) <= (0.03 if "." in a else 2) for a, b in pairs)
    return near and number.sub("#", one) == number.sub("#", other)


def test_the_bundled_weights_belong_to_the_bundled_encoder() -> None:
    model = load_shared(find_weights(BUNDLED_MODEL))
    assert model.text_fingerprint == load_text_encoder("pocket").fingerprint
    assert model.yaml["scale"] == "n"


def test_expressions_of_place_find_their_object() -> None:
    model = OptiSAR(BUNDLED_MODEL)
    hits = []
    for number in range(16):  # optical and SAR in turn: the first images of the test split
        made = render_image(seed=0, split="test", number=number)
        position = [(i, text) for i, text, kind in made["expressions"] if kind == "position"]
        if position:
            found = model.encode(made["img"]).ground([text for _, text in position], conf=0.0).boxes.xyxy
            targets = torch.tensor(made["boxes"][[i for i, _ in position]], dtype=torch.float32)
            hits += (box_iou(found, targets).diagonal() >= 0.5).tolist()
    assert len(hits) >= 20
    assert np.mean(hits) >= 0.5


def test_a_changed_word_changes_the_box() -> None:
    image = render_image(seed=0, split="test", number=7)["img"]  # SAR transmission towers, one in each lower corner
    texts = [f"The SAR transmission tower in the lower {side} corner of the image" for side in ("left", "right")]
    left, right = OptiSAR(BUNDLED_MODEL).encode(image).ground(texts, conf=0.0).boxes.xywhn[:, 0].tolist()
    assert left < 1 / 3 and right > 2 / 3
