"""Grounding metrics: by hand, by property, and merged from two processes."""

from __future__ import annotations

import csv
import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo.data import ImageRecord
from optisar_yolo.engine.metrics import (
    FIGURES,
    GROUPS,
    THRESHOLDS,
    GroundingMetrics,
    expression_indices,
    is_hard,
    overlap,
    score_image,
)

SIZE = (100, 80)
NAN = (math.nan,) * 4


@st.composite
def samples(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the expressions of one image, some without a predicted box."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = rng.uniform(0, 60, (n, 2))
    target = np.hstack([corner, corner + rng.uniform(0.5, 20, (n, 2))])
    pred = target + rng.normal(0, draw(st.sampled_from([0.0, 1.0, 30.0])), target.shape)
    pred[rng.random(n) < 0.2] = math.nan
    modality = draw(st.sampled_from(["optical", "sar"]))
    return {
        "pred": pred,
        "target": target,
        "size": SIZE,
        "modality": modality,
        "category": [f"{modality} {'ship' if c else 'tower'}" for c in rng.integers(0, 2, n)],
        "conf": rng.random(n),
        "hard": rng.random(n) < 0.5,
        "kind": draw(st.sampled_from(["", "position"])),
    }


def flat(metrics: GroundingMetrics) -> list[float]:
    return [float(row[name]) for row in metrics.rows() for name in (*FIGURES, "count", "missing")]


def test_by_hand() -> None:
    metrics = GroundingMetrics()
    ious = metrics.update(
        [
            (0, 0, 10, 10),  # the true box: 100/100
            (0, 0, 10, 5),  # its upper half: 50/100, right at 0.5 and not above
            (5, 0, 15, 10),  # half beside it: 50/150
            None,  # no box: 0/100
            (-50, 0, 10, 10),  # beyond the image: clipped to the true box
        ],
        np.tile([0.0, 0, 10, 10], (5, 1)),
        SIZE,
        ["optical", "optical", "optical", "sar", "sar"],
        "ship",
    )
    assert ious.tolist() == [1, 0.5, 1 / 3, 0, 1]
    groups = metrics.groups()
    assert groups["optical"]["Pr@0.5"] == 2 / 3 and groups["optical"]["Pr@0.6"] == 1 / 3
    assert groups["optical"]["meanIoU"] == pytest.approx((1 + 0.5 + 1 / 3) / 3)
    assert groups["optical"]["cumIoU"] == pytest.approx(200 / 350)
    assert groups["sar"]["cumIoU"] == 100 / 200 and groups["sar"]["missing"] == 1
    assert groups["all"]["cumIoU"] == pytest.approx(300 / 550) and groups["all"]["count"] == 5
    assert metrics.fitness == pytest.approx((2.5 + 1 / 3) / 5) == metrics.results_dict["fitness"]


@given(samples())
@settings(max_examples=50, deadline=None)
def test_perfect_boxes_give_one_and_missing_ones_zero(sample: dict[str, Any]) -> None:
    n = len(sample["target"])
    for pred, value in ((sample["target"], 1.0), ([None] * n, 0.0), (np.tile(NAN, (n, 1)), 0.0)):
        metrics = GroundingMetrics()
        assert (metrics.update(**(sample | {"pred": pred})) == value).all()
        for name in ("all", sample["modality"]):
            assert [metrics.groups()[name][figure] for figure in FIGURES] == [value] * len(FIGURES)
        assert metrics.fitness == value
        assert metrics.groups()["all"]["missing"] == (0 if value else n)


@given(st.lists(samples(), min_size=2, max_size=6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_merged_equals_joint(parts: list[dict[str, Any]], cut: int) -> None:
    joint, first, second = GroundingMetrics(), GroundingMetrics(), GroundingMetrics()
    for number, part in enumerate(parts):
        joint.update(**part)
        (first if number < cut else second).update(**part)
    second.merge(pickle.loads(pickle.dumps(first)))
    assert len(second) == len(joint)
    assert flat(second) == pytest.approx(flat(joint), nan_ok=True)
    assert second.results_dict == pytest.approx(joint.results_dict, nan_ok=True)


@given(st.lists(samples(), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_bounds_and_monotony(parts: list[dict[str, Any]]) -> None:
    metrics = GroundingMetrics()
    for part in parts:
        metrics.update(**part)
    for row in metrics.rows():
        if row["count"]:
            assert all(0 <= row[name] <= 1 for name in FIGURES)
            precise = [row[f"Pr@{t}"] for t in THRESHOLDS]
            assert precise == sorted(precise, reverse=True)
    by_section: dict[str, int] = {}
    for row in metrics.rows():
        if row["group"].split()[0] != "all":
            by_section[row["section"]] = by_section.get(row["section"], 0) + row["count"]
    named = sum(len(p["target"]) for p in parts if p["kind"])
    assert by_section.pop("kind", 0) == named
    assert set(by_section.values()) == {len(metrics)}  # modality, difficulty and category each count everything once


@pytest.mark.parametrize("pred", [(10, 10, 10, 20), (20, 20, 10, 10), (200, 10, 300, 20)])
def test_box_without_area_in_the_image_scores_zero(pred: tuple[float, ...]) -> None:
    metrics = GroundingMetrics()
    assert metrics.update([pred], np.array([[5, 5, 30, 30]]), SIZE, "sar", "sar ship").tolist() == [0]
    assert metrics.figures()["missing"] == 0 and metrics.figures()["cumIoU"] == 0


def test_infinite_box_counts_as_missing() -> None:
    metrics = GroundingMetrics()
    metrics.update([(0, 0, math.inf, 10)], np.array([[0, 0, 10, 10]]), SIZE, "sar", "sar ship")
    assert metrics.figures()["missing"] == 1 and metrics.fitness == 0


def test_overlap_is_symmetric() -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(-10, 120, (2, 50, 2, 2)), axis=2).reshape(2, 50, 4)
    size = np.broadcast_to(np.array(SIZE, float), (50, 2))
    for there, back in zip(overlap(*boxes, size), overlap(*boxes[::-1], size), strict=True):
        np.testing.assert_allclose(there, back)


def test_empty() -> None:
    metrics = GroundingMetrics()
    assert metrics.update([], np.zeros((0, 4)), SIZE, "sar", "sar ship").shape == (0,)
    assert len(metrics) == 0 and metrics.fitness == 0
    assert all(math.isnan(v) for k, v in metrics.results_dict.items() if k != "fitness")
    assert list(metrics.results_dict) == [*metrics.keys, "fitness"]
    assert metrics.table().count("-") == 3 * len(FIGURES)
    assert json.loads(metrics.to_json())["rows"][0]["meanIoU"] is None


def test_modality_without_expressions_is_nan_not_zero() -> None:
    metrics = GroundingMetrics()
    metrics.update([(0, 0, 9, 9)], np.array([[0, 0, 9, 9]]), SIZE, "sar", "sar ship")
    results = metrics.results_dict
    assert results["metrics/meanIoU(sar)"] == results["metrics/Pr@0.5(all)"] == 1
    assert math.isnan(results["metrics/Pr@0.9(optical)"])


def test_keys_and_table() -> None:
    metrics = GroundingMetrics()
    metrics.update(
        [(0, 0, 9, 9), None],
        np.array([[0, 0, 9, 9], [0, 0, 9, 9]]),
        SIZE,
        ["optical", "sar"],
        ["optical ship", "sar ship"],
        hard=[True, False],
        kind=["extreme", "unique"],
    )
    assert len(metrics.keys) == len(set(metrics.keys)) == len(GROUPS) * len(FIGURES) == len(metrics.mean_results())
    lines = metrics.table().splitlines()
    assert lines[0].split() == [*FIGURES, "count", "no", "box"]
    assert [line.split()[0] for line in lines[1:]] == ["optical", "SAR", "all"]
    assert lines[3].split()[1:] == ["50.00"] * 7 + ["2", "1"]
    assert len({len(line) for line in lines}) == 1
    whole = metrics.table(("modality", "difficulty", "kind", "category"))
    for name in ("optical hard", "SAR easy", "extreme", "unique", "sar ship"):
        assert f"\n{name} " in whole


def test_files(tmp_path: Path) -> None:
    metrics = GroundingMetrics(tmp_path)
    metrics.update([(0, 0, 9, 5)], np.array([[0, 0, 9, 9]]), SIZE, "sar", 'sar "ship", small', hard=[True])
    text = metrics.to_json(tmp_path / "new" / "metrics.json")
    assert (tmp_path / "new" / "metrics.json").read_text() == text
    rows = json.loads(text)["rows"]
    table = metrics.to_csv(tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text() == table
    read = list(csv.DictReader(io.StringIO(table)))
    assert [r["group"] for r in read] == [r["group"] for r in rows]
    assert [float(r["meanIoU"]) if r["meanIoU"] else None for r in read] == [r["meanIoU"] for r in rows]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "new"]  # nothing half-written left


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = GroundingMetrics()
    metrics.to_csv(tmp_path / "metrics.csv")
    before = (tmp_path / "metrics.csv").read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    metrics.update([None], np.array([[0, 0, 9, 9]]), SIZE, "sar", "sar ship")
    with pytest.raises(OSError, match="No space left"):
        metrics.to_csv(tmp_path / "metrics.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]
    assert (tmp_path / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred": [None]}, "1 predicted boxes for 2"),
        ({"modality": "infrared"}, "unknown modality 'infrared'"),
        ({"category": ["ship"]}, "1 entries of 'category'"),
        ({"conf": [0.5]}, "1 entries of 'conf'"),
        ({"hard": [True] * 3}, "3 entries of 'hard'"),
        ({"target": np.array([[0, 0, 9, 9], [5, 5, 5, 9]])}, "has no area"),
        ({"target": np.array([[0, 0, 9, 9], [500, 5, 600, 9]])}, "has no area"),
        ({"target": np.array([[0, 0, 9, 9], [math.nan, 5, 6, 9]])}, "has no area"),
    ],
)
def test_wrong_calls_change_nothing(change: dict[str, Any], message: str) -> None:
    metrics = GroundingMetrics()
    good = {"pred": [None, None], "target": np.array([[0, 0, 9, 9]] * 2), "size": SIZE, "modality": "sar"}
    with pytest.raises(ValueError, match=message):
        metrics.update(**(good | {"category": "ship"} | change))
    assert len(metrics) == 0 and metrics.figures()["count"] == 0


def test_hard_means_another_of_the_category() -> None:
    assert is_hard(np.array([3, 5, 3, 7])).tolist() == [True, False, True, False]
    assert is_hard(np.array([], int)).tolist() == []


def test_clear() -> None:
    metrics = GroundingMetrics()
    metrics.update([None], np.array([[0, 0, 9, 9]]), SIZE, "sar", "sar ship")
    metrics.clear()
    assert len(metrics) == 0 and metrics.rows()[2]["count"] == 0


def test_an_expression_of_a_set_counts_once_and_any_of_its_objects_is_right() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [60, 60, 70, 70]], np.float32)
    text, own = "The two ships at the top", "The ship at the bottom"
    image = ImageRecord(
        Path("a.jpg"), 100, 80, "optical", boxes, np.zeros(3, np.int64), ((text,), (text,), (own, "A ship")),
        (("",), ("",), ("", "")), sets=frozenset({text}),
    )  # fmt: skip
    pairs = expression_indices(image)
    assert pairs == [(0, 0), (2, 0), (2, 1)]
    metrics = GroundingMetrics()
    pred = np.array([boxes[1], boxes[0], NAN])
    cases = score_image(metrics, image, ["optical ship"], pairs, pred, np.array([0.9, 0.8, math.nan]))
    assert [case.iou for case in cases] == [1.0, 0.0, 0.0] and len(metrics) == 3
    assert cases[0].caption == text and cases[0].target.tolist() == boxes[1].tolist()
