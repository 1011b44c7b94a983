"""Surveys of a split: the experts' use by modality and category, and sheets of the surest answers."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from tiny_net import spread

from optisar_yolo.commands import main as cli
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import ImageRecord, load_split
from optisar_yolo.engine import report
from optisar_yolo.engine.routing import ExpertUse, ExpertUseRecorder, Routing
from optisar_yolo.explain.explainer import Explainer
from optisar_yolo.explain.maps import routing_sheets
from optisar_yolo.visualize.figures import shortened, wrapped
from optisar_yolo.visualize.frame import Frame
from optisar_yolo.visualize.sheet import EvaluatedExpression

NAMES = ("optical ship", "sar ship")
FRAME = Frame((100, 50), (64, 128), np.array([0, 0.25, 0.78125, 0.875], np.float32))  # 100 x 40 pixels at row 16


def choices(seed: int) -> Routing:
    """Two of four experts for each of 2 x 4 patches of 32 pixels."""
    rng = np.random.default_rng(seed)
    gates = rng.random((4, 2, 4)).astype(np.float32)
    gates[np.argsort(gates, 0)[:2], np.arange(2)[:, None], np.arange(4)] = 0
    return Routing(gates / gates.sum(0), (32.0, 32.0), 2)


def image(modality: str, boxes: list[list[float]], categories: list[int]) -> ImageRecord:
    captions = tuple(("a ship",) for _ in boxes)
    return ImageRecord(Path("x.png"), 100, 50, modality, np.array(boxes, np.float32), np.array(categories), captions)


def use_of(*pairs):
    use = ExpertUse(NAMES)
    for one, routing in pairs:
        use.add(one, FRAME, {"moe8": routing})
    return use.matrices()["moe8"]


def test_two_images_are_the_mean_of_single_ones():
    a = (image("optical", [[0, 0, 20, 20]], [0]), choices(0))
    b = (image("optical", [[30, 10, 60, 40]], [0]), choices(1))
    both, one, other = use_of(a, b), use_of(a), use_of(b)
    assert both.columns == [("modality", "optical"), ("category", "optical ship")] and both.counts == [2, 2]
    for measure in ("weight", "first"):
        np.testing.assert_allclose(getattr(both, measure), (getattr(one, measure) + getattr(other, measure)) / 2)
        np.testing.assert_allclose(getattr(both, measure).sum(0), 1)
    assert both.apart() is None  # nothing to compare with


def test_a_column_is_a_count_of_pixels():
    routing = choices(2)
    pixels = np.kron(routing.gates, np.ones((32, 32)))  # [4, 64, 128]
    inside = pixels[:, 16:56, :100]
    m = use_of((image("sar", [[10, 5, 70, 45]], [1]), routing))
    np.testing.assert_allclose(m.weight[:, 0], inside.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(m.weight[:, 1], inside[:, 4:36, 10:70].mean((1, 2)), atol=1e-6)  # 0.8 rows a pixel
    first = np.bincount(inside.argmax(0).ravel(), minlength=4) / inside[0].size
    np.testing.assert_allclose(m.first[:, 0], first, atol=1e-6)


def test_difference_of_the_modalities():
    gates = np.zeros((4, 2, 4), np.float32)
    only = [np.eye(4, dtype=np.float32)[i][:, None, None] + gates for i in (0, 1)]
    a, b = (Routing(g, (32.0, 32.0), 1) for g in only)
    pair = [image(m, [[0, 0, 20, 20]], [i]) for i, m in enumerate(("optical", "sar"))]
    assert use_of((pair[0], a), (pair[1], b)).apart() == pytest.approx(1)
    assert use_of((pair[0], a), (pair[1], a)).apart("first") == pytest.approx(0)


# a split


@pytest.fixture(scope="module")
def surveyed(tiny, tmp_path_factory):
    """A network of which `optisar explain data=…` was run, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("survey")
    model = spread("optisar++n.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optisar_yolo.api.OptiSAR", lambda _: model)
        words = [f"data={tiny}", "split=test", "imgsz=128", f"project={folder}", "n=2"]
        assert cli.main(["explain", *words]) == 0
    return model, folder / "explain"


def test_split_leaves_figures_and_a_page(surveyed):
    names = {p.name for p in surveyed[1].iterdir()}
    assert {"expert_use.csv", "expert_use.png", "routing_moe8.png", "failures.png", "cases.csv", "index.html"} <= names
    page = (surveyed[1] / "index.html").read_text()
    assert "routing_moe8.png" in page and "expert_use.png" in page and "meanIoU" in page


def test_matrix_of_a_split_is_the_mean_of_its_images(surveyed, tiny):
    model, folder = surveyed
    with open(folder / "expert_use.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    explainer, own = Explainer(model, 128), defaultdict(list)
    for one in load_split(load_dataset_config(tiny), "test"):
        frame, routing = explainer.routes(read_image(one.path))
        own[one.modality].append(routing["moe8"].shares(frame))
    for modality, shares in own.items():
        mine = [r for r in rows if (r["of"], r["name"]) == ("modality", modality)]
        assert [int(r["expert"]) for r in mine] == list(range(8)) and {r["count"] for r in mine} == {str(len(shares))}
        for measure in ("weight", "first"):
            expected = np.mean([getattr(s, measure) for s in shares], 0)
            np.testing.assert_allclose([float(r[measure]) for r in mine], expected, atol=1e-4)
    assert {r["name"] for r in rows if r["of"] == "category"} == {"optical airplane", "optical ship", "sar ship"}


def test_split_without_experts(tiny, tmp_path):
    model = spread("optisar++n-baseline.yaml")
    explainer, recorder = Explainer(model, 64), ExpertUseRecorder(model.model, load_dataset_config(tiny).names)
    one = load_split(load_dataset_config(tiny), "test")[0]
    frame, routing = explainer.routes(read_image(one.path))
    recorder.add(0, one, frame.extent, frame.canvas)
    assert routing == {} and recorder.write(tmp_path) == []
    assert routing_sheets(explainer, tiny, "test", 1, tmp_path) == [] and not list(tmp_path.iterdir())


# figures


@pytest.mark.parametrize(("text", "width"), [("the ship " * 80, 9.0), ("左上角的船" * 60, 9.0), ("x" * 500, 2.6)])
def test_lines_fit_in_their_width(text, width):
    lines = wrapped(text, width, 9, 3)
    assert len(lines) == 3 and lines[2].endswith("…")
    signs = 2 if "船" in text else 1  # in half widths
    assert all(len(line) * signs * 9 * 0.55 / 72 < width * 1.15 for line in lines)  # DejaVu Sans: about 0.55 em


def test_long_names_lose_their_middle():
    assert shortened("port.jpg", 2.6, 8.5) == "port.jpg"
    short = shortened("a" * 60 + "_0001.jpg", 2.6, 8.5)
    assert len(short) < 40 and short.startswith("aaa") and short.endswith("_0001.jpg")


# sheets


def case(number: int, conf: float, iou: float) -> EvaluatedExpression:
    return EvaluatedExpression(Path(f"{number}.png"), f"ship {number}", (0, 0, 5, 5), (0, 0, 5, 5), conf, iou)


def test_the_surest_come_first_and_images_are_new():
    cases = [case(1, 0.2, 0), case(2, 0.9, 0), case(2, 0.8, 0), case(3, float("nan"), 0), case(4, 0.5, 0)]
    chosen = report.most_confident(cases, ["optical"] * 5, 5)
    assert [c.conf for c in chosen[:4]] == [0.9, 0.8, 0.5, 0.2] and chosen[4].path.name == "3.png"
    assert [c.path.name for c in report.most_confident(cases, ["optical"] * 5, 2)] == ["2.png", "4.png"]


def test_both_modalities_are_shown():
    cases = [case(i, 0.9 - i / 100, 0) for i in range(8)] + [case(i, 0.1 + i / 100, 0) for i in range(8, 10)]
    chosen = report.most_confident(cases, ["optical"] * 8 + ["sar"] * 2, 4)
    assert [c.path.name for c in chosen] == ["0.png", "1.png", "9.png", "8.png"]


def test_right_and_wrong_answers_go_to_sheets_of_their_own(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "draw_sheet", lambda cases, title: drawn.append((cases, title)))
    monkeypatch.setattr(report, "save_figure", lambda figure, path: path)
    cases = [case(1, 0.2, 0.5), case(2, 0.9, 0.49), case(3, 0.7, 0.9), case(4, 0.95, 0.0)]
    files = report.confident_sheets(cases, ["sar"] * 4, tmp_path)
    assert [f.name for f in files] == ["right.png", "failures.png"]
    assert [[c.path.stem for c in own] for own, _ in drawn] == [["3", "1"], ["4", "2"]]
    assert "2 right" in drawn[0][1] and "2 failures" in drawn[1][1]
    assert [f.name for f in report.confident_sheets(cases[:1], ["sar"], tmp_path)] == ["right.png"]
