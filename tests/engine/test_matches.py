"""All boxes of an expression against all objects that it means: figures by hand, calibration, validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny import make
from tiny_net import network

from optisar_yolo import OptiSAR
from optisar_yolo.data.records import ImageRecord
from optisar_yolo.engine.calibrate import (
    MATCH_ATTRIBUTE,
    Calibration,
    CalibrationError,
    attach,
    calibration_of,
    default_conf,
    default_match_conf,
    match_calibration_of,
)
from optisar_yolo.engine.checkpoint import load_model, save_shared, store_calibration
from optisar_yolo.engine.matches import (
    ABSENT,
    CATEGORY,
    SET,
    MatchExpression,
    MatchScores,
    flat_matches,
    match_expressions,
    match_table,
)
from optisar_yolo.engine.sensitivity import SensitivityScores
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.language.nouns import Vocabulary

NAMES = ("optical ship", "optical harbor", "optical boat", "sar ship")
BOXES = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)


def image(categories: list[int], captions: list[tuple[str, ...]] | None = None, **more: object) -> ImageRecord:
    n = len(categories)
    texts = tuple(captions or [()] * n)
    values = {"path": Path("opt_1.jpg"), "width": 60, "height": 40, "modality": "optical"} | more
    return ImageRecord(
        boxes=BOXES[:n],
        categories=np.array(categories, np.int64),
        captions=texts,
        **values,  # type: ignore[arg-type]
    )


def test_categories_sets_and_absent_ones() -> None:
    both = ("The two ships on the left",)
    made = match_expressions(image([0, 0, 1], [(*both, "The left ship"), both, ("The harbor",)]), NAMES[:2])
    assert [(m.text, m.kind, m.truth.tolist()) for m in made] == [
        ("a ship", CATEGORY, [1, 1, 0]),
        ("a harbor", CATEGORY, [0, 0, 1]),
        (both[0], SET, [1, 1, 0]),
    ]
    (ship, harbor) = match_expressions(image([0]), NAMES[:2])
    assert (ship.text, harbor.text, harbor.kind, harbor.truth.tolist()) == ("a ship", "a harbor", ABSENT, [0])
    assert [m.text for m in match_expressions(image([0]), ("optical ship", "sar airplane"))] == ["a ship"]


def test_a_caption_of_several_objects_that_means_one_is_no_set() -> None:
    made = match_expressions(image([0, 0, 0], [("The grey ship",), ("The grey ship",), ()]), NAMES[:1])
    assert [m.truth.tolist() for m in made if m.kind == SET] == [[1, 1, -1]]
    made = match_expressions(image([0, 0, 0], [("The grey ships",), ("The grey ships",), ()]), NAMES[:1])
    assert [m.truth.tolist() for m in made if m.kind == SET] == [[1, 1, 0]]


def test_a_category_that_may_mean_another_object_is_left_open() -> None:
    made = match_expressions(image([0, 2, 1]), NAMES[:3])
    assert [(m.text, m.truth.tolist()) for m in made] == [
        ("a ship", [1, -1, 0]), ("a boat", [-1, 1, 0]), ("a harbor", [0, 0, 1])
    ]  # fmt: skip
    # a boat in view leaves no room for "a ship" as an absent one
    assert [m.kind for m in match_expressions(image([2]), NAMES[:3]) if m.text == "a ship"] == []
    vocabulary = Vocabulary.of(("optical bus", "optical vehicle"), parents={"bus": "vehicle"})
    made = match_expressions(image([0, 1]), ("optical bus", "optical vehicle"), vocabulary)
    assert [(m.text, m.truth.tolist()) for m in made] == [("a bus", [1, -1]), ("a vehicle", [1, 1])]


def test_an_object_without_a_box_excludes_what_may_mean_it() -> None:
    made = match_expressions(image([0, 1], unlisted=("optical ship",)), NAMES[:2])
    assert [m.text for m in made] == ["a harbor"]
    assert match_expressions(image([0], unlisted=("",)), NAMES[:2]) == []


def scores() -> MatchScores:
    """Two expressions: three ships, of which two are found, one twice; and an absent one with a box."""
    found = MatchScores()
    ships = MatchExpression("a ship", CATEGORY, "optical ship", np.array([1, 1, 1], np.int8))
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 20, 9, 30]], np.float32)
    found.add(ships, "optical", BOXES, boxes, np.array([0.9, 0.6, 0.8, 0.2]))
    absent = MatchExpression("a harbor", ABSENT, "optical harbor", np.zeros(3, np.int8))
    found.add(absent, "optical", BOXES, boxes[:1], np.array([0.5]))
    return found


def test_figures_by_hand() -> None:
    figures = scores().figures(0.55)
    row = next(r for r in figures["rows"] if r["group"] == "all")
    assert (row["expressions"], row["objects"], row["boxes"]) == (1, 3, 3)
    assert row["recall"] == pytest.approx(2 / 3) and row["precision"] == pytest.approx(2 / 3)
    assert row["count_error"] == 0  # three boxes for three ships, one of them a duplicate
    # precision 1 up to recall 2/3, then nothing: 67 of COCO's 101 recall points
    assert row["AP50"] == pytest.approx(67 / 101) and row["AP50-95"] == pytest.approx(67 / 101)
    assert figures["absent"] == 0 and figures["absent_count"] == 1
    assert scores().figures(0.4)["absent"] == 1
    assert next(r for r in scores().figures(0.95)["rows"] if r["group"] == "all")["count_error"] == 3
    assert [r["group"] for r in figures["rows"]] == ["optical", "all", "optical ship"]
    assert flat_matches(figures)["metrics/recall(all)"] == pytest.approx(2 / 3)
    assert "metrics/recall(optical ship)" not in flat_matches(figures)
    assert "66.67" in match_table(figures) and "AP50-95" in match_table(figures)


def test_boxes_on_open_objects_do_not_count() -> None:
    found = MatchScores()
    truth = MatchExpression("a ship", CATEGORY, "optical ship", np.array([1, -1, 0], np.int8))
    found.add(truth, "optical", BOXES, BOXES, np.array([0.7, 0.9, 0.8]))
    row = next(r for r in found.figures(0.1)["rows"] if r["group"] == "all")
    # the box on the open object is neither right nor wrong; that on the harbor is wrong
    assert (row["recall"], row["precision"], row["objects"], row["boxes"]) == (1, 0.5, 1, 2)
    assert row["count_error"] == 1 and row["AP50"] == pytest.approx(0.5)


def test_parts_of_a_parallel_validation_give_the_same_figures() -> None:
    whole, first, second = scores(), MatchScores(), MatchScores()
    first.results, second.results = whole.results[:1], whole.results[1:]
    first.compare()
    first.merge(second)
    assert first.figures(0.55) == whole.figures(0.55)


def test_an_expression_without_a_box_and_a_split_without_objects() -> None:
    found = MatchScores()
    nothing = np.zeros((0, 4), np.float32)
    truth = MatchExpression("a ship", CATEGORY, "optical ship", np.ones(2, np.int8))
    found.add(truth, "optical", BOXES[:2], nothing, np.zeros(0))
    row = next(r for r in found.figures(0.5)["rows"] if r["group"] == "all")
    assert (row["AP50"], row["recall"], row["count_error"]) == (0, 0, 2) and np.isnan(row["precision"])
    empty = MatchScores().figures(0.5)
    assert np.isnan(empty["rows"][0]["AP50"]) and "-" in match_table(empty)


def test_the_calibration_counts_every_box() -> None:
    found = scores().fit(data="d.yaml", split="val", imgsz=64)
    assert (found.true, found.false) == (1, 1) and found.a > 0
    # boxes .9 and .8 are right, .6, .5 and .2 wrong, of three ships: F1 = 2 * 2 / (2 + 3)
    assert found.f1 == pytest.approx(0.8)
    assert (found(np.array([0.9, 0.8, 0.6])) >= found.threshold).tolist() == [True, True, False]
    with pytest.raises(CalibrationError, match="no expression means several"):
        MatchScores().fit()


def test_the_boxes_of_one_expression_are_too_few() -> None:
    alone = MatchScores()
    alone.add(
        MatchExpression("a ship", CATEGORY, "optical ship", np.ones(2, np.int8)),
        "optical", BOXES[:2], np.concatenate([BOXES[:1], BOXES[2:]]), np.array([0.9, 0.1]),
    )  # fmt: skip
    with pytest.raises(CalibrationError, match="one expression alone"):
        alone.fit()


KNOWN, MATCHES = Calibration(2.0, -1.0, 0.4, "tiny.yaml"), Calibration(1.5, 0.5, 0.3, "tiny.yaml")


def test_files_carry_both_calibrations(tmp_path: Path) -> None:
    model = network().eval()
    assert match_calibration_of(model) is None and default_match_conf(model) == default_conf(model)
    attach(model, KNOWN)
    assert match_calibration_of(model) == KNOWN and default_match_conf(model) == 0.4  # for want of its own
    shared = save_shared(model, tmp_path / "a.safetensors")
    both = load_model(store_calibration(shared, tmp_path / "b.safetensors", KNOWN, MATCHES))
    assert calibration_of(both) == KNOWN and match_calibration_of(both) == MATCHES and default_match_conf(both) == 0.3
    assert match_calibration_of(load_model(save_shared(both, tmp_path / "c.safetensors"))) == MATCHES
    # a new calibration of best boxes leaves the other one, which is of raw confidences
    again = load_model(store_calibration(tmp_path / "b.safetensors", tmp_path / "b.safetensors", MATCHES))
    assert calibration_of(again) == MATCHES == match_calibration_of(again)
    pt = tmp_path / "best.pt"
    torch.save({"model": model, "ema": None, "train_args": {}, "epoch": -1}, pt)
    assert match_calibration_of(load_model(store_calibration(pt, pt, KNOWN, MATCHES))) == MATCHES


def test_an_export_carries_both(tmp_path: Path) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = network().eval()
    attach(model, KNOWN)
    attach(model, MATCHES, MATCH_ATTRIBUTE)
    export = ExportedModel(OptiSAR(save_shared(model, tmp_path / "a.safetensors")).export(imgsz=64))
    assert calibration_of(export) == KNOWN and match_calibration_of(export) == MATCHES


def test_validation_measures_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = make(tmp_path / "tiny")
    model = OptiSAR("optisar++n.yaml")
    args = {"data": data, "split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False, "device": "cpu"}
    plain = model.val(**args)
    assert "matches" not in plain.sections and "AP50" not in plain.table() and "AP50" not in plain.to_csv()
    metrics = model.val(matches=True, **args)
    assert metrics.results_dict["metrics/AP50(all)"] == metrics.sections["matches"]["rows"][2]["AP50"]
    assert [r["group"] for r in metrics.sections["matches"]["rows"][:3]] == ["optical", "SAR", "all"]
    # all labelled boxes count, also those without an expression: 3 and 4 in half of the images
    assert metrics.sections["matches"]["rows"][2]["objects"] == 2 + 3 + 4 + 2
    assert "AP50-95" in metrics.table() and "matches,SAR" in metrics.to_csv()
    assert json.loads(metrics.to_json())["matches"]["rule"]
    assert metrics.figures() == plain.figures()  # nothing else changes


def test_no_calibration_of_all_boxes_where_best_boxes_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> Calibration:
        raise CalibrationError("1 of 1 boxes are right: no calibration can be fitted")

    monkeypatch.setattr(SensitivityScores, "fit", refuse)
    monkeypatch.setattr(MatchScores, "fit", lambda *_, **__: MATCHES)
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    attach(model.model, KNOWN)  # an earlier one is not taken for that of this split either
    args = {"split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False, "device": "cpu", "matches": True}
    with pytest.raises(CalibrationError, match="1 of 1 boxes are right"):
        model.calibrate(make(tmp_path / "tiny"), **args)
    said = [r.getMessage().removeprefix("WARNING ⚠️ ") for r in log.records]
    assert [line for line in said if "boxes are right" in line] == [
        "1 of 1 boxes are right: no calibration can be fitted",
        "all boxes of an expression: 1 of 1 boxes are right: no calibration can be fitted",
    ]
    assert not {"calibration", MATCH_ATTRIBUTE} & set(model.metrics.sections)
    assert match_calibration_of(model.model) == KNOWN


def test_an_image_without_expressions_counts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = make(tmp_path / "tiny")
    file = tmp_path / "tiny" / "test.json"
    content = json.loads(file.read_text())
    for note in content["annotations"]:
        if note["image_id"] != 0:
            del note["caption"]
    file.write_text(json.dumps(content))
    model = OptiSAR("optisar++n.yaml")
    args = {"data": data, "split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False, "device": "cpu"}
    assert model.val(matches=True, **args).sections["matches"]["rows"][2]["objects"] == 2 + 3 + 4 + 2


def test_exports_say_that_they_cannot(tmp_path: Path) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    export = OptiSAR("optisar++n.yaml").export(imgsz=64)
    with pytest.raises(ValueError, match=r"matches=True: .*gives one box per expression"):
        OptiSAR(export).val(data=make(tmp_path / "tiny"), split="val", imgsz=64, matches=True, project=str(tmp_path))
