"""Trainings that start from weights: every form of file, settings that suit them, frozen norms, mean with the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from released_file import network as released_network, write as write_released
from torch import nn
from ultralytics.nn.tasks import DetectionModel, YOLOEModel

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import CheckpointError, load_model
from optisar_yolo.engine.start import FINE_TUNING, START, mean_with_start, open_start, suit
from optisar_yolo.engine.train import TRAIN_DEFAULTS
from optisar_yolo.nn.transfer import TransferError
from optisar_yolo.paper.release import import_weights

QUICK = {
    "imgsz": 64, "batch": 2, "epochs": 1, "prompts": 8, "plots": False, "verbose": False, "device": "cpu",
}  # fmt: skip
LATE = "optisar++n-late.yaml"
BUNDLED = "optisar++n-pocket.safetensors"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stock checkpoints with random weights, as Ultralytics saves them."""
    folder, made = tmp_path_factory.mktemp("stock"), {}
    for name in ("yolo11n", "yoloe-11n", "yolo26n", "yolo11s"):
        kind = YOLOEModel if "yoloe" in name else DetectionModel
        made[name] = folder / f"{name}.pt"
        torch.save({"model": kind(f"{name}.yaml", verbose=False).half(), "train_args": {}}, made[name])
    return made


class Stop(Exception):
    """Ends a training at a point that a test looks at."""


def begun(model: OptiSAR, event: str = "on_train_start", **settings: Any) -> Any:
    """Begin a training, and return its trainer at an event."""
    kept: list[Any] = []

    def stop(trainer: Any) -> None:
        kept.append(trainer)
        raise Stop

    model.add_callback(event, stop)
    with pytest.raises(Stop):
        model.train(**QUICK | settings)
    return kept[0]


@pytest.mark.parametrize(("name", "share"), [("yolo11n", 63), ("yoloe-11n", 63), ("yolo26n", 41)])
def test_stock_weights_are_taken_and_said(
    tiny: Path, tmp_path: Path, stock: dict[str, Path], log: pytest.LogCaptureFixture, name: str, share: int
) -> None:
    trainer = begun(OptiSAR(LATE), data=str(tiny), pretrained=str(stock[name]), project=str(tmp_path))
    assert f"of 559 tensors, {share} % of the parameters; not taken: row 8" in log.text
    taken = trainer.model.model[0].conv.weight
    assert torch.equal(taken, torch.load(stock[name], weights_only=False)["model"].model[0].conv.weight.float())
    assert trainer.args.lr0 == TRAIN_DEFAULTS["lr0"]  # words are still to be learned
    assert trainer.args.pretrained == str(stock[name]) and "starting from weights" not in log.text


@pytest.mark.parametrize("form", ["shared", "checkpoint"])
def test_weights_of_ours_are_taken_in_both_forms(
    tiny: Path, tmp_path: Path, log: pytest.LogCaptureFixture, form: str
) -> None:
    start: Any = BUNDLED
    if form == "checkpoint":
        start = tmp_path / "start.pt"
        OptiSAR(BUNDLED).save(start)
    trainer = begun(OptiSAR(LATE), data=str(tiny), pretrained=str(start), project=str(tmp_path))
    assert "transferred 559 of 559 tensors, 100 % of the parameters" in log.text
    shown = " ".join(f"{k}={v if v is True else f'{v:g}'}" for k, v in FINE_TUNING.items())
    said = f"starting from weights: {shown}; set them to overrule"
    assert log.text.count(said) == 1
    assert {k: getattr(trainer.args, k) for k in FINE_TUNING} == FINE_TUNING
    steps = len(trainer.train_loader) / trainer.accumulate
    assert trainer.ema.decay(1) == trainer.ema.decay(1000) == pytest.approx(1 - 1 / steps)
    assert trainer.model.facts["categories"][-1] in load_model(BUNDLED).names.values()  # they go on


def test_what_the_user_sets_wins(tiny: Path, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    own = {"lr0": 0.001, "ema": 0.0, "freeze_norms": False}
    trainer = begun(OptiSAR(BUNDLED), data=str(tiny), project=str(tmp_path), **own)
    assert {k: getattr(trainer.args, k) for k in FINE_TUNING} == FINE_TUNING | own
    assert f"starting from weights: warmup_epochs={FINE_TUNING['warmup_epochs']}; set them" in log.text
    args = trainer.args
    assert suit(args, FINE_TUNING.keys()) == ""


def test_from_nothing_nothing_changes(tiny: Path, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    trainer = begun(OptiSAR(BUNDLED), data=str(tiny), project=str(tmp_path), pretrained=False)
    assert trainer.args.lr0 == TRAIN_DEFAULTS["lr0"] and trainer.args.ema == 0
    assert "transferred" not in log.text and "starting from weights" not in log.text
    assert trainer.ema.decay(1) < 0.001  # Ultralytics' schedule


def test_the_weights_of_pretrained_come_before_those_of_the_model(
    tiny: Path, tmp_path: Path, stock: dict[str, Path]
) -> None:
    trainer = begun(OptiSAR(BUNDLED), data=str(tiny), project=str(tmp_path), pretrained=str(stock["yolo11n"]))
    stem = torch.load(stock["yolo11n"], weights_only=False)["model"].model[0].conv.weight.float()
    assert torch.equal(trainer.model.model[0].conv.weight, stem)


def test_load_takes_all_forms(stock: dict[str, Path], tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    for weights in (stock["yolo11n"], str(stock["yolo26n"]), BUNDLED, load_model(BUNDLED)):
        assert isinstance(OptiSAR(LATE).load(weights), OptiSAR)
    assert log.text.count("transferred 559 of 559") == 2 and log.text.count("transferred ") == 4
    model = OptiSAR(LATE).load(BUNDLED)
    assert model.model.text_fingerprint == load_model(BUNDLED).text_fingerprint


def test_load_then_train_starts_from_what_was_loaded(tiny: Path, tmp_path: Path, stock: dict[str, Path]) -> None:
    trainer = begun(OptiSAR(LATE).load(BUNDLED), data=str(tiny), project=str(tmp_path))
    assert trainer.args.lr0 == FINE_TUNING["lr0"]
    trainer = begun(OptiSAR(LATE).load(stock["yolo11n"]), data=str(tiny), project=str(tmp_path))
    assert trainer.args.lr0 == TRAIN_DEFAULTS["lr0"]
    stem = torch.load(stock["yolo11n"], weights_only=False)["model"].model[0].conv.weight.float()
    assert torch.equal(trainer.model.model[0].conv.weight, stem)


def test_weights_that_do_not_fit_leave_no_run_folder(tiny: Path, tmp_path: Path, stock: dict[str, Path]) -> None:
    (tmp_path / "no.pt").write_bytes(b"nothing")
    torch.save({"a": torch.zeros(1)}, tmp_path / "tensors.pt")
    for weights, error, message in (
        (stock["yolo11s"], TransferError, "of scale s.*model=optisar..s-late.yaml"),
        (tmp_path / "missing.pt", FileNotFoundError, "missing.pt"),
        ("missing.safetensors", FileNotFoundError, "packaged"),
        (tmp_path / "no.pt", CheckpointError, "no.pt"),
        (tmp_path / "tensors.pt", CheckpointError, "tensors.pt"),
        (tmp_path / "best.onnx", CheckpointError, "an export holds no weights to train"),
    ):
        for model in (LATE, BUNDLED) if error is TransferError else (LATE,):
            with pytest.raises(error, match=message):
                OptiSAR(model).train(**QUICK, data=str(tiny), pretrained=str(weights), project=str(tmp_path / "runs"))
        with pytest.raises(error, match=message):
            OptiSAR(LATE).load(weights)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_the_release_names_the_command_for_it(tmp_path: Path) -> None:
    file = write_released(tmp_path / "official.pt", released_network())
    with pytest.raises(CheckpointError, match="optisar import-weights"):
        open_start(file)


def test_an_imported_checkpoint_of_the_release_is_taken(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = import_weights(write_released(tmp_path / "official.pt", released_network()), tmp_path / "o.safetensors")
    model = OptiSAR("optisar++n-official.yaml").load(file)
    assert "of 631 tensors" in log.text and "text features of 32 numbers there, 512 here" in log.text
    stem = load_model(file).state_dict()["model.16.attn.value.conv.weight"]
    assert torch.equal(model.model.model[16].attn.value.conv.weight, stem)
    log.clear()
    OptiSAR(LATE).load(file)  # other blocks, and an SPPF without activation
    assert "row 9 (Identity there, SiLU here)" in log.text and "row 16, row 19, row 22 (TGDFSSA there" in log.text


def test_the_norms_of_frozen_layers_stay_also_in_the_head(tiny: Path, tmp_path: Path) -> None:
    model = OptiSAR(BUNDLED)
    settings = {"epochs": 2, "freeze": [9, 23], "lr0": 0.01, "ema": 0.0, "freeze_norms": False}
    model.train(**QUICK | settings, data=str(tiny), project=str(tmp_path))
    before, after = load_model(BUNDLED).state_dict(), load_model(model.trainer.last).state_dict()
    frozen = {k for k in before if k.startswith(("model.9.", "model.23."))}
    changed = {k for k in frozen if not torch.equal(before[k].half(), after[k].half())}
    assert not changed, sorted(changed)
    assert any(not torch.equal(before[k], after[k]) for k in before.keys() - frozen)
    assert any(k.startswith("model.23.cv4.") and k.endswith("running_mean") for k in frozen)


def test_statistics_of_all_norms_stay_where_training_starts_from_weights(tiny: Path, tmp_path: Path) -> None:
    model = OptiSAR(BUNDLED)
    model.train(**QUICK, data=str(tiny), project=str(tmp_path), lr0=0.01, ema=0, warmup_epochs=0)
    before, after = load_model(BUNDLED).state_dict(), load_model(model.trainer.last).state_dict()
    statistics = {k for k in before if "running_" in k}
    assert all(torch.equal(before[k].half(), after[k].half()) for k in statistics)
    assert not torch.equal(before["model.0.bn.weight"], after["model.0.bn.weight"])


def test_a_mean_with_the_start(tiny: Path, tmp_path: Path) -> None:
    model = OptiSAR(BUNDLED)
    kept: list[dict[str, torch.Tensor]] = []
    model.add_callback("on_train_end", lambda t: kept.append({k: v.clone() for k, v in t.ema.ema.state_dict().items()}))
    model.train(**QUICK, data=str(tiny), project=str(tmp_path), lr0=0.01, average=0.5, ema=0, warmup_epochs=0)
    start, best = load_model(BUNDLED).state_dict(), load_model(model.trainer.best).state_dict()
    name = "model.0.conv.weight"
    assert torch.allclose(best[name], (start[name] + kept[0][name]) / 2, atol=1e-3)
    assert (start[name] - kept[0][name]).abs().max() > 4e-3
    assert not (model.trainer.wdir / START).exists()
    again = best[name].clone()
    torch.save({k: v.half() for k, v in start.items()}, model.trainer.wdir / START)
    mean_with_start(model.trainer.best, 0.5)  # a run that was killed behind the mean goes on from it
    assert torch.equal(load_model(model.trainer.best).state_dict()[name], again)


def test_a_mean_with_the_start_needs_one(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="average=0.5 needs trained weights"):
        OptiSAR(LATE).train(**QUICK, data=str(tiny), project=str(tmp_path), average=0.5)


def test_tune_begins_with_the_defaults_of_train(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stock: dict[str, Path]
) -> None:
    from ultralytics.engine import tuner

    seen: list[Any] = []
    monkeypatch.setattr(tuner.Tuner, "__call__", lambda self, iterations: seen.append(self))
    for model, expected in (
        (OptiSAR(BUNDLED), TRAIN_DEFAULTS | FINE_TUNING),
        (OptiSAR(LATE), TRAIN_DEFAULTS),
    ):
        model.tune(iterations=1, data=str(tiny), project=str(tmp_path), batch=4)
        first = seen[-1]._mutate()
        assert {k: first[k] for k in first if k in expected} == {k: expected[k] for k in first if k in expected}
        assert seen[-1].args.nbs == 4 and seen[-1].args.cos_lr is True
    OptiSAR(LATE).tune(iterations=1, data=str(tiny), project=str(tmp_path), pretrained=BUNDLED, lr0=0.001)
    assert seen[-1].args.lr0 == 0.001 and seen[-1].args.warmup_epochs == FINE_TUNING["warmup_epochs"]
    assert isinstance(seen[-1].model, nn.Module) and seen[-1].model.text_fingerprint
