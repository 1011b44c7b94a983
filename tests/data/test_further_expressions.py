"""Further expression files of a dataset config: reading, what is missing, and the rows of a validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from make_tiny import make
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.data.sources import load_source


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A tiny data set with a source: four expressions of two kinds, and three that are false of their image."""
    data = make(tmp_path / "tiny")
    root = tmp_path / "tiny"
    content = json.loads((root / "test.json").read_text())
    content["annotations"] = content["annotations"][:4]
    for number, note in enumerate(content["annotations"]):
        note |= {"caption": f"bright thing number {number}", "kind": ("ordinal", "landmark")[number % 2]}
    (root / "free.json").write_text(json.dumps(content))
    absent = [
        {"file_name": content["images"][0]["file_name"], "caption": "a helicopter on the roof"},
        {"file_name": content["images"][3]["file_name"], "caption": "a red bus"},
        {"file_name": "gone.jpg", "caption": "a red bus"},
        {"file_name": content["images"][0]["file_name"]},
    ]
    (root / "absent.json").write_text(json.dumps(absent))
    change(data, {"natural": {"test": "free.json", "absent": {"test": "absent.json"}}})
    return data


def change(data: Path, sources: Any) -> None:
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump(content | {"expressions": sources}))


def test_reading(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_dataset_config(written)
    LOGGER.addHandler(caplog.handler)
    try:
        split = load_source(config, config.sources[0], "test")
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert split is not None and split.name == "natural"
    texts = [c for image in split.images for captions in image.captions for c in captions]
    assert texts == [f"bright thing number {n}" for n in range(4)]
    assert len(split.images[0].boxes) == 2  # label files count, too
    absent = {image.path.name: texts for image, texts in zip(split.images, split.absent, strict=True) if texts}
    assert sorted(sum(absent.values(), [])) == ["a helicopter on the roof", "a red bus"]
    assert "image file missing" in caplog.text and "record without file_name and caption ([3])" in caplog.text
    assert load_source(config, config.sources[0], "val") is None  # nothing for this split, and nothing to say


@pytest.mark.parametrize("gone", ["free.json", "absent.json", "nowhere"])
def test_a_missing_file_is_left_out_with_one_line(written: Path, gone: str, caplog: pytest.LogCaptureFixture) -> None:
    if gone == "nowhere":
        change(written, {"natural": {"test": "free.json", "images": "nowhere"}})
    else:
        (written.parent / gone).unlink()
    config = load_dataset_config(written)
    LOGGER.addHandler(caplog.handler)
    try:
        assert load_source(config, config.sources[0], "test") is None
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert len(caplog.records) == 1 and gone in caplog.text and "'natural' are left out" in caplog.text


def test_images_of_their_own(written: Path) -> None:
    other = written.parent / "other" / "test"
    other.mkdir(parents=True)
    for file in (written.parent / "images" / "test").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    change(written, {"natural": {"test": "free.json", "images": "other"}})
    config = load_dataset_config(written)
    split = load_source(config, config.sources[0], "test")
    assert split is not None and {image.path.parent for image in split.images} == {other.resolve()}


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ("free.json", "must map names to files"),
        ({"natural": "free.json"}, "must map names to files"),
        ({"natural": {"tset": "free.json"}}, "'tset' of expressions 'natural' is none of"),
        ({"natural": {"test": 3}}, "'natural' holds 3"),
        ({"natural": {"absent": "absent.json"}}, "must map splits to files"),
        ({"natural": {"absent": {"tset": "absent.json"}}}, "must map splits to files"),
        ({"all": {"test": "free.json"}}, "'all', which is a row of every table"),
        ({"sar": {"test": "free.json"}}, "'sar', which is a row of every table"),
    ],
)
def test_bad_values(written: Path, sources: Any, says: str) -> None:
    change(written, sources)
    with pytest.raises(DataError, match=says):
        load_dataset_config(written)


def test_absent_file_of_another_form(written: Path) -> None:
    (written.parent / "absent.json").write_text("{}")
    config = load_dataset_config(written)
    with pytest.raises(DataError, match=r"absent\.json: a list of records"):
        load_source(config, config.sources[0], "test")


def test_validation_prints_a_row_per_source(written: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    args = {"data": written, "split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False, "device": "cpu"}
    metrics = model.val(conf=0.0, **args)
    found = metrics.sections["expressions"]["natural"]
    assert [(r["group"], r["count"]) for r in found["rows"]] == [
        ("natural", 4), ("natural landmark", 2), ("natural ordinal", 2)
    ]  # fmt: skip
    assert found["absent_count"] == 2 and found["absent_answered"] == 1
    assert model.val(conf=1.0, **args).sections["expressions"]["natural"]["absent_answered"] == 0
    results = metrics.results_dict
    assert results["metrics/meanIoU(natural)"] == pytest.approx(
        np.mean([results[f"metrics/meanIoU(natural {kind})"] for kind in ("landmark", "ordinal")])
    )
    assert results["metrics/absent_answered(natural)"] == 1
    assert "natural ordinal" in metrics.table() and "100.00 % of 2 expressions" in metrics.table()
    assert "expressions,natural landmark" in metrics.to_csv()
    assert json.loads(metrics.to_json())["expressions"]["natural"]["rows"]
    assert len(metrics) == 8  # the split's own figures are as without


def test_sensitivity_is_measured_on_them_as_well(written: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = written.parent / "free.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["caption"] = "the second bright thing from the left"
    content["annotations"][1]["caption"] = "the dark thing to the left of the old pier"
    file.write_text(json.dumps(content))
    args = {"data": written, "split": "test", "imgsz": 64, "project": str(tmp_path), "plots": False, "device": "cpu"}
    metrics = OptiSAR("optisar++n.yaml").val(sensitivity=True, **args)
    rows = metrics.sections["expressions"]["natural"]["sensitivity"]["rows"]
    assert [(row["kind"], row["pairs"]) for row in rows] == [("ordinal", 1), ("landmark", 1), ("shade", 4), ("all", 6)]
    assert "ordinal" not in [row["kind"] for row in metrics.sections["sensitivity"]["rows"]]
