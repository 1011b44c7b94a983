"""Calibration: numbers by hand, weights files that carry it, and who uses it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_net import network
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main as cli
from optisar_yolo.engine.calibrate import (
    Calibration,
    CalibrationError,
    attach,
    best_threshold,
    calibration_of,
    default_conf,
    ece,
    fit,
    fit_platt,
    logit,
    roc_auc,
)
from optisar_yolo.engine.checkpoint import CheckpointError, load_model, save_shared, store_calibration
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.plugin.settings import check
from optisar_yolo.utils.options import SettingError

KNOWN = Calibration(2.0, -1.0, 0.4, "tiny.yaml", "val", 64, 10, 5, 0.3, 0.1, 0.8)


def test_the_fit_finds_the_numbers_that_made_the_answers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(-2, 1.5, 20000)
    right = rng.random(len(x)) < 1 / (1 + np.exp(-(0.6 * x + 1.0)))
    assert fit_platt(x, right) == pytest.approx((0.6, 1.0), abs=0.06)
    assert fit_platt(1000 * x + 5e4, right)[0] == pytest.approx(0.0006, abs=0.00006)  # whatever the logits' scale


def test_calibration_lowers_the_error_of_overconfident_answers_and_keeps_their_order() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, 4000)
    right = rng.random(len(x)) < 1 / (1 + np.exp(-x))
    conf = 1 / (1 + np.exp(-(3 * x + 2)))
    true = rng.random(len(x)) < 0.8
    found = fit(conf, right & true, true, data="d.yaml", split="val", imgsz=320)
    assert found.ece_before > 0.2 and found.ece_after < 0.05
    assert ece(found(conf), right & true) == pytest.approx(found.ece_after)
    assert (found.true, found.false, found.data, found.imgsz) == (int(true.sum()), int((~true).sum()), "d.yaml", 320)
    assert (np.argsort(found(conf), kind="stable") == np.argsort(conf, kind="stable")).all()


def test_targets_are_platts() -> None:
    """With two different logits the fit meets the targets exactly: (3 + 1) / (3 + 2) and 1 / (5 + 2)."""
    a, b = fit_platt(np.array([1.0] * 3 + [-1.0] * 5), np.array([True] * 3 + [False] * 5))
    assert 1 / (1 + np.exp(-(a + b))) == pytest.approx(4 / 5) and 1 / (1 + np.exp(a - b)) == pytest.approx(1 / 7)


def test_separable_results_give_finite_numbers() -> None:
    conf, right = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    found = fit(conf, right, np.ones(4, bool))
    assert 0 < found.a < 100 and math.isfinite(found.b)
    assert found.f1 == pytest.approx(2 / 3) and (found(conf) >= found.threshold).tolist() == right.tolist()


@pytest.mark.parametrize(
    ("conf", "right", "says"),
    [
        ([0.2, 0.8], [False, False], "0 of 2 boxes are right"),
        ([0.2, 0.8], [True, True], "2 of 2 boxes are right"),
        ([0.2, 0.3, 0.8, 0.9], [True, True, False, False], "not more confident than wrong ones"),
        ([], [], "0 of 0"),
    ],
)
def test_answers_without_a_calibration(conf: list[float], right: list[bool], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        fit(np.array(conf), np.array(right), np.ones(len(conf), bool))


def test_threshold_of_the_highest_f1_by_hand() -> None:
    conf = np.array([0.9, 0.8, 0.6, 0.5, 0.3])
    right = np.array([True, True, False, True, False])
    # answers given: 1..5; right among them: 1 2 2 3 3; of 4 true expressions: F1 = 2/5 4/6 4/7 6/8 6/9
    threshold, f1 = best_threshold(conf, right, 4)
    assert f1 == pytest.approx(0.75) and threshold == pytest.approx(0.4)
    # equal confidences are answered together: no threshold lies between the first two
    threshold, f1 = best_threshold(np.array([0.7, 0.7, 0.2]), np.array([True, False, False]), 1)
    assert f1 == pytest.approx(2 / 3) and 0.2 < threshold < 0.7


def test_error_and_area_by_hand() -> None:
    assert ece(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])) == pytest.approx(0.25)
    assert ece(np.array([1.0, 0.0]), np.array([True, False])) == 0 and math.isnan(ece(np.empty(0), np.empty(0)))
    assert roc_auc(np.array([0.9, 0.5]), np.array([0.1, 0.5])) == pytest.approx(0.875)  # one tie of four pairs
    assert roc_auc(np.array([0.2]), np.array([0.3, 0.4])) == 0 and math.isnan(roc_auc(np.array([1.0]), np.empty(0)))
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = network().eval()
    return save_shared(model, tmp_path_factory.mktemp("weights") / "optisar-test.safetensors", {"note": "kept"})


def test_files_carry_it(shared: Path, tmp_path: Path) -> None:
    bare = load_model(shared)
    assert calibration_of(bare) is None
    path = store_calibration(shared, tmp_path / "new.safetensors", KNOWN)
    model = load_model(path)
    assert calibration_of(model) == KNOWN and default_conf(model) == 0.4
    assert b'\\"note\\": \\"kept\\"' in path.read_bytes()[:20000]
    again = load_model(save_shared(model, tmp_path / "again.safetensors"))
    assert calibration_of(again) == KNOWN
    # a checkpoint in half precision keeps all that is in it
    pt = tmp_path / "best.pt"
    torch.save({"model": bare.half(), "ema": None, "train_args": {}, "epoch": -1, "exact": {"x": 1}}, pt)
    assert store_calibration(pt, pt, KNOWN) == pt
    content = torch.load(pt, weights_only=False)
    assert content["exact"] == {"x": 1} and next(content["model"].parameters()).dtype == torch.float16
    assert calibration_of(load_model(pt)) == KNOWN == calibration_of(OptiSAR(pt).model)
    assert calibration_of(load_model(store_calibration(pt, tmp_path / "pt.safetensors", KNOWN))) == KNOWN
    with pytest.raises(ValueError, match="cannot write new.safetensors as new.pt"):
        store_calibration(path, tmp_path / "new.pt", KNOWN)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.safetensors",
        "best.pt",
        "new.safetensors",
        "pt.safetensors",
    ]


def test_a_finished_checkpoint_keeps_it(tmp_path: Path) -> None:
    from optisar_yolo.engine.resume import strip_checkpoint

    model = network()
    attach(model, KNOWN)
    torch.save({"model": None, "ema": model, "train_args": {"imgsz": 64}, "optimizer": {}}, tmp_path / "best.pt")
    strip_checkpoint(tmp_path / "best.pt")
    assert calibration_of(load_model(tmp_path / "best.pt")) == KNOWN


def test_an_export_carries_it(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    for known in (None, KNOWN):
        path = shared if known is None else store_calibration(shared, tmp_path / "c.safetensors", known)
        assert calibration_of(ExportedModel(OptiSAR(path).export(imgsz=64))) == known


@pytest.mark.parametrize("bad", [{"a": 1.0}, {"a": -1.0, "b": 0.0, "threshold": 0.5}, "yes", {"a": 1, "b": "x"}, []])
def test_unusable_values(bad: object) -> None:
    with pytest.raises(CalibrationError, match="unusable calibration"):
        Calibration.from_dict(bad)


def test_unusable_metadata(shared: Path, tmp_path: Path) -> None:
    path = save_shared(load_model(shared), tmp_path / "bad.safetensors", {"calibration": {"a": 1.0}})
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: unusable calibration"):
        load_model(path)


def test_metadata_of_a_later_version_and_without_figures() -> None:
    values = {**KNOWN.to_dict(), "later": 1}
    assert Calibration.from_dict(json.loads(json.dumps(values))) == KNOWN
    bare = Calibration(1.0, 0.0, 0.5)
    assert "nan" not in json.dumps(bare.to_dict()).lower()
    assert Calibration.from_dict(bare.to_dict()).a == 1  # type: ignore[union-attr]


IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def test_predict_uses_threshold_and_shows_calibrated_confidence(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    model.overrides |= {"imgsz": 64, "save": False, "verbose": False}
    raw = model.predict(IMAGE, text="the ship", conf=0.0)[0].boxes
    value = float(raw.conf[0])
    for text, conf in (("the ship", 1e-6), ("the ship", None)):
        kept = model.predict(IMAGE, text=text, conf=conf)[0].boxes
        assert len(kept) == int(value >= (0.05 if conf is None else conf))  # as before calibration
    b = float(1.0 - logit(np.array(value)))  # calibrated: sigmoid(1) = 0.731
    for threshold, count in ((0.7, 1), (0.75, 0)):
        attach(model.model, Calibration(1.0, b, threshold))
        model.predictor = None  # as `calibrate` does: it holds a copy of the network
        LOGGER.addHandler(caplog.handler)
        try:
            (result,) = model.predict(IMAGE, text="the ship", verbose=True)
        finally:
            LOGGER.removeHandler(caplog.handler)
        assert len(result.boxes) == count == len(model.encode(IMAGE).ground("the ship").boxes)
        assert model.predict(IMAGE, text="the ship", conf=0.74)[0].boxes.shape[0] == 0  # the user's wins
        (given,) = model.predict(IMAGE, text="the ship", conf=0.1)
        assert float(given.boxes.conf[0]) == pytest.approx(0.731, abs=1e-3)
        torch.testing.assert_close(given.boxes.xyxy, raw.xyxy)
        assert len(model.encode(IMAGE).ground("the ship", conf=0.74).boxes) == 0
    assert 'nothing found for "the ship" in image0.jpg: best confidence 0.731, below conf=0.75' in caplog.text
    three = model.predict(IMAGE, text="the ship", conf=0.0, topk=3)[0].boxes.conf
    assert (three.diff() <= 0).all()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["split=val"], "needs data="), (["data=x.yaml", "imgsz=big"], "imgsz=big: it must be a whole number")],
)
def test_command_line(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert cli(["calibrate", *words]) == 2
    assert says in capsys.readouterr().err


def test_setting_is_true_or_false() -> None:
    check({"sensitivity": True})
    with pytest.raises(SettingError, match="'sensitivity=1' is not valid: it must be True or False"):
        check({"sensitivity": 1})


def test_a_calibration_that_did_not_help_says_so():
    about = {"data": "a.yaml", "split": "val", "true": 35, "false": 28, "f1": 0.7}
    rough = str(Calibration(1.0, 0.0, 0.4, ece_before=0.089, ece_after=0.111, **about))
    assert rough.endswith("; rough: the error did not fall on so few expressions")
    assert "rough" not in str(Calibration(1.0, 0.0, 0.4, ece_before=0.2, ece_after=0.05, **about))
