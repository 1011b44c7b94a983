"""Sensitivity to the expression: the probes, how they are compared, and models whose figures are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_net import WIDTH, network, settle, unit
from torch import Tensor

from optisar_yolo import OptiSAR
from optisar_yolo.data.records import ImageRecord
from optisar_yolo.engine import val
from optisar_yolo.engine.calibrate import Calibration, attach, calibration_of
from optisar_yolo.engine.checkpoint import load_model
from optisar_yolo.engine.metrics import score_image
from optisar_yolo.engine.sensitivity import (
    MIRROR,
    ProbeResult,
    SensitivityProbe,
    SensitivityScores,
    flat,
    margin,
    probe_expressions,
    run_probes,
    table,
)
from optisar_yolo.engine.val import GroundingValidator
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.nn.model import Encoded
from optisar_yolo.plugin.patch import config_keys

SIDE = 96  # of the hand-made image and its canvas
SHIPS = np.array([[4, 4, 28, 28], [68, 4, 92, 28]], np.float32)  # in the upper corners
CAPTIONS = (("The SAR ship in the upper left corner of the image",), ("The SAR ship in the upper right corner",))
NAMES = ("optical ship", "sar ship")


def scene(boxes: np.ndarray = SHIPS) -> LabelledObjects:
    return LabelledObjects(boxes, ["sar ship"] * len(boxes), (SIDE, SIDE))


# the probes


def test_probes_are_proven_false_and_of_each_kind() -> None:
    ships = scene()
    probes = probe_expressions(CAPTIONS[0][0], 0, ships, "key")
    for q in probes:
        assert q.false_of_object <= (ships.truth(q.text, 0) is False) and q.false_of_all <= ships.false_of_all(q.text)
        assert q.false_of_all or q.false_of_object or q.kind == MIRROR
    assert (
        {q.kind for q in probes if q.false_of_object}
        == {"orientation", "modality"}
        == {q.kind for q in probes if q.false_of_all}
    )
    assert [q.fit for q in probes].count(True) == 1 and next(q for q in probes if q.fit).false_of_all
    mirrored = [q.text for q in probes if q.kind == MIRROR]
    assert mirrored == [CAPTIONS[0][0].replace("left", "right"), CAPTIONS[0][0].replace("upper", "lower")]
    assert probes == probe_expressions(CAPTIONS[0][0], 0, ships, "key")
    drawn = {
        tuple(q.text for q in probe_expressions(CAPTIONS[0][0], 0, ships, str(i)) if q.false_of_object)
        for i in range(20)
    }
    assert len(drawn) > 3


def test_a_swap_that_is_true_of_another_object_is_asked_at_the_box_but_is_not_absent() -> None:
    right = CAPTIONS[0][0].replace("left", "right")
    found = {q.text: q for i in range(60) for q in probe_expressions(CAPTIONS[0][0], 0, scene(), str(i))}
    assert found[right].kind == MIRROR or found[right].false_of_object and not found[right].false_of_all
    kept = [q for i in range(60) for q in probe_expressions(CAPTIONS[0][0], 0, scene(), str(i)) if q.kind != MIRROR]
    assert right in {q.text for q in kept} and not any(q.false_of_all for q in kept if q.text == right)
    # what an image says of one of its objects is never false, even where the boxes seem to say so
    kept = [q for i in range(60) for q in probe_expressions(CAPTIONS[0][0], 0, scene(), str(i), own=[right])]
    assert right not in {q.text for q in kept if q.kind != MIRROR}


def test_no_probe_where_nothing_is_proven() -> None:
    assert probe_expressions("The old ship", 0, scene(), "k") == []
    colours = probe_expressions("The red ship", 0, scene(), "k")  # what is red is not blue; another ship may be
    assert [(q.kind, q.false_of_object, q.false_of_all) for q in colours] == [("colour", True, False)]
    assert probe_expressions("The SAR ship", 0, scene(SHIPS[:1]), "k")[0].kind == "modality"
    wrong = "The SAR ship in the lower right corner"  # the boxes contradict it: its swaps prove nothing
    assert {q.kind for q in probe_expressions(wrong, 0, scene(), "k")} == {MIRROR}


def reading(logits: list[float], near: list[bool], inside: list[bool]) -> ProbeResult:
    return ProbeResult(np.zeros(4), 0.5, torch.tensor(logits), torch.tensor(near), torch.tensor(inside))


def test_both_expressions_are_scored_at_the_same_anchors() -> None:
    inside = [False, False, True]
    # anchor 0 fits under the true wording alone, anchor 1 under the false one: both count for both
    true = reading([2.0, 1.0, 9.0], [True, False, False], inside)
    assert margin(true, reading([0.0, 3.0, 9.0], [False, True, False], inside)) == -1.0
    assert margin(true, reading([0.0, 3.0, 9.0], [False, False, False], inside)) == 2.0
    # no box fits under either: the centres in the true box
    nowhere = [False] * 3
    assert margin(reading([2.0, 1.0, 9.0], nowhere, inside), reading([9.0, 9.0, 8.5], nowhere, inside)) == 0.5
    assert math.isnan(margin(true, ProbeResult(np.zeros(4), 0.5)))


def test_readings_are_the_networks_scores_in_the_order_of_its_anchors() -> None:
    torch.manual_seed(0)
    model = settle(network())
    encoded, texts = model.encode(torch.rand(2, 3, 64, 96)), unit(18, WIDTH)
    rows = torch.arange(18) % 2
    with torch.inference_mode():
        plain = run_probes(model, encoded, rows, texts, None)
        targets = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(18, 1)
        targets[17] = torch.as_tensor(plain[17].box)
        full = run_probes(model, encoded, rows, texts, targets)
        preds = model.match(encoded.rows(rows[17:]), texts[17:])
    assert len(full) == len(plain) == 18
    for a, b in zip(plain, full, strict=True):
        np.testing.assert_allclose(a.box, b.box, rtol=1e-4, atol=1e-3)
        assert a.conf == pytest.approx(b.conf, rel=1e-4) and a.logits is None
    last = full[17]
    torch.testing.assert_close(last.logits, preds["scores"][0, 0], rtol=1e-4, atol=1e-4)
    assert last.near[last.logits.argmax()]  # the best anchor's box is the target itself
    assert full[0].inside.sum() == 1 and full[0].inside[0]  # no centre in a box that small: the nearest


def test_figures_by_hand_with_ties_counted_half() -> None:
    scores = SensitivityScores()
    first = scores.add(np.array([0.9, 0.6]), np.array([True, True]), np.array([True, False]))
    second = scores.add(np.array([0.2]), np.array([False]), np.array([True]))
    assert (first, second) == (0, 2)
    scores.pair(0, "orientation", 1.0, 0.7, True)
    scores.pair(0, "modality", 0.0, 0.1, False)  # a tie
    scores.pair(1, "orientation", -1.0, math.nan, False)  # true of another object: not to be rejected
    scores.pair(2, "orientation", math.nan, 0.4, True)  # not compared at the box
    scores.mirror(0, 0.3)
    scores.mirror(0, 0.0)
    scores.mirror(2, -0.2)
    figures = scores.figures(0.5)
    orientation, modality, everything = figures["rows"]
    assert [r["kind"] for r in figures["rows"]] == ["orientation", "modality", "all"]
    assert (orientation["discrimination"], orientation["discrimination_hard"]) == (0.5, 1.0)
    assert (modality["discrimination"], modality["false"]) == (0.5, 1)
    assert (everything["pairs"], everything["pairs_hard"], everything["false"]) == (3, 2, 3)
    assert everything["discrimination"] == 0.5 and everything["discrimination_hard"] == 0.75
    assert everything["false_alarm"] == pytest.approx(1 / 3)  # 0.7, 0.1, 0.4
    assert everything["found"] == 0.5  # of expressions 0 and 2; 1 has no absent expression
    assert everything["auc"] == pytest.approx(4 / 6)  # 0.9 beats all three, 0.2 one
    assert (figures["listening"], figures["listening_count"]) == (pytest.approx((0.75 + 0) / 2), 2)
    conf, right, true = scores.observations()
    assert conf.tolist() == [0.9, 0.6, 0.2, 0.7, 0.4] and true.tolist() == [True] * 3 + [False] * 2
    assert right.tolist() == [True, True, False, False, False]
    named = flat(figures)
    assert named["metrics/discrimination(modality)"] == 0.5 and named["metrics/listening(hard)"] == 0.375
    shown = table(figures)
    assert shown.splitlines()[1].split() == ["orientation", "50.00", "100.00", "2", "50.00", "50.00", "50.00", "2"]
    assert "ece" not in figures and figures["ece_raw"] > 0
    # calibrated: the threshold is one of calibrated confidences, the order is what it was
    after = scores.figures(0.5, Calibration(1.0, -3.0, 0.5))
    assert after["rows"][-1]["false_alarm"] == 0 and after["rows"][-1]["auc"] == everything["auc"]
    assert "ece" in after


def test_figures_without_expressions() -> None:
    figures = SensitivityScores().figures(0.05)
    assert math.isnan(figures["listening"]) and figures["rows"][0]["pairs"] == 0 and "-" in table(figures)


# models whose figures are known


class FakeHead:
    """Two anchors, one on each ship, whose boxes are exact."""

    stride = torch.tensor([SIDE / 2.0])

    def decode(self, preds: dict[str, Any], k: int = 1) -> tuple[Tensor, Tensor]:
        best, index = preds["scores"].topk(k, dim=2)
        return self.boxes_at({}, index), best.sigmoid()

    def boxes_at(self, _preds: dict[str, Any], index: Tensor) -> Tensor:
        return torch.from_numpy(SHIPS)[index]


class FakeModel:
    """Answers by the words themselves: texts are numbers of expressions in `said`."""

    head = FakeHead()
    guided = (0,)

    def __init__(self, said: list[str], hears: bool) -> None:
        self.said, self.hears = said, hears

    def match(self, encoded: Encoded, text: Tensor) -> dict[str, Any]:
        logits = []
        for number in text[:, 0].long().tolist():
            caption = self.said[number]
            score = [3.0 if "left" in caption else -3.0, 3.0 if "right" in caption else -3.0] if self.hears else [1, 0]
            wrong = self.hears and ("optical" in caption or "lower" in caption or "middle" in caption)
            logits.append([s - 9.0 * wrong for s in score])
        return {
            "boxes": None,
            "scores": torch.tensor(logits).float()[:, None],
            "feats": [torch.zeros(len(text), 1, 1, 2)],
        }


def run_fake(hears: bool) -> SensitivityScores:
    said: list[str] = []

    def features(texts: list[str]) -> Tensor:
        said.extend(texts)
        return torch.arange(len(said) - len(texts), len(said)).float()[:, None]

    text_features: Any = features
    model: Any = FakeModel(said, hears)
    probe = SensitivityProbe(model, text_features, NAMES, torch.device("cpu"))
    image = ImageRecord(
        Path("sar_1.jpg"), SIDE, SIDE, "sar", SHIPS, np.array([1, 1]), CAPTIONS, (("position",), ("position",))
    )
    encoded: Any = SimpleNamespace(rows=lambda index: None)
    iou = np.array([1.0, 1.0]) if hears else np.array([1.0, 0.0])
    conf = np.full(2, 0.95 if hears else 0.73)
    probe(encoded, 0, image, [(0, 0), (1, 0)], conf, iou, np.array([0.0, 0.0, 1.0, 1.0], np.float32), (SIDE, SIDE))
    return probe.scores


def test_a_model_that_hears_is_told_from_one_that_does_not() -> None:
    heard, deaf = run_fake(True).figures(0.5), run_fake(False).figures(0.5)
    assert heard["rows"][-1]["pairs"] == deaf["rows"][-1]["pairs"] >= 4
    assert (heard["rows"][-1]["discrimination"], heard["rows"][-1]["discrimination_hard"]) == (1, 1)
    assert (deaf["rows"][-1]["discrimination"], deaf["rows"][-1]["discrimination_hard"]) == (0.5, 0.5)
    assert (heard["rows"][-1]["false_alarm"], heard["rows"][-1]["found"], heard["rows"][-1]["auc"]) == (0, 1, 1)
    assert (deaf["rows"][-1]["false_alarm"], deaf["rows"][-1]["found"]) == (1, 0.5)
    # left for right finds the other ship: a win; upper for lower lowers the score and moves no box: a tie
    assert heard["listening"] == 0.75 and deaf["listening"] == 0.5 and heard["listening_count"] == 2


# through validation


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    """Random weights in the packaged encoder's width, whose answers depend on image and expression."""
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    with torch.no_grad():
        model.model.head.cv4[0].norm.weight.mul_(4)
    return model


def settings(tiny: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"data": str(tiny), "split": "test", "imgsz": 64, "plots": False, "project": str(tmp_path), **more}


def test_validation_reports_and_grounding_figures_do_not_change(model: OptiSAR, tiny: Path, tmp_path: Path) -> None:
    attach(model.model, None)
    plain = model.val(**settings(tiny, tmp_path))
    asked = model.val(**settings(tiny, tmp_path, sensitivity=True, name="asked"))
    raw = asked.column("conf").astype(float)
    assert not plain.extra and "metrics/listening(hard)" not in plain.results_dict
    known = Calibration(0.5, 0.25, 0.6, "tiny.yaml", "val")
    attach(model.model, known)
    after = model.val(**settings(tiny, tmp_path, sensitivity=True, name="after"))
    for metrics in (asked, after):
        for name, value in plain.results_dict.items():
            assert metrics.results_dict[name] == pytest.approx(value, nan_ok=True), name
    np.testing.assert_allclose(after.column("conf").astype(float), known(raw), rtol=1e-4)
    record = json.loads((tmp_path / "after" / "metrics.json").read_text())
    assert record["calibration"] == known.to_dict() and record["sensitivity"]["threshold"] == 0.6
    assert json.loads((tmp_path / "asked" / "metrics.json").read_text())["sensitivity"]["threshold"] == 0.05
    given = model.val(**settings(tiny, tmp_path, sensitivity=True, conf=0.3, name="given"))
    assert given.sections["sensitivity"]["threshold"] == 0.3
    rows = record["sensitivity"]["rows"]
    assert {"orientation", "modality", "all"} <= {r["kind"] for r in rows} and rows[-1]["pairs"] > 8
    assert asked.extra["metrics/auc(all)"] == pytest.approx(after.extra["metrics/auc(all)"])
    attach(model.model, None)


def test_calibrating_is_the_fit_on_the_results_of_validation(
    model: OptiSAR, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes of random weights are rarely right: some are declared right, so that there is something to fit."""

    def generous(*args: Any) -> Any:
        return [case._replace(iou=1.0) if case.conf > 0.3 else case for case in score_image(*args)]

    monkeypatch.setattr(val, "score_image", generous)
    args = settings(tiny, tmp_path, name="fit", mode="val")
    found = []
    for more in ({}, {"sensitivity": True}):
        with config_keys():
            validator = GroundingValidator(args={**args, **more})
        validator.fit = True
        validator(model=model.model)
        assert validator.probe is not None
        conf, right, true = validator.probe.scores.observations()
        assert true.sum() == len(validator.cases) and 0 < (~true).sum() <= true.sum() and not right[~true].any()
        found.append((conf, right, validator.calibration, validator.problem))
    np.testing.assert_allclose(
        found[0][0], found[1][0], rtol=1e-4
    )  # the same expressions, whether all are asked or few
    assert (found[0][1] == found[1][1]).all() and (found[0][2] is None) == bool(found[0][3])


def test_api_calibrates_and_writes(model: OptiSAR, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    model.save_shared(path)
    opened = OptiSAR(path)
    opened.predictor = "with a copy of the network"
    result = Calibration(0.5, 0.25, 0.6, "tiny.yaml", "test")
    monkeypatch.setattr(SensitivityScores, "fit", lambda self, **about: result)
    assert opened.calibrate(tiny, "test", save=path, imgsz=64, project=str(tmp_path)) == result
    assert opened.predictor is None
    for stored in (calibration_of(opened.model), calibration_of(load_model(path))):
        assert stored is not None and stored.to_dict() == result.to_dict()  # figures that were not measured are NaN
    with pytest.raises(ValueError, match="opened from a weights file"):
        model.calibrate(tiny, "test", save=path)


def test_answers_without_a_right_one_are_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    untrained = OptiSAR("optisar++n.yaml")
    with pytest.raises(ValueError, match=r"tiny\.yaml test: 0 of .* boxes are right"):
        untrained.calibrate(tiny, "test", imgsz=64, project=str(tmp_path))
    assert calibration_of(untrained.model) is None


def test_another_rank_side_and_shade_are_further_rows() -> None:
    ships = scene()
    for text, kind in (
        ("the second ship from the left", "ordinal"),
        ("the ship to the left of the old pier", "landmark"),
        ("the dark ship on the left", "shade"),
    ):
        own = next(i for i in range(len(ships)) if ships.truth(text, i) is not False)
        found = [q for q in probe_expressions(text, own, ships, "key") if q.kind == kind]
        assert len(found) == 1 and found[0].false_of_object and not found[0].fit, text
        assert ships.truth(found[0].text, own) is not True
    # a caption of the image is true, and so is what the boxes prove
    own = ["the first ship from the left", "the third ship from the left"]
    assert not [
        q for q in probe_expressions("the second ship from the left", 0, ships, "key", own) if q.kind == "ordinal"
    ]
    scores = SensitivityScores()
    first = scores.add(np.array([0.5]), np.array([True]), np.array([True]))
    scores.pair(first, "landmark", 0.4, math.nan, False)
    assert [row["kind"] for row in scores.figures(0.5)["rows"]] == ["landmark", "all"]


def test_contrasts_leave_the_other_draws_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from optisar_yolo.engine import sensitivity

    text = "The second SAR ship from the left in the upper left corner of the image"
    with_them = probe_expressions(text, 0, scene(), "key")
    monkeypatch.setattr(sensitivity, "_contrasts", lambda *_: [])
    without = probe_expressions(text, 0, scene(), "key")
    assert without and [q for q in with_them if q.kind != "ordinal"] == without != with_them
