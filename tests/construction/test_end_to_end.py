"""Every packaged recipe, from fake sources to a data set that can be read, checked and trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_sources import fake_recipe, make_sources

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.construction.recipe import load_recipe
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import load_split

RECIPES = ("optsar-rsvg", "dior-rsvg", "opt-rsvg", "own-boxes")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    make_sources(root)
    return root


def build(name: str, sources: Path, folder: Path) -> Path:
    recipe = fake_recipe(f"{name}.yaml", folder)
    words = [f"recipe={recipe}", f"root={sources}", f"work={folder / 'work'}", f"to={folder / 'set'}", "jobs=1"]
    assert main(["dataset", "build", *words]) == 0
    return folder / "set" / f"{load_recipe(recipe).name.lower()}.yaml"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_a_set_that_reads_back(name: str, sources: Path, tmp_path: Path) -> None:
    dataset_config = load_dataset_config(build(name, sources, tmp_path))
    splits = {split: load_split(dataset_config, split) for split in dataset_config.splits}
    manifest = json.loads((tmp_path / "work" / "write" / "manifest.json").read_text())
    for split, images in splits.items():
        assert manifest["counts"][f"{split} pictures"] == len(images)
        said = sum(len(captions) for p in images for captions in p.captions)
        assert manifest["counts"][f"{split} expressions"] == said > 0
    every = [p for images in splits.values() for p in images]
    assert {p.modality for p in every} == {s.modality for s in load_recipe(tmp_path / f"{name}.yaml").sources}
    if name != "dior-rsvg":  # whose official split puts expressions of one image into several parts
        assert len({p.path.name for p in every}) == len(every)
    again = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*") if p.is_file()}
    build(name, sources, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*") if p.is_file()} == again


def test_a_set_described_from_boxes_alone_trains(sources: Path, tmp_path: Path) -> None:
    dataset_config = build("own-boxes", sources, tmp_path)
    described = json.loads((tmp_path / "work" / "describe" / "manifest.json").read_text())["counts"]
    assert described["expressions written"] > 0
    settings = {"imgsz": 64, "batch": 2, "epochs": 1, "prompts": 8, "plots": False, "warmup_epochs": 0, "workers": 0}
    model = OptiSAR("optisar++n.yaml")
    model.train(data=str(dataset_config), project=str(tmp_path), name="run", **settings)
    assert (tmp_path / "run" / "weights" / "best.pt").is_file()
    assert model.metrics.results_dict["fitness"] >= 0


def test_table_four_runs_on_a_set_of_its_own_form(sources: Path, tmp_path: Path) -> None:
    dataset_config = build("dior-rsvg", sources, tmp_path)
    budget = ["scale=n", "epochs=1", "imgsz=64", "batch=2", "prompts=24", "seed=0", "device=cpu", "warmup_epochs=0"]
    assert main(["reproduce", "table4", f"data={dataset_config}", f"project={tmp_path / 'runs'}", *budget]) == 0
    table = (tmp_path / "runs" / "table4.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| all training images |")]
    assert "epochs 1 (not 300)" in table and "not run" not in row
