"""Ultralytics' experiment loggers with these networks and local stores. Within pytest itself they log nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optisar_yolo.engine.loggers import REFUSED, suit_loggers
from optisar_yolo.engine.train import GroundingTrainer

TRAIN = """
import os, sys
from ultralytics.utils import SETTINGS
SETTINGS.update({"tensorboard": False, "mlflow": False} | {sys.argv[1]: True})
from optisar_yolo import OptiSAR
model = OptiSAR("optisar++n.yaml")
for name in sys.argv[3:]:
    model.train(data=sys.argv[2], epochs=2, imgsz=64, batch=4, workers=0, device="cpu", plots=False, name=name)
"""


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip without packages, which are looked for and not imported: they bring native libraries of their own."""
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def train(logger: str, data: Path, folder: Path, *names: str) -> str:
    """Train in a process of its own; return what it said."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MLFLOW"))}
    env |= {"YOLO_CONFIG_DIR": str(folder / "config"), "GIT_PYTHON_REFRESH": "quiet"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", TRAIN, logger, str(data), *names]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@needs("tensorboard")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tensorboard(tiny: Path, tmp_path: Path) -> None:
    said = train("tensorboard", tiny, tmp_path, "a")
    assert "tensorboard --logdir" in said
    assert "graph visualization" not in said and "tensor(" not in said
    code = (
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
        "e = E('runs/detect/a'); e.Reload()\n"
        "for tag in e.Tags()['scalars']: print(tag, *(s.step for s in e.Scalars(tag)))"
    )
    read = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    steps = {tag: rest.split() for tag, *rest in (line.split(" ", 1) for line in read.splitlines()) for rest in rest}
    assert {"metrics/Pr@0.5(all)", "metrics/meanIoU(sar)", "train/choice_loss", "lr/pg0"} <= set(steps)
    assert steps["train/choice_loss"] == ["1", "2"] and set(steps["metrics/meanIoU(all)"]) == {"1", "2"}


@needs("mlflow")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mlflow_keeps_the_metrics_of_every_epoch_and_training(tiny: Path, tmp_path: Path) -> None:
    said = train("mlflow", tiny, tmp_path, "a", "b")
    assert "logging run_id" in said and "failed" not in said.lower()
    code = (
        "import mlflow\n"
        "runs = mlflow.search_runs(search_all_experiments=True, output_format='list')\n"
        "client = mlflow.MlflowClient()\n"
        "for run in runs:\n"
        "    epochs = {m.step for m in client.get_metric_history(run.info.run_id, 'metrics/Pr_0.5all')}\n"
        "    files = sorted(f.path for f in client.list_artifacts(run.info.run_id))\n"
        "    print(run.info.run_name, run.info.status, run.data.params['text_model'], sorted(epochs), files)"
    )
    read = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    runs = dict(line.split(" ", 1) for line in read.splitlines())
    assert set(runs) == {"a", "b"}
    assert all(said.startswith("FINISHED pocket [0, 1] ") and "results.csv" in said for said in runs.values())


def test_names_that_mlflow_takes() -> None:
    said: list[dict[str, float]] = []

    def other(trainer: Any) -> None:
        said.append(trainer.metrics)

    def stock(trainer: Any) -> None:
        raise AssertionError("the stock function would send names that are refused")

    stock.__module__ = "ultralytics.utils.callbacks.mlflow"
    callbacks: dict[str, list[Any]] = {"on_fit_epoch_end": [stock, other, stock], "on_train_start": []}
    suit_loggers(callbacks)
    suit_loggers(callbacks)
    assert len(callbacks["on_fit_epoch_end"]) == 2 and callbacks["on_fit_epoch_end"][1] is other
    names = ["metrics/Pr@0.5(all)", "metrics/meanIoU(naturel, é)", "metrics/AP50-95(sar)", "val/a+b"]
    assert [REFUSED.sub("_", n) for n in names] == [
        "metrics/Pr_0.5(all)", "metrics/meanIoU(naturel_ _)", "metrics/AP50-95(sar)", "val/a_b"
    ]  # fmt: skip
    trainer = SimpleNamespace(metrics={n: 1.0 for n in names})
    for call in callbacks["on_fit_epoch_end"]:
        call(trainer)
    assert list(said[0]) == list(trainer.metrics) == names


def test_columns_of_the_progress_stand_apart() -> None:
    trainer = GroundingTrainer.__new__(GroundingTrainer)
    trainer.loss_names = ("box_loss", "choice_loss", "region_loss", "compare_loss")
    trainer.tloss = torch.zeros(4)
    assert trainer.progress_string().split() == [
        "Epoch", "GPU_mem", "box", "choice", "region", "compare", "Instances", "Size"
    ]  # fmt: skip
    assert len(trainer.progress_string()) == 1 + 11 * 8
