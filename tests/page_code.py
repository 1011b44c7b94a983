"""Runs the code blocks of a page, in their order, in a folder with small data under the names that the pages use.

1. :func:`blocks_of` finds the blocks of a page. A block below the line ``<!-- not run: REASON -->`` is not run.
2. :func:`workshop` makes the folder: ``port.jpg``, ``images``, ``best.pt``, the data set ``my-set`` …
3. :class:`PageRun` runs blocks. Python shares its names over the page. Commands of ours run as they stand; words that
   make them quick (fewer epochs, smaller images, a free port) are added, see :data:`QUICK`. Servers run until the page
   ends. ``pip install`` lines are checked against pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import yaml
from fake_sources import fake_recipe, make_sources
from packaging.requirements import Requirement
from ultralytics import YOLO

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main as optisar
from optisar_yolo.synthetic import NAMES, render_dataset, render_image
from optisar_yolo.utils import BUNDLED_MODEL

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.S | re.M
)

TRAINING = ("epochs=1", "imgsz=64", "batch=4", "workers=0", "plots=False", "device=cpu", "warmup_epochs=0")
QUICK: dict[str, tuple[str, ...]] = {
    "train": TRAINING,
    "val": ("imgsz=96", "plots=False", "workers=0", "device=cpu"),
    "benchmark": ("imgsz=96", "fraction=0.5"),
    "reproduce": (*TRAINING, "scale=n", "cells=30"),
    "dataset screen": ("folds=2", "epochs=1", "imgsz=64", "batch=4", "device=cpu", "jobs=0"),
    "dataset transform": ("target=2",),
    "batch": ("workers=1", "batch=4"),
    "app": ("browser=False",),
    "demo": ("images=2",),
}
"""Words that are added to a command, where the last word of a key counts."""

SERVERS = ("serve", "app", "dataset review")
PORTS = {"serve": 8000, "app": 7860, "dataset review": 8080}


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: The page.
        line: Line of its first word.
        language: As the fence says.
        text: The code.
        reason: Why it is not run; None where it is.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(page, content.count("\n", 0, m.start("text")) + 1, m["language"], m["text"], m["reason"])
        for m in BLOCK.finditer(content)
    ]


def workshop(folder: Path) -> Path:
    """Fill a folder with the files that pages name."""
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "port.jpg"), render_image(seed=0, split="test", number=9)["img"])
    (folder / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), render_image(0, "test", number, (160, 224))["img"])
    model = OptiSAR(BUNDLED_MODEL)
    model.save(folder / "best.pt")
    model.save_shared(folder / "other.safetensors")
    YOLO("yolo11n.yaml", verbose=False).save(folder / "yolo11n.pt")  # stock weights before training
    render_dataset(folder / "my-set", counts={"train": 8, "val": 6, "test": 6}, size=(160, 224))
    content = {
        "path": str(folder / "my-set"),
        **{s: f"{s}.json" for s in ("train", "val", "test")},
        "names": list(NAMES),
    }
    for name in (folder / "my-set" / "my-set.yaml", folder / "optsar.yaml"):
        name.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    boxes = json.loads((folder / "my-set" / "val.json").read_text(encoding="utf-8"))
    for note in boxes["annotations"]:
        note.pop("caption", None)
    shutil.copytree(folder / "my-set" / "images" / "val", folder / "my-folder" / "images" / "val")
    (folder / "my-folder" / "val.json").write_text(json.dumps(boxes))  # labelled images without expressions
    (folder / "captions.txt").write_text("The SAR ship in the upper left corner\nThe airplane at the top\n")
    _rasters(folder)
    rows = [{"image": "port.jpg", "text": text} for text in ("the largest ship", "the leftmost ship")]
    (folder / "asks.csv").write_text("image,text\n" + "\n".join(f"{r['image']},{r['text']}" for r in rows) + "\n")
    if importlib.util.find_spec("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), folder / "asks.parquet")
        scenes = [{"image": name, "text": "all ships"} for name in ("scene.tif", "s1.tif")]
        pq.write_table(pa.Table.from_pylist(scenes), folder / "scenes.parquet")
    _predictions(folder)
    make_sources(folder / "FOLDER")
    fake_recipe("optsar-rsvg.yaml", folder)
    return folder


def random_sam(folder: Path) -> None:
    """Write mobile_sam.pt, weights of Ultralytics' MobileSAM before training; it scores its masks about 1."""
    import torch
    from ultralytics.models.sam.build import build_mobile_sam

    torch.manual_seed(0)
    net = build_mobile_sam()
    last = net.mask_decoder.iou_prediction_head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.ones_(last.bias)
    torch.save(net.state_dict(), folder / "mobile_sam.pt")


def _predictions(folder: Path) -> None:
    """Write predictions.json, boxes of the test split in the form that `optisar score` reads."""
    test = json.loads((folder / "my-set" / "test.json").read_text(encoding="utf-8"))
    boxes = []
    for annotation in test["annotations"]:
        x, y, w, h = annotation["bbox"]
        boxes.append({"annotation_id": annotation["id"], "box": [x, y, x + w, y + h], "score": 0.9})
    (folder / "predictions.json").write_text(json.dumps({"predictions": boxes}), encoding="utf-8")


def _rasters(folder: Path) -> None:
    """Write scene.tif and s1.tif, small GeoTIFFs of rendered images."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    for name, number in (("scene.tif", 0), ("s1.tif", 9)):
        bands = render_image(seed=0, split="test", number=number)["img"][..., ::-1].transpose(2, 0, 1)
        bands = bands if name == "scene.tif" else bands[:1].astype(np.float32)
        count, height, width = bands.shape
        where: dict[str, Any] = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 1, 1)}
        shape = {"count": count, "height": height, "width": width, "dtype": str(bands.dtype)}
        with rasterio.open(folder / name, "w", driver="GTiff", **shape, **where) as file:
            file.write(bands)


class PageRun:
    """Runs the blocks of one page.

    Args:
        folder: The working folder.
        apart: Run everything in processes of their own, as libraries leave threads behind.
    """

    def __init__(self, folder: Path, apart: bool = False) -> None:
        self.folder, self.apart = folder, apart
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.moved: dict[str, str] = {}  # address in the page: address of the server that was started

    def __enter__(self) -> PageRun:
        return self

    def __exit__(self, *error: object) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(30)

    def run(self, block: Block) -> None:
        """Run a block.

        Raises:
            AssertionError: It failed, or nobody knows how to run it.
        """
        text = self._with_addresses(block.text)
        runners: dict[str, Callable[[str, str], None]] = {
            "python": self._python, "bash": self._bash, "yaml": self._yaml, "json": self._json,
        }  # fmt: skip
        assert block.language in runners, f"{block.place}: blocks of {block.language} cannot be run; mark it"
        runners[block.language](text, block.place)

    def _with_addresses(self, text: str) -> str:
        """Return a text with the addresses of the servers that run in the place of those of the page."""
        for written, real in self.moved.items():
            text = text.replace(written, real)
        return text

    def _python(self, text: str, place: str) -> None:
        if self.apart:
            self._process([sys.executable, "-c", text], place)
            return
        exec(compile(text, place, "exec"), self.names)

    def _yaml(self, text: str, place: str) -> None:
        """Read YAML; a first line ``# name.yaml`` saves it under that name."""
        assert yaml.safe_load(text), place
        if match := re.match(r"# (\S+\.yaml)\n", text):
            (self.folder / match[1]).write_text(text, encoding="utf-8")

    def _json(self, text: str, place: str) -> None:
        assert json.loads(text), place

    def _bash(self, text: str, place: str) -> None:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(self._with_addresses(line), comments=True)  # of a server that a line above started
            if not words:
                continue
            if words[:2] == ["pip", "install"]:
                check_install(words[2:], place)
            elif words[0] in ("optisar", "yolo"):
                self._command(words, place)
            elif words[0] == "curl":
                said = self._process(["curl", "-sS", "--fail-with-body", *words[1:]], place)
                assert "error" not in json.loads(said), f"{place}: {said}"
            elif words[0] == "python":
                self._process([sys.executable, *words[1:]], place)
            else:
                raise AssertionError(f"{place}: nobody knows how to run '{line}'; mark the block")

    def _command(self, words: list[str], place: str) -> None:
        program, words = words[0], [w for w in words[1:] if w != "&"]
        verb = " ".join(words[:2]) if words[0] == "dataset" else words[0]
        if verb in SERVERS and not any(w.startswith("apply=") for w in words):
            self._serve(verb, words, place)
            return
        plain = {"resume", "show", "--help"} & set(words) or words == ["reproduce"] or "dry_run=True" in words
        added = [] if plain else list(QUICK.get(verb, ()))
        if verb == "train" and not plain and not any(w.startswith("model=") for w in words):
            added.append("model=optisar++n.yaml")
        if self.apart or program == "yolo":
            module = "ultralytics.cfg" if program == "yolo" else "optisar_yolo"
            code = f"import sys; sys.argv[0] = 'yolo'; import {module} as m; m.entrypoint()"
            start = ["-c", code] if program == "yolo" else ["-m", module]
            self._process([sys.executable, *start, *words, *added], place)
            return
        assert optisar([*words, *added]) == 0, f"{place}: {program} {' '.join(words)}"

    def _serve(self, verb: str, words: list[str], place: str) -> None:
        """Start a server on a free port, and wait until it listens."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [w for w in words if not w.startswith(("port=", "browser="))] + [f"port={port}"]
        words += ["browser=False"] if verb != "serve" else []
        env = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}  # nicegui would test itself
        with open(self.folder / f"server-{port}.log", "wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "optisar_yolo", *words], cwd=self.folder, stdout=log, stderr=log, env=env
            )
        self.servers.append(server)
        for _ in range(600):
            assert server.poll() is None, f"{place}: {Path(log.name).read_text()[-2000:]}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        else:
            raise AssertionError(f"{place}: nobody listens after two minutes")
        self.moved.setdefault(f"127.0.0.1:{PORTS[verb]}", f"127.0.0.1:{port}")

    def _process(self, words: list[str], place: str) -> str:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=300, env=env, check=False)
        assert done.returncode == 0, f"{place}: {(done.stderr or done.stdout)[-2000:]}"
        return done.stdout


def check_install(words: list[str], place: str) -> None:
    """Check what a page installs: this package with extras that pyproject.toml has, or another package."""
    extras = pyproject_extras()
    wanted = [w for w in words if not w.startswith("-")]
    assert wanted, place
    for word in wanted:
        if re.fullmatch(r"\.(\[[\w,]+\])?", word):
            word = word.replace(".", "optisar-yolo", 1)
        requirement = Requirement(word)
        if requirement.name == "optisar-yolo":
            assert requirement.extras <= extras, f"{place}: no extra {requirement.extras - extras}"


def pyproject_extras() -> set[str]:
    """Return the extras of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    part = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", part, re.M))
