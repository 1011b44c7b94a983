"""Every code block of README and docs runs, or says on the page why not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from page_code import ROOT, TRAINING, Block, PageRun, blocks_of, random_sam, workshop

from optisar_yolo import OptiSAR

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not part of this distribution")

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
UNRUN = {"mermaid"}  # a drawing
SHOWN = {"options.md"}  # examples of the declarations: the tests of each command run its own
NEEDS = {
    "app.md": ("gradio", "gradio_client"),
    "service.md": ("fastapi", "uvicorn"),
    "batch.md": ("ray",),
    "export.md": ("onnx", "onnxruntime", "openvino", "nncf"),
    "scene.md": ("bokeh",),
    "raster-in-qgis.md": ("bokeh",),
    "interop.md": ("supervision",),
    "datasets.md": ("nicegui", "wordcloud"),
}
APART = {"batch.md"}  # Ray leaves threads behind
EVERY = "OPTISAR_EVERY_PAGE"
"""Environment variable: any value also runs the pages that train, export, serve or start Ray for minutes, as
`make pages` does every night; tests/test_docs.py checks their command lines in any case.
"""
ON_REQUEST = {
    "annotate.md", "app.md", "batch.md", "datasets.md", "explain.md", "export.md", "interop.md", "reproduce.md",
    "scene.md", "score.md", "service.md", "train.md",
}  # fmt: skip


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks_of(page) if b.language not in UNRUN and b.reason is None]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workshop(tmp_path_factory.mktemp("pages") / "workshop")


def test_most_blocks_run_and_the_others_say_why() -> None:
    every = [b for page in PAGES if page.name not in SHOWN for b in blocks_of(page) if b.language not in UNRUN]
    marked = [b for b in every if b.reason is not None]
    assert len(every) > 50 and len(marked) < len(every) / 4
    assert all(len(b.reason.split()) > 3 for b in marked), [b.place for b in marked]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in SHOWN and runnable(p)], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_code_of_a_page_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name in ON_REQUEST and page.parent.name == "docs" and not os.environ.get(EVERY):
        pytest.skip(f"{EVERY}=1 runs it")
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package)
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    config = folder / "my-set" / "my-set.yaml"
    for file in (config, folder / "optsar.yaml"):
        file.write_text(file.read_text().replace(str(prepared), str(folder)))
    if page.name == "datasets.md":
        shutil.rmtree(folder / "my-set")  # the page builds it
    if page.name == "masks.md":
        random_sam(folder)
    monkeypatch.chdir(folder)
    _quick_training(monkeypatch)
    with PageRun(folder, apart=page.name in APART) as run:
        for block in runnable(page):
            run.run(block)


def _quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train less than a page says."""
    real = OptiSAR.train

    def train(self: OptiSAR, trainer: Any = None, **kwargs: Any) -> Any:
        quick = dict(word.split("=") for word in TRAINING)
        values = {k: int(v) if v.isdigit() else v for k, v in quick.items()} | {"plots": False}
        return real(self, trainer, **kwargs | values)

    monkeypatch.setattr(OptiSAR, "train", train)
