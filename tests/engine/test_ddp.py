"""Parallel training and validation: ultralytics' launcher with two processes on the CPU (see gloo.py)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import ultralytics.engine.trainer
from gloo import RECORDS, WORLD, GlooTrainer, limited
from make_tiny import make

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import load_split
from optisar_yolo.utils.options import BUNDLED_MODEL

# At 64 pixels one of the six answers is so near a tie that a checkpoint's half precision decides it.
QUICK: dict[str, Any] = {
    "imgsz": 128, "batch": 4, "epochs": 2, "prompts": 6, "warmup_epochs": 0, "lr0": 1e-4, "split": "test",
}  # fmt: skip


def drop_last(annotations: Path) -> None:
    """Take the last image away: an odd number of them cannot be shared equally."""
    content = json.loads(annotations.read_text())
    gone = content["images"].pop()["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone]
    annotations.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def dataset_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images to train on, three to validate on."""
    root = tmp_path_factory.mktemp("odd")
    path = make(root)
    for split in ("train", "test"):
        drop_last(root / f"{split}.json")
    return path


@pytest.fixture(scope="module")
def run(dataset_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training in two processes: its folder, and a record of each process."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RECORDS, str(folder))
        patch.setattr(ultralytics.engine.trainer, "subprocess", SimpleNamespace(run=limited))
        settings = QUICK | {"plots": False, "project": str(folder), "name": "run", "device": "cpu", "verbose": False}
        model = OptiSAR(BUNDLED_MODEL)
        model.train(trainer=GlooTrainer, data=str(dataset_config), **settings)
    records = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]
    return SimpleNamespace(folder=folder / "run", records=records, model=model)


def test_both_processes_train_one_model(run: Any) -> None:
    assert [r["count"] for r in run.records] == [WORLD, WORLD]
    assert {r["parallel"] for r in run.records} == {"DistributedDataParallel"}
    for what in ("weights", "averages"):
        assert len({r[what] for r in run.records}) == 1, what
    assert len({r["noise"] for r in run.records}) == WORLD  # but each draws noise of its own


def test_the_images_are_shared_out(run: Any, dataset_config: Path) -> None:
    names = [p.path.name for p in load_split(load_dataset_config(dataset_config), "train")]
    share = -(-len(names) // WORLD)
    assert [len(r["drawn"]) for r in run.records] == [QUICK["epochs"] * share] * WORLD
    for epoch in range(QUICK["epochs"]):
        drawn = sum((r["drawn"][epoch * share : (epoch + 1) * share] for r in run.records), [])
        assert set(drawn) == set(names)


def test_no_image_is_validated_twice(run: Any) -> None:
    for epoch in range(QUICK["epochs"]):
        assert [r["validated"][epoch] for r in run.records] == [[0], [1, 2]]


def test_one_and_two_processes_give_the_same_table(run: Any, dataset_config: Path, tmp_path: Path) -> None:
    one = OptiSAR(run.folder / "weights" / "best.pt").val(
        data=str(dataset_config), split="test", imgsz=QUICK["imgsz"], plots=False, project=str(tmp_path)
    )
    assert 0 < one.results_dict["metrics/meanIoU(all)"] < 1  # figures that can differ
    assert one.table() == run.records[0]["table"]
    two = json.loads((run.folder / "metrics.json").read_text())
    for expected, found in zip(json.loads(one.to_json())["rows"], two["rows"], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    rows = list(csv.DictReader((run.folder / "results.csv").open()))
    assert len(rows) == QUICK["epochs"]
    # the averages of the last epoch in full precision, and the best checkpoint's in half
    best = max(float(row["metrics/meanIoU(all)"]) for row in rows)
    assert best == pytest.approx(one.results_dict["metrics/meanIoU(all)"], abs=0.02)


def test_the_answers_of_all_are_put_together_in_order(run: Any, dataset_config: Path) -> None:
    texts = [c for p in load_split(load_dataset_config(dataset_config), "test") for own in p.captions for c in own]
    assert run.records[0]["asked"] == texts
    assert run.records[0]["fitted"] == len(texts)  # the calibration is fitted to all of them


def test_only_the_first_process_writes(run: Any) -> None:
    first, second = (r["written"] for r in run.records)
    assert any(path.endswith("results.csv") for path in first)
    assert [path for path in second if not path.endswith(".lock")] == []  # a lock is taken for reading, too
    assert {p.name for p in (run.folder / "weights").iterdir()} == {"best.pt", "last.pt"}
    for name in ("args.yaml", "monitor.csv", "metrics.json", "metrics.csv"):
        assert (run.folder / name).stat().st_size > 0, name


def test_expressions_are_encoded_once(run: Any) -> None:
    first, second = (r["encoded"] for r in run.records)
    assert first > 0 and second == 0


def test_the_trained_model_is_at_hand(run: Any) -> None:
    assert run.records[0]["metrics"] == "dict" and run.records[1]["metrics"] == "NoneType"
    assert run.model.metrics["metrics/meanIoU(all)"] >= 0
    assert not any(torch.isnan(p).any() for p in run.model.model.parameters())
