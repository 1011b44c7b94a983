"""Training monitors: right figures, warnings of dead parts, and no trace in the training itself."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from tiny_net import WIDTH, network, training_batch

from optisar_yolo import OptiSAR
from optisar_yolo.engine import monitor as module
from optisar_yolo.engine.checkpoint import load_model
from optisar_yolo.engine.monitor import (
    CALLBACKS,
    TrainingMonitor,
    findings,
    read_record,
    summary,
    uses,
    write_record,
)
from optisar_yolo.engine.monitor_plot import monitor_plot
from optisar_yolo.nn.head import region_labels
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.plmoe import BALANCE_COEFFICIENT, MoEBlock
from optisar_yolo.nn.tgdf import DualGateFusion
from optisar_yolo.nn.yaml import load_model_yaml

GAINS = SimpleNamespace(moe=1.5, region=1.0)
MODALITY = torch.tensor([0, 1, 1, 0])
QUICK = {"imgsz": 64, "batch": 2, "prompts": 8, "verbose": False, "warmup_epochs": 0, "val": False}


def batch_of(**changes: Any) -> dict[str, Any]:
    return training_batch(side=64, **changes) | {"modality": MODALITY}


def step(model: Any, batch: dict[str, Any] | None = None) -> None:
    """One training forward, asked as the trainer asks."""
    model.train()
    model(batch or batch_of())


def watched(model: Any, path: Path, steps: int = 1) -> TrainingMonitor:
    monitor = TrainingMonitor(model, path / "monitor.csv", steps)
    torch.manual_seed(1)
    for _ in range(steps):
        step(model)
    return monitor


def fake_row(epoch: float = 3, experts: int = 4, **changes: float) -> dict[str, float]:
    """A healthy row of the record: 4 experts, 2 of them kept, used evenly by both modalities."""
    row = {"epoch": epoch, "region/P3(all)": 0.7, "region/P3(foreground)": 0.8, "region/mean(all)": 0.7}
    row |= {"region/mean(foreground)": 0.8, "region/chance": 0.1875, "moe8/patches": 1000.0, "moe8/top_k": 2.0}
    row |= {f"moe8/expert{i}({m})": 2 / experts for m in ("optical", "sar") for i in range(experts)}
    row |= {"moe8/busiest": 0.3, "moe8/use_entropy": 0.98, "moe8/router_entropy": 0.9, "moe8/balance": 2.0}
    row |= {f"fusion16/{kind}{i}": 1.0 for kind in ("alpha", "beta") for i in range(2)}
    return row | {"fusion16/effect": 0.3, "text_scale/P3": 0.37} | changes


# figures


def test_expert_use_is_that_of_the_gate_weights(tmp_path: Path) -> None:
    model = network()
    monitor = watched(model, tmp_path)
    block = next(m for m in model.modules() if isinstance(m, MoEBlock))
    kept = (block.gates > 0).view(4, -1, 8)  # [images, patches, experts]
    balance = block.balance.item() / BALANCE_COEFFICIENT
    row = monitor.end_epoch(1, GAINS)
    for m, name in enumerate(("optical", "sar")):
        expected = kept[MODALITY == m].float().mean((0, 1))
        assert [row[f"moe8/expert{i}({name})"] for i in range(8)] == pytest.approx(expected.tolist())
        assert sum(row[f"moe8/expert{i}({name})"] for i in range(8)) == pytest.approx(block.gate.top_k)
    first = block.gates.argmax(1).bincount(minlength=8) / len(block.gates)
    assert row["moe8/busiest"] == pytest.approx(float(first.max()))
    assert row["moe8/use_entropy"] == pytest.approx(-sum(p * math.log(p) for p in first.tolist() if p) / math.log(8))
    assert row["moe8/patches"] == len(block.gates) and row["moe8/balance"] == pytest.approx(balance, rel=1e-4)
    assert 0 < row["moe8/router_entropy"] <= 1


def test_region_accuracy_counts_cells_inside_the_image(tmp_path: Path) -> None:
    monitor = TrainingMonitor(network(), tmp_path / "monitor.csv", 1)
    label = torch.tensor([[[0, 1], [2, -1]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1], [3, 0]]]), 4).movedim(-1, 1).float()
    own = torch.tensor([[[False, True], [True, False]]])
    for _ in range(2):
        monitor._region(1, logits, label, own)
    assert monitor.sums["region1"].tolist() == [4, 6, 2, 4]  # right, inside, right objects, objects


def test_region_accuracy_of_a_head_that_knows(tmp_path: Path) -> None:
    model = network()
    monitor = TrainingMonitor(model, tmp_path / "monitor.csv", 1)
    head = model.head

    def know(i: int, f: torch.Tensor) -> torch.Tensor:
        label = region_labels(f.shape[2], f.shape[3], batch["extent"], head.grids[i], head.grids[i])
        if i == 2:
            label = label + 1  # this level is always wrong
        return torch.nn.functional.one_hot(label.clamp(min=0), head.grids[i] ** 2 + 1).movedim(-1, 1).float() * 9

    head._region = know
    batch = batch_of()
    step(model, batch)
    row = monitor.end_epoch(1, GAINS)
    assert [row[f"region/P{i}(all)"] for i in (3, 4, 5)] == [1, 1, 0]
    assert row["region/P3(foreground)"] == 1 and row["region/mean(all)"] == pytest.approx(2 / 3)
    assert row["region/chance"] == pytest.approx((1 / 16 + 1 / 4 + 1 / 4) / 3)


def test_effect_of_the_text_follows_the_gates(tmp_path: Path) -> None:
    model = network(alive=False)
    effects = []
    for gate in (1.0, 0.5, 0.0):
        for m in model.modules():
            if isinstance(m, DualGateFusion):
                m.attention_gate.data.fill_(gate)
        monitor = TrainingMonitor(model, tmp_path / "monitor.csv", 1)
        model.train()
        torch.manual_seed(0)
        model(batch_of())
        row = monitor.end_epoch(1, GAINS)
        assert row["fusion16/alpha0"] == gate and row["fusion16/beta0"] == 1
        effects.append(row["fusion16/effect"])
        monitor.close()
    assert effects[0] == pytest.approx(2 * effects[1], rel=1e-3) and effects[1] > 0.05 and effects[2] == 0


def test_long_epochs_are_watched_in_part_and_evaluation_not_at_all(tmp_path: Path) -> None:
    model = network()
    monitor = TrainingMonitor(model, tmp_path / "monitor.csv", 3 * module.WATCHED_STEPS)
    batch = batch_of()
    for _ in range(4):
        step(model, batch)
    assert (monitor.step, monitor.watched) == (4, 2)  # the first and the fourth
    sums = {k: v.clone() for k, v in monitor.sums.items()}
    model.eval()
    model.predict(batch["img"], batch["txt_feats"])
    assert all(torch.equal(v, sums[k]) for k, v in monitor.sums.items())
    monitor.close()
    step(model, batch)
    assert monitor.step == 4 and model.criterion.watch is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("missing", ["PLMoE", "TGDFSSA", "both"])
def test_models_without_a_part_are_watched_without_it(tmp_path: Path, missing: str) -> None:
    description = load_model_yaml("optisar++n.yaml")
    for row in description["backbone"] + description["head"]:
        if row[2] in ("PLMoE", "TGDFSSA") and missing in (row[2], "both"):
            row[2:] = ["C3k2", [row[3][0], False]]
    model = GroundingModel(description, verbose=False, text_dim=WIDTH)
    model.args = network().args
    row = watched(model, tmp_path).end_epoch(1, GAINS)
    assert any(k.startswith("moe") for k in row) == (missing == "TGDFSSA")
    assert any(k.startswith("fusion") for k in row) == (missing == "PLMoE")
    assert "region/mean(all)" in row and summary(row)
    assert cv2.imread(str(monitor_plot(tmp_path / "monitor.csv", tmp_path / "monitor.png"))) is not None


# record


def test_a_resumed_run_goes_on_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "monitor.csv"
    write_record(path, [fake_row(e) for e in (1, 2, 3)])
    assert TrainingMonitor(network(), path, 1).rows == []  # a new run in an old folder
    monitor = TrainingMonitor(network(), path, 1, start=2)
    step(monitor.model)
    for _ in range(2):  # an epoch done again after a failure
        monitor.end_epoch(3, GAINS)
        step(monitor.model)
    rows = read_record(path)
    assert [r["epoch"] for r in rows] == [1, 2, 3]
    assert rows[1] == fake_row(2) and "moe8/expert7(sar)" in rows[2]
    assert monitor.end_epoch(4, GAINS) and not monitor.end_epoch(5, GAINS)  # nothing was trained in the fifth


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    rows = [fake_row(1), {k: v for k, v in fake_row(2).items() if k != "region/P3(all)"}]
    rows[0]["region/P3(foreground)"] = math.nan
    back = read_record(write_record(tmp_path / "a.csv", rows))
    assert back[1] == rows[1] and "region/P3(foreground)" not in back[0]
    (tmp_path / "b.csv").write_text("time,loss\n1,2\n")
    with pytest.raises(ValueError, match="b.csv"):
        read_record(tmp_path / "b.csv")
    with pytest.raises(ValueError, match="no epochs"):
        monitor_plot(tmp_path / "none.csv", tmp_path / "a.png")


def test_use_is_told_in_fair_shares() -> None:
    row = fake_row(**{"moe8/expert0(sar)": 1.0, "moe8/expert1(sar)": 0.0})
    assert uses(row, "moe8", "optical") == [1, 1, 1, 1] and uses(row, "moe8", "sar") == [2, 0, 1, 1]


# warnings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"moe8/expert1(sar)": 0.0}, []),  # an expert of one modality is what experts are for
        ({"moe8/expert1(sar)": 0.0, "moe8/expert1(optical)": 0.003}, ["expert 1 of moe8 is dead", "moe=3"]),
        ({"moe8/expert1(sar)": 0.0, "moe8/expert1(optical)": 0.0, "moe8/patches": 100.0}, []),  # too few to tell
        ({"moe8/busiest": 0.95}, ["collapsed", "95 %", "moe=3"]),
        ({"moe8/use_entropy": 0.05}, ["collapsed"]),
        ({"region/mean(all)": 0.19}, ["region head is at chance after 3 epochs", "region=2"]),
        ({"region/mean(all)": 0.19, "epoch": 2}, []),
        ({f"fusion16/{k}{i}": 0.01 for k in ("alpha", "beta") for i in range(2)}, ["gates of fusion16", "gate_init"]),
        ({f"fusion16/alpha{i}": 0.0 for i in range(2)}, []),  # one open gate lets the other learn
    ],
)
def test_dead_parts_are_found(changes: dict[str, float], words: list[str]) -> None:
    found = [message for _, message in findings(fake_row(**changes), GAINS)]
    assert len(found) == bool(words), found
    assert all(word in found[0] for word in words)


def test_an_unused_part_is_not_complained_about() -> None:
    assert not list(findings(fake_row(**{"region/mean(all)": 0.1}), SimpleNamespace(moe=1.5, region=0.0)))
    silent = {"moe8/top_k": 4.0, "moe8/busiest": 1.0}  # all experts are kept
    assert not list(findings(fake_row(**silent), GAINS))


def test_each_warning_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.LOGGER, "warning", told.append)
    model = network()
    block = next(m for m in model.modules() if isinstance(m, MoEBlock))
    monitor = TrainingMonitor(model, tmp_path / "monitor.csv", 1)
    for epoch in (1, 2):
        block.gate.experts.data[:, 1:] = -block.gate.experts.data[:, :1]
        block.gate.project.weight.data.zero_()
        block.gate.project.bias.data.copy_(block.gate.experts.data[:, 0])
        block.gate.noise.data.fill_(-9)
        block.gate.temperature.data.fill_(4)
        step(model)
        monitor.end_epoch(epoch, GAINS)
    assert sum("collapsed" in t for t in told) == 1, told


# in training


def train(dataset_config: Path, folder: Path, **settings: Any) -> Path:
    OptiSAR("optisar++n.yaml").train(data=str(dataset_config), project=str(folder), name="run", **QUICK | settings)
    return folder / "run"


def test_watching_leaves_no_trace_in_the_weights(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = train(tiny, tmp_path / "watched", epochs=1, plots=True)
    assert [r["epoch"] for r in read_record(one / "monitor.csv")] == [1]
    image = cv2.imread(str(one / "monitor.png"))
    assert image is not None and image.std() > 10
    monkeypatch.setattr(module, "CALLBACKS", {})
    two = train(tiny, tmp_path / "alone", epochs=1, plots=False)
    assert not (two / "monitor.csv").exists()
    a, b = (load_model(run / "weights" / "last.pt") for run in (one, two))
    for (name, value), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_a_broken_run_resumes_its_record(tiny: Path, tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Broken

    model = OptiSAR("optisar++n.yaml")
    model.add_callback("on_train_epoch_end", stop)  # the epoch's row may or may not be written by then
    with pytest.raises(Broken):
        model.train(data=str(tiny), project=str(tmp_path), name="run", **QUICK | {"epochs": 2, "plots": False})
    before = read_record(tmp_path / "run" / "monitor.csv")
    OptiSAR(tmp_path / "run" / "weights" / "last.pt").train(resume=True)
    after = read_record(tmp_path / "run" / "monitor.csv")
    assert [r["epoch"] for r in after] == [1, 2] and after[0] == before[0]


def test_callbacks_can_be_sent_to_another_process_and_called_twice(tmp_path: Path) -> None:
    pickle.dumps(CALLBACKS)
    model = network()
    trainer = SimpleNamespace(
        model=model, save_dir=tmp_path, train_loader=[0], start_epoch=0, epoch=0,
        args=SimpleNamespace(plots=False, moe=1.5, region=1.0), config=SimpleNamespace(modalities=("optical", "sar")),
    )  # fmt: skip
    CALLBACKS["on_train_start"](trainer), CALLBACKS["on_train_start"](trainer)
    step(model)
    CALLBACKS["on_train_epoch_end"](trainer), CALLBACKS["on_train_epoch_end"](trainer)
    CALLBACKS["on_train_end"](trainer), CALLBACKS["on_train_end"](trainer)
    rows = read_record(tmp_path / "monitor.csv")
    block = next(m for m in model.modules() if isinstance(m, MoEBlock))
    assert len(rows) == 1 and rows[0]["moe8/patches"] == len(block.gates)
