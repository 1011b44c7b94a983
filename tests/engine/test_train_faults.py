"""Trainings that are killed, get two at a time, meet a full disk or are given what they cannot use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.engine.checkpoint import CheckpointError, load_model
from optisar_yolo.engine.resume import keep_rows
from optisar_yolo.engine.train import FolderLock

QUICK: dict[str, Any] = {
    "imgsz": 64, "batch": 2, "epochs": 1, "prompts": 8, "plots": False, "verbose": False, "warmup_epochs": 0,
    "device": "cpu", "workers": 0,
}  # fmt: skip

KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from optisar_yolo import OptiSAR
from optisar_yolo.engine.train import GroundingTrainer
GroundingTrainer.final_eval = lambda self: os.kill(os.getpid(), signal.SIGKILL)
OptiSAR("optisar++n.yaml").train(data=sys.argv[1], project=sys.argv[2], name="run", **eval(sys.argv[3]))
"""

FULL = """
import resource, signal, sys
import torch
torch.set_num_threads(1)
from optisar_yolo.commands.main import main
from optisar_yolo.engine.train import GroundingTrainer
stock, limit = GroundingTrainer.save_model, int(sys.argv[1])
def save_model(self):
    if self.epoch == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return stock(self)
GroundingTrainer.save_model = save_model
sys.exit(main(sys.argv[2:]))
"""


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def killed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its last epoch, before its final validation."""
    folder = tmp_path_factory.mktemp("killed")
    assert python(KILLED, tiny, folder, QUICK).returncode == -9
    return folder / "run"


def test_a_run_killed_before_its_final_validation_is_finished(killed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    last = run / "weights" / "last.pt"
    before = torch.load(last, map_location="cpu", weights_only=False)["ema"].state_dict()
    assert not (run / "metrics.json").exists()
    content = torch.load(last, map_location="cpu", weights_only=False)
    content["train_args"]["save_dir"] = str(run)  # it was copied
    torch.save(content, last)
    OptiSAR(str(last)).train(resume=True)
    assert (run / "metrics.json").stat().st_size and not (run / ".training.lock").exists()
    finished = torch.load(last, map_location="cpu", weights_only=False)
    assert finished["optimizer"] is None and finished["epoch"] == -1
    after = load_model(run / "weights" / "last.pt").state_dict()
    assert all(torch.equal(v.half(), after[k].half()) for k, v in before.items() if v.is_floating_point())
    with pytest.raises(CheckpointError, match=r"last\.pt: nothing to resume, its training is finished.*leave resume"):
        OptiSAR(str(last)).train(resume=True)


def test_a_run_killed_within_its_final_validation_can_still_be_resumed(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optisar_yolo.engine import train

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train.GroundingTrainer, "_validate_best", stop)
    last = killed / "weights" / "last.pt"
    with pytest.raises(KeyboardInterrupt):
        OptiSAR(str(last)).train(resume=True)
    assert torch.load(last, map_location="cpu", weights_only=False)["optimizer"] is not None


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ("1,0.5\n2,0.4\n", "1,0.5\n2,0.4\n"),
        ("1,0.5\n2,0.4\n3,0.3\n", "1,0.5\n2,0.4\n"),  # killed between the row and the checkpoint of its epoch
        ("1,0.5\n2,0.4\n3", "1,0.5\n2,0.4\n"),  # within the row
        ("1,0.5\n2,0.4\n\n", "1,0.5\n2,0.4\n"),
        ("", ""),
    ],
)
def test_the_table_of_a_resumed_run_has_one_row_per_epoch(tmp_path: Path, rows: str, kept: str) -> None:
    table = tmp_path / "results.csv"
    keep_rows(table, 2)
    assert not table.exists()
    table.write_text("epoch,time\n" + rows)
    keep_rows(table, 2)
    assert table.read_text() == "epoch,time\n" + kept


def test_two_trainings_in_one_folder(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "args.yaml").write_text("of the first")
    first = FolderLock(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run: another training writes to this run folder; .*name="):
        OptiSAR("optisar++n.yaml").train(data=str(tiny), project=str(tmp_path), name="run", exist_ok=True, **QUICK)
    assert (tmp_path / "run" / "args.yaml").read_text() == "of the first"
    first.release()
    FolderLock(tmp_path / "run").release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limit of file sizes on this system")
def test_a_full_disk_keeps_what_was_saved(tiny: Path, tmp_path: Path) -> None:
    words = [f"{k}={v}" for k, v in QUICK.items() if k != "epochs"]
    words += ["epochs=2", f"data={tiny}", f"project={tmp_path}", "name=run", "model=optisar++n.yaml"]
    done = python(FULL, 200_000, "train", *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "last.pt: File too large; " in done.stderr
    weights = tmp_path / "run" / "weights"
    assert {p.name for p in weights.iterdir()} == {"last.pt", "best.pt"}
    assert torch.load(weights / "last.pt", map_location="cpu", weights_only=False)["epoch"] == 0


@pytest.mark.parametrize("batch", [-1, 0.7, 0, True])
def test_batch_sizes_that_are_found_by_trying_are_refused(batch: Any, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a whole number, such as batch=16"):
        OptiSAR("optisar++n.yaml").train(data=str(tiny), project=str(tmp_path), **QUICK | {"batch": batch})
    assert not list(tmp_path.iterdir())


def test_no_dataset_config(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for verb, more, status in (("train", [], 2), ("train", ["plots"], 2), ("val", [], 1), ("val", ["data=None"], 1)):
        assert main([verb, "model=optisar++n.yaml", f"project={tmp_path}", *more]) == status
        said = capsys.readouterr()
        assert "no data= is given: name a dataset config" in said.err
        assert "coco8" not in said.err + said.out, "Ultralytics' own data set would not be taken"
    for method in (OptiSAR("optisar++n.yaml").train, OptiSAR("optisar++n.yaml").val):
        with pytest.raises(ValueError, match="no data= is given"):
            method(project=tmp_path)
    assert main(["train", "model=optisar++n.yaml", "data=coco8.yaml", f"project={tmp_path}"]) == 1
    assert "coco8.yaml: a data set of Ultralytics, whose boxes have no expressions" in capsys.readouterr().err
    assert not (tmp_path / "train").exists()


def test_the_dataset_config_of_a_detector(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(tiny.parent, folder)
    names = [c["name"] for c in json.loads((folder / "train.json").read_text())["categories"]]
    config = folder / "data.yaml"
    config.write_text(json.dumps({"path": str(folder), "train": "images", "val": ["images"], "names": names}))
    from optisar_yolo.data import DataError, load_dataset_config

    assert load_dataset_config(config).splits["train"] == folder / "train.json"
    (folder / "train.json").unlink()
    with pytest.raises(DataError, match=r"'train: images' names images, as for a detector, .*own-boxes\.yaml"):
        OptiSAR("optisar++n.yaml").train(data=str(config), project=str(tmp_path / "runs"), **QUICK)
    assert not (tmp_path / "runs").exists()
