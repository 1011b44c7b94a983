"""Scoring a file of predictions: the table of `val`, figures by hand, and files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.data.config import DataError
from optisar_yolo.engine.val import SECTIONS
from optisar_yolo.evaluation.score import score_predictions
from optisar_yolo.utils.options import BUNDLED_MODEL


@pytest.fixture(scope="module")
def notes(tiny: Path) -> list[dict]:
    """The annotations of the tiny test split, with the file names of their images and their boxes as xyxy."""
    content = json.loads((tiny.parent / "test.json").read_text())
    files = {i["id"]: i["file_name"] for i in content["images"]}
    boxes = [(a, a["bbox"]) for a in content["annotations"]]
    return [a | {"image": files[a["image_id"]], "box": [x, y, x + w, y + h]} for a, (x, y, w, h) in boxes]


def write(path: Path, records: object) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def record(note: dict, **changes) -> dict:
    return {key: note[key] for key in ("image", "caption", "box")} | {"score": 0.5} | changes


@pytest.mark.parametrize("split", ["test", "val"])
def test_own_predictions_give_the_table_of_val(tiny: Path, tmp_path: Path, split):
    model = OptiSAR(BUNDLED_MODEL)
    metrics = model.val(
        data=str(tiny), split=split, imgsz=96, batch=3, plots=False, save_json=True, project=str(tmp_path), name="own"
    )
    found = score_predictions(tmp_path / "own" / "predictions.json", tiny, split)
    assert found.metrics.table(SECTIONS) == metrics.table(SECTIONS) and not found.problems and not found.absent
    assert len(found.metrics) == len(metrics) > 0 and metrics.fitness > 0
    for column in ("iou", "inter", "union", "conf"):  # in another order: val takes images of one size together
        assert sorted(found.metrics.column(column)) == sorted(metrics.column(column))
    for name, value in metrics.results_dict.items():
        assert found.metrics.results_dict[name] == pytest.approx(value, rel=1e-12, nan_ok=True)


def test_no_file_unless_it_is_asked_for(tiny: Path, tmp_path: Path):
    OptiSAR(BUNDLED_MODEL).val(
        data=str(tiny), split="val", imgsz=96, batch=2, plots=False, project=str(tmp_path), name="own"
    )
    assert {p.name for p in (tmp_path / "own").iterdir()} == {"metrics.json", "metrics.csv"}


@pytest.mark.parametrize("form", ["image", "id", "annotation", "wrapped"])
def test_every_way_to_name_an_expression(tiny: Path, tmp_path: Path, notes, form):
    records: object = [record(n) for n in notes]
    if form == "id":
        records = [{"image_id": n["image_id"], "caption": f" {n['caption']} ", "box": n["box"]} for n in notes]
    elif form == "annotation":
        records = [{"annotation_id": n["id"], "box": n["box"]} for n in notes]
    elif form == "wrapped":
        records = {"model": "any", "predictions": records}
    found = score_predictions(write(tmp_path / "p.json", records), tiny)
    assert found.metrics.fitness == pytest.approx(1, abs=1e-6) and not found.problems and not found.absent
    assert len(found.metrics) == len(notes) == len(found.cases)


def test_missing_answers_count_as_wrong(tiny: Path, tmp_path: Path, notes, capsys, log):
    x1, y1, x2, y2 = notes[0]["box"]
    half = record(notes[0], box=[x1, y1, x2, (y1 + y2) / 2])  # its upper half: IoU 1/2
    file = write(tmp_path / "p.json", [half, record(notes[1], box=None), *map(record, notes[3:])])
    found = score_predictions(file, tiny)
    all_ = found.metrics.groups()["all"]
    n = len(notes)
    assert (all_["count"], all_["missing"], found.absent) == (n, 2, 1)
    assert all_["Pr@0.5"] == pytest.approx((n - 2) / n) and all_["Pr@0.6"] == pytest.approx((n - 3) / n)
    assert all_["meanIoU"] == pytest.approx((n - 2.5) / n, abs=1e-6)
    words = [str(file), f"data={tiny}", f"project={tmp_path}", "name=scored", "plots=True"]
    assert main(["score", *words]) == 0
    assert f"2 of {n} expressions got no box and count as wrong; 1 of them are not in the file" in log.text
    assert found.metrics.table(SECTIONS) in log.text
    content = json.loads((tmp_path / "scored" / "metrics.json").read_text())
    assert content["predictions"] == {"file": "p.json", "unanswered": 1, "problems": []}
    assert {"metrics.csv", "cases.csv", "worst.png"} <= {p.name for p in (tmp_path / "scored").iterdir()}


def test_the_surest_of_several_boxes_counts(tiny: Path, tmp_path: Path, notes):
    wrong = [0, 0, 1, 1]
    base = [record(n) for n in notes[1:]]
    own = record(notes[0])

    def iou(*records: dict) -> float:
        found = score_predictions(write(tmp_path / "p.json", [*records, *base]), tiny)
        return next(c.iou for c in found.cases if c.caption == own["caption"] and c.path.name == own["image"])

    assert iou(own, own | {"box": wrong, "score": 0.4}) == pytest.approx(1)
    assert iou(own | {"box": wrong, "score": 0.4}, own) == pytest.approx(1)
    assert iou(own | {"score": -3}, own | {"box": wrong, "score": -2}) < 0.5  # logits are scores too
    assert iou(own | {"box": None, "score": 0.9}, own) == pytest.approx(1)  # a box is better than none
    found = score_predictions(write(tmp_path / "p.json", [own, own, own | {"box": wrong}, *base]), tiny)
    assert found.metrics.fitness == pytest.approx(1)
    text = "\n".join(found.problems)
    assert "1 x prediction repeated" in text and "1 x box of the same score as another one" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image": "other.jpg"}, "unknown image"), ({"image": 7}, "unknown image"),
        ({"caption": "The whale"}, "caption that the image does not have"), ({"caption": None}, "without a caption"),
        ({"box": [1, 2, 3]}, "not four finite numbers"), ({"box": [1, 2, 3, float("nan")]}, "not four finite numbers"),
        ({"box": "1 2 3 4"}, "not four finite numbers"), ({"box": [50, 50, 9, 9]}, "edge comes first"),
        ({"score": "high"}, "score that is no finite number"), ({"annotation_id": 999}, "unknown annotation_id"),
    ],
)  # fmt: skip
def test_bad_records_are_counted_and_their_expressions_wrong(tiny: Path, tmp_path: Path, notes, change, problem):
    records = [record(notes[0], **change), *map(record, notes[1:])]
    found = score_predictions(write(tmp_path / "p.json", records), tiny)
    assert len(found.problems) == 1 and problem in found.problems[0] and "predictions[0]" in found.problems[0]
    assert found.absent == 1 and found.metrics.groups()["all"]["missing"] == 1


def test_a_record_without_a_box_says_what_to_give(tiny: Path, tmp_path: Path, notes):
    bare = {"image": notes[0]["image"], "caption": notes[0]["caption"], "bbox": [1, 2, 3, 4]}
    found = score_predictions(write(tmp_path / "p.json", [bare, 5, *map(record, notes[1:])]), tiny)
    text = "\n".join(found.problems)
    assert "found 'bbox': give 'box'" in text and "record that is no JSON object" in text


def test_files_of_another_form(tiny: Path, tmp_path: Path, notes, capsys):
    shares = [record(n, box=[v / 100 for v in n["box"]]) for n in notes]
    far = [record(n, box=[90, 60, 8, 8]) for n in notes]
    for content, message in (
        (far, "x, y, width, height"), (shares, "shares of the image"), ({}, "expected a list"), ([], "is empty"),
        ([{"image": "a.jpg"}], "is it of this data set and split"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            score_predictions(write(tmp_path / "p.json", content), tiny)
    (tmp_path / "p.json").write_text("{")
    for words, status, message in (
        ([str(tmp_path / "p.json"), f"data={tiny}"], 1, "not valid JSON"),
        ([str(tmp_path / "none.json"), f"data={tiny}"], 1, "cannot be read"),
        ([str(tmp_path / "p.json")], 2, "needs data="),
        ([str(tmp_path / "p.json"), f"data={tiny}", "split=nowhere"], 1, "no split 'nowhere'"),
    ):
        assert main(["score", *words]) == status
        assert message in capsys.readouterr().err


def test_one_expression_for_two_objects(tmp_path: Path):
    """An annotation's id tells them apart; by words, the answer is one to both."""
    cv2.imwrite(str(tmp_path / "opt_1.png"), np.full((64, 96, 3), 90, np.uint8))
    boxes = ([5, 5, 20, 20], [60, 30, 20, 20])
    content = {
        "images": [{"id": 1, "file_name": "opt_1.png", "width": 96, "height": 64}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 0, "bbox": b, "caption": "The ship"} for i, b in enumerate(boxes)
        ],
        "categories": [{"id": 0, "name": "optical ship"}],
    }
    write(tmp_path / "test.json", content)
    dataset_config = tmp_path / "two.yaml"
    dataset_config.write_text("path: .\nimages: .\ntest: test.json\nnames: [optical ship]\n")
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    by_id = [{"annotation_id": i, "box": b, "score": 0.5} for i, b in enumerate(corners)]
    assert score_predictions(write(tmp_path / "p.json", by_id), dataset_config).metrics.fitness == pytest.approx(1)
    by_words = [{"image": "opt_1.png", "caption": "The ship", "box": corners[1], "score": 0.5}]
    found = score_predictions(write(tmp_path / "p.json", by_words), dataset_config)
    assert sorted(found.metrics.column("iou")) == pytest.approx([0, 1]) and not found.absent
