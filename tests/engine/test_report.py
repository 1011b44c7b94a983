"""Plots, sheets and pages: right content, every awkward input drawn, nothing half-written."""

from __future__ import annotations

import csv
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from make_tiny import SIZE
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import load_split
from optisar_yolo.engine.metrics import GroundingMetrics
from optisar_yolo.engine.report import (
    choose_cases,
    iou_histogram,
    precision_curve,
    training_curves,
    training_sheet,
    write_report,
)
from optisar_yolo.visualize.page import Section, write_index
from optisar_yolo.visualize.sheet import PREDICTED, TRUE, EvaluatedExpression, batch_sheet, draw_sheet

NAN = (math.nan,) * 4


@pytest.fixture
def validation(tiny: Path) -> tuple[GroundingMetrics, list[EvaluatedExpression]]:
    """Return figures and cases of the tiny test split, with predictions of all qualities."""
    config = load_dataset_config(tiny)
    metrics, cases = GroundingMetrics(), []
    for number, image in enumerate(load_split(config, "test")):
        for i, captions in enumerate(image.captions):
            for caption, kind in zip(captions, image.kinds[i], strict=True):
                pred = None if number == 0 else image.boxes[i] + 2 * number
                iou = metrics.update(
                    [pred],
                    image.boxes[i : i + 1],
                    (image.width, image.height),
                    image.modality,
                    config.names[image.categories[i]],
                    [math.nan if pred is None else 0.5],
                    [True],
                    kind,
                )
                cases.append(
                    EvaluatedExpression(
                        image.path, caption, image.boxes[i], pred, math.nan if pred is None else 0.5, float(iou[0])
                    )
                )
    return metrics, cases


def colours(figure: Figure) -> list[str]:
    """Return the edge colours of all boxes drawn in a figure's panels and insets."""
    found = []
    for axes in figure.axes:
        for panel in (axes, *axes.child_axes):
            found += [p.get_edgecolor() for p in panel.patches if isinstance(p, Rectangle)]
    return ["#" + "".join(f"{round(255 * v):02x}" for v in colour[:3]) for colour in found]


def test_report_writes_all_its_files(
    validation: tuple[GroundingMetrics, list[EvaluatedExpression]], tmp_path: Path
) -> None:
    metrics, cases = validation
    files = write_report(metrics, cases, tmp_path / "run", count=3)
    names = ["metrics.json", "metrics.csv", "iou_histogram.png", "precision.png", "cases.csv", "best.png", "worst.png"]
    assert [f.name for f in files] == names
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(names)
    for file in files:
        if file.suffix == ".png":
            image = cv2.imread(str(file))
            assert image is not None and min(image.shape[:2]) > 200 and image.std() > 5  # not blank
    rows = list(csv.DictReader((tmp_path / "run" / "cases.csv").open(encoding="utf-8")))
    assert [r["caption"] for r in rows] == [c.caption for c in cases]
    assert [r["modality"] for r in rows] == list(metrics.column("modality"))
    assert rows[0]["pred_x1"] == rows[0]["conf"] == "" and rows[0]["iou"] == "0.0000" and rows[0]["hard"] == "1"
    assert float(rows[-1]["pred_x2"]) == pytest.approx(float(cases[-1].pred[2]))  # type: ignore[index]


def test_report_without_cases_or_expressions(tmp_path: Path) -> None:
    files = write_report(GroundingMetrics(), [], tmp_path)
    assert [f.name for f in files] == ["metrics.json", "metrics.csv", "iou_histogram.png", "precision.png"]


def test_report_needs_one_case_per_expression(
    validation: tuple[GroundingMetrics, list[EvaluatedExpression]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="7 cases for 8 expressions"):
        write_report(validation[0], validation[1][:-1], tmp_path)
    assert not list(tmp_path.iterdir())


def test_plots_show_the_figures(validation: tuple[GroundingMetrics, list[EvaluatedExpression]]) -> None:
    metrics, _ = validation
    groups = metrics.groups()
    lines = {line.get_label(): line for line in precision_curve(metrics).axes[0].get_lines()}
    for name, group in (("optical", "optical"), ("SAR", "sar"), ("all", "all")):
        x, y = lines[name].get_data()
        for t in (0.5, 0.7, 0.9):
            assert y[np.argmin(np.abs(np.asarray(x) - t))] == pytest.approx(100 * groups[group][f"Pr@{t}"])
    legend = [t.get_text() for t in iou_histogram(metrics).axes[0].get_legend().get_texts()]
    assert legend == [
        f"{n} (n = 4, mean {100 * groups[g]['meanIoU']:.1f} %)" for n, g in (("optical",) * 2, ("SAR", "sar"))
    ]


def test_sheet_draws_boxes_and_says_what_is_missing(
    validation: tuple[GroundingMetrics, list[EvaluatedExpression]],
) -> None:
    _, cases = validation
    drawn = colours(draw_sheet(cases[:3], "Some"))
    assert drawn.count(TRUE) - drawn.count(PREDICTED) == 2  # the first image's two expressions got no box
    titles = [axes.get_title() for axes in draw_sheet(cases[:3], "Some").axes]
    assert "no box" in titles[0] and "no box" in titles[1] and "IoU" in titles[2] and "conf 0.50" in titles[2]
    assert all(case.caption.split()[-1] in title for case, title in zip(cases, titles, strict=False))


def test_nan_box_is_no_box() -> None:
    case = EvaluatedExpression(Path("a.png"), "the ship", (0, 0, 5, 5), NAN, 0.0, 0.0)
    assert case.predicted_box is None and case._replace(pred=None).predicted_box is None
    np.testing.assert_array_equal(case._replace(pred=(1, 2, 3, 4)).predicted_box, [1, 2, 3, 4])


@pytest.mark.parametrize("size", [(10, 400), (400, 10), (1, 1), (30, 40)])
def test_awkward_cases_are_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((height, width, 3), np.uint8))
    expression = "Costs $5 & $6 <b>\n" + "very " * 60 + "long"  # no formula, no markup, cut off
    case = EvaluatedExpression(
        tmp_path / "a.png", expression, (0, 0, width / 20, height / 20), (-50, -50, 900, 900), 0.99, 0.01
    )
    gone = case._replace(path=tmp_path / "gone.png", pred=None)
    figure = draw_sheet([case, gone, case, case, case], "5 of $ and $")
    figure.canvas.draw()
    titles = [axes.get_title() for axes in figure.axes]
    assert all(len(t.splitlines()) == 4 and "$5 & $6 <b>" in t and "…" in t for t in titles)


def test_small_target_gets_an_inset(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((400, 600, 3), np.uint8))
    case = EvaluatedExpression(tmp_path / "a.png", "the ship", (0, 390, 12, 400), None, math.nan, 0.0)
    (axes,) = draw_sheet([case], "one").axes
    (inset,) = axes.child_axes
    assert sorted(inset.get_xlim()) == [0, 36] and sorted(inset.get_ylim()) == [364, 400]  # kept inside the image
    (axes,) = draw_sheet([case._replace(target=(0, 0, 300, 200))], "one").axes
    assert not axes.child_axes


def test_choice_takes_turns_and_prefers_new_images() -> None:
    box = (0, 0, 1, 1)
    cases = [
        EvaluatedExpression(Path(f"o{i // 4}"), f"o{i}", box, box, conf=1 - i / 10, iou=0.1 * (i % 3)) for i in range(8)
    ]
    cases += [EvaluatedExpression(Path("s"), f"s{i}", box, box, conf=0.1 * i, iou=0.5) for i in range(3)]
    modalities = ["optical"] * 8 + ["sar"] * 3
    best = choose_cases(cases, modalities, 4, best=True)
    assert [c.caption for c in best] == ["s2", "s1", "o2", "o5"]  # the surest of equals, one of each optical image
    worst = choose_cases(cases, modalities, 4, best=False)
    assert [c.caption for c in worst] == ["o0", "o6", "s2", "s1"]
    assert len(choose_cases(cases, modalities, 99, best=True)) == len(cases)
    assert choose_cases([], [], 5, best=True) == []


# ---- training images


def batch(objects: int, floating: bool) -> dict[str, Any]:
    """Return a batch of two images; the first holds all objects, each with one expression of its own but the last."""
    targets = torch.zeros(objects, 9)
    for i in range(objects - 1):
        targets[i, i] = 1
    img = torch.randint(0, 255, (2, 3, 32, 48), dtype=torch.uint8)
    return {
        "img": img.float() / 255 if floating else img,
        "bboxes": torch.full((objects, 4), 0.5),
        "batch_idx": torch.zeros(objects),
        "targets": targets,
        "texts": [[f"ship $ number {i} $" for i in range(9)]] * 2,
    }


@pytest.mark.parametrize("objects", [0, 1, 3, 9])
@pytest.mark.parametrize("floating", [False, True])
def test_training_sheet(tmp_path: Path, objects: int, floating: bool) -> None:
    for suffix in ("jpg", "png"):
        file = training_sheet(batch(objects, floating), tmp_path / f"batch.{suffix}")
        assert cv2.imread(str(file)).shape[1] > 400
    figure = batch_sheet(batch(objects, floating))
    assert len(figure.axes) == 2 and len(colours(figure)) == objects
    texts = [t.get_text() for t in figure.axes[0].texts if "number" in t.get_text()]
    assert texts == [f"ship $ number {i} $" for i in reversed(range(min(max(objects - 1, 0), 5)))]
    box = figure.axes[0].patches
    if objects:
        assert box[0].get_bbox().bounds == pytest.approx((12, 8, 24, 16))


def test_training_curves(tmp_path: Path) -> None:
    record = tmp_path / "results.csv"
    metrics = GroundingMetrics()
    metrics.update([(0, 0, 9, 9)], np.array([[0, 0, 9, 9]]), SIZE, "sar", "sar ship")
    header = ["epoch", "time", "train/box_loss", "train/region_loss", *metrics.keys, "lr/pg0"]
    for epochs in (1, 3):
        rows = [[e, 1.0, 1 / e, "", *metrics.mean_results(), 0.01] for e in range(1, epochs + 1)]
        with record.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        assert cv2.imread(str(training_curves(record, tmp_path / "results.png"))).std() > 5
    record.write_text(",".join(header) + "\n")
    with pytest.raises(ValueError, match="no epochs recorded"):
        training_curves(record, tmp_path / "results.png")
    with pytest.raises(FileNotFoundError):
        training_curves(tmp_path / "gone.csv", tmp_path / "results.png")


# ---- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_escapes_text_and_links_images(tmp_path: Path) -> None:
    image = tmp_path / "run 1" / 'a "b" & #c.png'
    image.parent.mkdir()
    image.write_bytes(b"x")
    nasty = '<script>alert(1)</script> & {body} "quoted" \''
    sections = [Section(nasty, nasty, nasty, [(image, nasty)]), Section("Empty")]
    path = write_index(tmp_path, nasty + " $title", sections)
    page = Page(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "index.html" and "script" not in page.tags
    assert page.text.count(nasty) == 6  # page title, its heading, section heading, text, table, caption
    assert page.tags.count("img") == 1 and page.tags.count("pre") == 1
    assert set(page.links) == {"run%201/a%20%22b%22%20%26%20%23c.png"}


def test_page_refuses_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone.png"):
        write_index(tmp_path, "t", [Section("s", images=[(tmp_path / "gone.png", "c")])])
    assert not list(tmp_path.iterdir())
