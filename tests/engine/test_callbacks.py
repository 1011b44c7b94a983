"""TensorBoard and MLflow, as Ultralytics' own callbacks of them, into their local stores."""

import importlib.util
import os
import subprocess
import sys

import pytest

TRAIN = """
import os, sys
sys.path += [p for p in sys.argv[4:] if p]
import torch
torch.set_num_threads(1)
from ultralytics import settings
settings.update({"tensorboard": sys.argv[3] == "tensorboard", "mlflow": sys.argv[3] == "mlflow"})
from optisar_yolo import OptiSAR
keys = {"imgsz": 64, "batch": 2, "epochs": 2, "prompts": 8, "plots": False, "verbose": False, "warmup_epochs": 0}
OptiSAR("optisar++n.yaml").train(data=sys.argv[1], project=sys.argv[2], name="run", **keys)
"""
READ_MLFLOW = """
import json, os, sys
sys.path += [p for p in sys.argv[1:] if p]
import mlflow
client = mlflow.MlflowClient()
(experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
(run,) = client.search_runs([experiment.experiment_id])
steps = [m.step for m in client.get_metric_history(run.info.run_id, "val/meanIoU")]
print(json.dumps({"status": run.info.status, "name": run.info.run_name, "steps": steps,
                  "metrics": sorted(run.data.metrics), "text": run.data.params.get("prompts"),
                  "files": sorted(a.path for a in client.list_artifacts(run.info.run_id))}))
"""


def run(code, folder, *args, **more):
    """Run a program as a user does, not as a test of Ultralytics', which logs nothing."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "GITHUB", "CI"))}
    env |= {"YOLO_CONFIG_DIR": str(folder / "config"), "YOLO_OFFLINE": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, env=env, cwd=folder, timeout=300
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_tensorboard_gets_losses_and_figures_of_each_epoch(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = run(TRAIN, tmp_path, tiny, tmp_path / "runs", "tensorboard")
    assert "Traceback" not in said and "graph visualization failure" not in said
    log = EventAccumulator(str(tmp_path / "runs" / "run"))
    log.Reload()
    tags = set(log.Tags()["scalars"])
    figures = {t for t in tags if "meanIoU" in t}
    losses = {t for t in tags if t.startswith("train/")}
    assert figures and losses and any(t.startswith("lr/") for t in tags), tags
    for tag in (*figures, *losses):
        assert [e.step for e in log.Scalars(tag)][:2] == [1, 2], tag


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_mlflow_gets_settings_figures_and_weights(tiny, tmp_path):
    import json

    where = os.environ.get("OPTISAR_MLFLOW", "")  # a folder that holds mlflow apart: it logs all trainings unasked
    if not where and importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed (OPTISAR_MLFLOW names a folder that has it)")
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "MLFLOW_EXPERIMENT_NAME": "ships"}
    said = run(TRAIN, tmp_path, tiny, tmp_path / "runs", "mlflow", where, **store)
    assert "Failed to initialize" not in said, said
    found = json.loads(run(READ_MLFLOW, tmp_path, where, **store).strip().splitlines()[-1])
    assert found["status"] == "FINISHED" and found["name"] == "run" and found["text"] == "8"
    assert any("meanIoU" in m for m in found["metrics"]) and any(m.startswith("train") for m in found["metrics"])
    assert "weights" in found["files"] or "best.pt" in str(found["files"])
