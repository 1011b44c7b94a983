"""Training, validation and resuming, end to end on a tiny data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import load_model

QUICK = {"imgsz": 64, "batch": 2, "epochs": 2, "prompts": 8, "plots": False, "verbose": False, "warmup_epochs": 0}

KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from optisar_yolo import OptiSAR
config, folder, settings = sys.argv[1], sys.argv[2], eval(sys.argv[3])
model = OptiSAR("optisar++n.yaml")
if folder.endswith("killed"):
    # in the middle of the last epoch, after a step that must not leave a trace
    model.add_callback("on_train_batch_end", lambda t: t.epoch == 2 and os.kill(os.getpid(), signal.SIGKILL))
model.train(data=config, project=folder, name="run", **settings)
"""

RESUME = """
import sys
import torch
torch.set_num_threads(1)
from optisar_yolo import OptiSAR
OptiSAR(sys.argv[1]).train(resume=True)
"""


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    OptiSAR("optisar++n.yaml").train(data=str(tiny), project=str(folder), name="run", **QUICK | {"plots": True})
    return folder / "run"


def test_a_run_leaves_weights_figures_and_images(trained: Path) -> None:
    assert {p.name for p in (trained / "weights").iterdir()} == {"best.pt", "last.pt"}
    for name in (
        "args.yaml",
        "results.csv",
        "results.png",
        "metrics.json",
        "metrics.csv",
        "best.png",
        "train_batch0.jpg",
    ):
        assert (trained / name).stat().st_size > 0, name
    header = (trained / "results.csv").read_text().splitlines()[0]
    for column in (
        "train/box_loss",
        "train/region_loss",
        "train/moe_loss",
        "metrics/meanIoU(all)",
        "metrics/Pr@0.5(sar)",
    ):
        assert column in header


def test_multi_scale_draws_a_size_for_each_batch(tiny: Path, tmp_path: Path) -> None:
    model = OptiSAR("optisar++n.yaml")
    seen: set[int] = set()
    model.add_callback(
        "on_train_start",
        lambda t: t.model.register_forward_pre_hook(lambda _, given: seen.add(given[0]["img"].shape[-1])),
    )
    model.train(data=str(tiny), project=str(tmp_path), **QUICK | {"multi_scale": 0.5, "epochs": 3})
    assert len(seen) > 1 and seen <= {32, 64, 96}


@pytest.mark.parametrize("noise, low, high", [(0.0, 0.999999, 1.0), (0.5, 0.85, 0.94)])
def test_noise_on_the_expressions(tiny: Path, tmp_path: Path, noise: float, low: float, high: float) -> None:
    model = OptiSAR("optisar++n.yaml")
    alike: list[torch.Tensor] = []

    def compare(trainer: Any) -> None:
        def hook(_: Any, given: Any) -> None:
            batch = given[0]
            clean = trainer.text_features([t for texts in batch["texts"] for t in texts])
            alike.append(torch.nn.functional.cosine_similarity(batch["txt_feats"].flatten(0, 1), clean))

        trainer.model.register_forward_pre_hook(hook)

    model.add_callback("on_train_start", compare)
    model.train(data=str(tiny), project=str(tmp_path), **QUICK | {"text_noise": noise, "epochs": 1})
    assert low < torch.cat(alike).mean() <= high + 1e-6  # 1 / sqrt(1 + noise²)


def test_the_checkpoint_is_portable(trained: Path) -> None:
    best = load_model(trained / "weights" / "best.pt")
    assert best.yaml["yaml_file"] == "optisar++n.yaml"
    assert best.text_model == "pocket" and best.text_fingerprint
    assert isinstance(best.wordings, tuple) and "negation" not in best.wordings  # kinds of the captions' wording
    content = torch.load(trained / "weights" / "best.pt", map_location="cpu", weights_only=False)
    assert not content.get("exact") and not content.get("optimizer")


def test_every_way_of_validating_gives_the_same_figures(trained: Path, tiny: Path, tmp_path: Path) -> None:
    best = trained / "weights" / "best.pt"
    settings = {"data": str(tiny), "split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False}
    one = OptiSAR(best).val(**settings)
    two = YOLO(str(best)).val(**settings, batch=1)
    assert one.results_dict == pytest.approx(two.results_dict)
    assert one.results_dict["fitness"] == one.results_dict["metrics/meanIoU(all)"]
    assert all(word in one.table() for word in ("optical", "SAR", "all", "meanIoU"))


def test_training_again_from_a_checkpoint_starts_from_its_weights(trained: Path, tiny: Path, tmp_path: Path) -> None:
    best = trained / "weights" / "best.pt"
    model = OptiSAR(best)
    model.train(data=str(tiny), project=str(tmp_path), **QUICK | {"epochs": 1, "lr0": 0.0, "warmup_epochs": 0})
    old, new = load_model(best), load_model(model.trainer.last)
    for (name, a), b in zip(old.named_parameters(), new.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3), name


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"compile": True}, "compile"),
        ({"data": "missing.yaml"}, "missing.yaml"),
        ({"text_model": "nonsense"}, "nonsense"),
        ({"prompts": 0}, "prompts"),
    ],
)
def test_bad_settings_are_refused_by_name(tiny: Path, tmp_path: Path, bad: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"data": str(tiny), "project": str(tmp_path), **QUICK, **bad}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        OptiSAR("optisar++n.yaml").train(**settings)


def test_a_killed_run_resumes_to_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    settings = QUICK | {"epochs": 3, "save_period": 2}
    for folder in ("whole", "killed"):
        done = python(KILLED, tiny, tmp_path / folder, settings)
        assert done.returncode == (-signal.SIGKILL if folder == "killed" else 0), done.stderr[-2000:]
    last = tmp_path / "killed" / "run" / "weights" / "last.pt"
    assert torch.load(last, map_location="cpu", weights_only=False)["epoch"] == 1
    done = python(RESUME, last)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, resumed = (load_model(tmp_path / f / "run" / "weights" / "last.pt") for f in ("whole", "killed"))
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert sorted(os.listdir(last.parent)) == ["best.pt", "epoch0.pt", "epoch2.pt", "last.pt"]
