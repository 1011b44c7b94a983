"""What parallel training is made of, in one process: shares, launcher file, merged answers, one normaliser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_net import network, training_batch
from ultralytics.utils import DEFAULT_CFG_DICT, USER_CONFIG_DIR
from ultralytics.utils.dist import ddp_cleanup, generate_ddp_command

from optisar_yolo.data.sampler import EpochSampler
from optisar_yolo.engine.metrics import GroundingMetrics
from optisar_yolo.engine.routing import ExpertUse, Shares
from optisar_yolo.engine.sensitivity import SensitivityScores
from optisar_yolo.engine.train import GroundingTrainer
from optisar_yolo.nn import loss
from optisar_yolo.plugin.patch import config_keys
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS
from optisar_yolo.text.cache import TextFeatureCache
from optisar_yolo.utils import distributed as ranks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 6))
def test_validation_shares_are_the_whole_once(n: int, world: int) -> None:
    shares = [[i for _, i in EpochSampler(n, 0, rank, world, shuffle=False)] for rank in range(world)]
    assert sum(shares, []) == list(range(n))
    assert [len(s) for s in shares] == [len(EpochSampler(n, 0, r, world, shuffle=False)) for r in range(world)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_outside_a_parallel_training_nothing_is_shared() -> None:
    value = torch.tensor(3.0)
    assert (ranks.world_size(), ranks.process_rank(), ranks.gather_objects("a")) == (1, 0, ["a"])
    assert ranks.sum_over_processes(value) is value


def test_merged_word_scores_are_those_of_one_process() -> None:
    rng = np.random.default_rng(0)
    whole, parts = SensitivityScores(), [SensitivityScores(), SensitivityScores()]
    for image in range(8):
        conf, right, hard = rng.random(3), rng.random(3) < 0.5, rng.random(3) < 0.5
        answers = [(e, ("orientation", "size")[e % 2], rng.normal(), rng.random(), rng.normal()) for e in range(3)]
        for scores in (whole, parts[image // 4]):
            first = scores.add(conf, right, hard)
            for e, kind, margin, false, gain in answers:
                scores.pair(first + e, kind, margin, false, fitted=e == 0)
                scores.mirror(first + e, gain)
    parts[0].merge(parts[1])
    assert parts[0].figures(0.5) == whole.figures(0.5)
    for a, b in zip(parts[0].observations(), whole.observations(), strict=True):
        assert np.array_equal(a, b)


def test_merged_metrics_are_those_of_one_process() -> None:
    rng = np.random.default_rng(1)
    whole, parts = GroundingMetrics(), [GroundingMetrics(), GroundingMetrics()]
    for image in range(6):
        corner = rng.random((2, 2)) * 40
        target = np.concatenate((corner, corner + 10), 1)
        pred = target + rng.normal(0, 3, target.shape)
        about = ((80, 60), ("optical", "sar")[image % 2], "ship", rng.random(2), [True, False])
        for metrics in (whole, parts[image // 3]):
            metrics.update(pred, target, *about)
    parts[0].merge(parts[1])
    assert parts[0].rows() == whole.rows()


def test_merged_expert_use_is_that_of_one_process() -> None:
    rng = np.random.default_rng(2)
    names = ("optical ship", "sar ship")
    whole, parts = ExpertUse(names), [ExpertUse(names), ExpertUse(names)]
    for image in range(6):  # the second process sees SAR images alone
        modality = "sar" if image > 2 else ("optical", "sar")[image % 2]
        shares = Shares(rng.random(4), rng.random(4))
        for use in (whole, parts[image // 3]):
            use._count("moe8", ("modality", modality), shares)
            use._count("moe8", ("category", f"{modality} ship"), shares)
    parts[0].merge(parts[1])
    merged, expected = parts[0].matrices()["moe8"], whole.matrices()["moe8"]
    assert (merged.columns, merged.counts) == (expected.columns, expected.counts)
    assert np.allclose(merged.weight, expected.weight) and np.allclose(merged.first, expected.first)


def test_objects_weigh_alike_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes and classes of half a batch each, added up as DDP adds gradients, are the loss of the batch."""
    torch.manual_seed(0)
    model = network().train()
    batch = training_batch(b=4, side=96, sizes=(0.2, 0.3, 0.5))
    keep = batch["batch_idx"] >= 2  # the first half has no object at all: the worst case
    preds = {k: v for k, v in forward(model, batch).items() if k in ("scores", "boxes", "feats", "regions")}

    def terms(rows: slice) -> torch.Tensor:
        mine = keep & (batch["batch_idx"] >= rows.start) & (batch["batch_idx"] < rows.stop)
        part = {k: batch[k][rows] for k in ("extent", "guide")}
        part |= {k: batch[k][mine] for k in ("cls", "bboxes", "targets")}
        part["batch_idx"] = batch["batch_idx"][mine] - rows.start
        cut = {k: v[rows] if isinstance(v, torch.Tensor) else [m[rows] for m in v] for k, v in preds.items()}
        terms_of, _ = model.criterion(cut, part)
        return terms_of[:3]  # box, classification, DFL

    whole = terms(slice(0, 4))
    apart = terms(slice(0, 2)) + terms(slice(2, 4))
    sums: list[torch.Tensor] = []
    monkeypatch.setattr(loss, "sum_over_processes", lambda value: sums.append(value) or value)
    terms(slice(0, 2)), terms(slice(2, 4))
    monkeypatch.setattr(loss, "sum_over_processes", lambda value: torch.stack(sums).sum())
    monkeypatch.setattr(loss, "world_size", lambda: 2)
    together = terms(slice(0, 2)) + terms(slice(2, 4))
    assert sums[0] == 0 and sums[1] > 1
    assert torch.allclose(together, whole, rtol=1e-4)
    # With a normaliser of each process' own, the objects of the second half would weigh half as much.
    assert torch.allclose(apart[[0, 2]], whole[[0, 2]] / 2, rtol=1e-4)


def forward(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The network's output for a batch, without gradients."""
    model.criterion = model.init_criterion()
    with torch.no_grad():
        return model.predict(batch["img"], batch["txt_feats"], batch["extent"], batch["guide"])


@pytest.fixture
def launcher(tiny: Path, tmp_path: Path) -> Any:
    """Command and script of ultralytics' launcher for a trainer of ours, as `OptiSAR.train` sets it up."""
    with config_keys():
        overrides = {"model": "optisar++n.yaml", "data": str(tiny), "device": "cpu", "imgsz": 64, "epochs": 1}
        ours = {"prompts": 7, "guide": "any", "project": str(tmp_path), "name": "run", "workers": 0}
        trainer = GroundingTrainer(overrides=overrides | ours)
        trainer.model = trainer.get_model(cfg="optisar++n.yaml", verbose=False)
        trainer.world_size = 2
        command, file = generate_ddp_command(trainer)
    yield SimpleNamespace(command=command, file=file, trainer=trainer)
    ddp_cleanup(trainer, file)


# What the script does up to training, in a process as the launcher starts it.
CHILD = """
import runpy, sys
import optisar_yolo.plugin
from ultralytics.engine.trainer import BaseTrainer
def train(self):
    print(type(self).__module__, type(self).__name__, type(self.model).__name__, self.model.text_model)
    print(self.args.prompts, self.args.guide, self.args.optimizer, self.args.epochs, self.args.mosaic)
    print(sum(c.__name__ == "_set_epoch" for c in self.callbacks["on_train_epoch_start"]) > 0)
BaseTrainer.train = train
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_the_launcher_script_carries_our_trainer_and_keys(launcher: Any) -> None:
    assert launcher.file in launcher.command and str(USER_CONFIG_DIR) in launcher.file
    assert launcher.command[launcher.command.index("--nproc_per_node") + 1] == "2"
    env = os.environ | {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, launcher.file], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()[-3:]
    assert lines[0] == "optisar_yolo.engine.train GroundingTrainer GroundingModel pocket"
    assert lines[1] == "7 any AdamW 1 0.0"
    assert lines[2] == "True"
    assert "prompts" not in DEFAULT_CFG_DICT and "prompts" in OPTISAR_DEFAULTS  # this process is as it was


def test_a_model_that_came_ready_made_gets_its_text_encoder(launcher: Any) -> None:
    """As in a process of the launcher, which receives the network but not the expressions' features."""
    trainer = launcher.trainer
    trainer.text_features = None
    assert trainer.setup_model() is None
    assert (
        isinstance(trainer.text_features, TextFeatureCache)
        and trainer.text_features.encoder.name == trainer.model.text_model
    )
