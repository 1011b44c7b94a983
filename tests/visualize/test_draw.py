"""Drawn predictions: boxes where they are, a legend that tells found from not found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from optisar_yolo.visualize import TextFonts, fonts
from optisar_yolo.visualize.draw import PALETTE, GroundingResults, draw_predictions
from optisar_yolo.visualize.overlay import LEGEND, numbers_of

EXPRESSIONS = {0: "The ship at the top", 1: "Das Schiff links – не найдено"}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_each_expression_has_its_colour_and_only_found_ones_a_box() -> None:
    pixels = np.zeros((240, 400, 3), np.uint8)
    drawn = np.asarray(draw_predictions(pixels, np.array([[100, 50, 200, 120, 0.8, 0]]), EXPRESSIONS))
    image, legend = drawn[:240], drawn[240:]
    assert drawn.shape[1] == 400 and len(legend) > 0
    ys, xs = np.nonzero((image == rgb(PALETTE[0])).all(-1))
    assert abs(xs.min() - 100) <= 3 and abs(xs.max() - 200) <= 3
    assert abs(ys.min() - 50) <= 3 and abs(ys.max() - 120) <= 3
    assert not (image == rgb(PALETTE[1])).all(-1).any()
    assert (legend == rgb(PALETTE[1])).all(-1).any()


def test_small_images_are_enlarged_with_their_boxes() -> None:
    pixels, boxes = np.zeros((60, 80, 3), np.uint8), np.array([[20, 15, 40, 30, 0.8, 0]])
    drawn = np.asarray(draw_predictions(pixels, boxes, {0: "x"}))
    ys, xs = np.nonzero((drawn[:240] == rgb(PALETTE[0])).all(-1))
    assert abs(xs.min() - 80) <= 3 and abs(ys.max() - 120) <= 3


def test_results_draw_and_save_themselves(tmp_path: Path) -> None:
    boxes = torch.tensor([[10.0, 10, 60, 60, 0.5, 1]])
    result = GroundingResults(np.zeros((100, 320, 3), np.uint8), path="a.jpg", names=EXPRESSIONS, boxes=boxes)
    for one in (result, result.cpu()):
        assert isinstance(one, GroundingResults)
        assert one.plot().shape[0] > 100
    assert '"Das Schiff' in result.verbose()
    result.save(str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 0


def test_crops_stay_in_their_folder_whatever_the_expression_says(tmp_path: Path) -> None:
    names = {0: "../../../outside", 1: "the ship that lies " + "a little " * 40 + "left of the pier", 2: "the ship"}
    boxes = torch.tensor([[10.0, 10, 60, 60, 0.5, i] for i in range(3)])
    result = GroundingResults(np.zeros((100, 320, 3), np.uint8), path="a.jpg", names=names, boxes=boxes)
    result.save_crop(tmp_path / "runs" / "crops", "a.jpg")
    written = sorted(p.relative_to(tmp_path / "runs" / "crops") for p in tmp_path.rglob("*.jpg"))
    assert len(written) == 3 and all(len(p.parts) == 2 for p in written)
    assert Path("the ship/a.jpg") in written and result.names == names


def outline(drawn: np.ndarray, index: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has the colour of an expression."""
    ys, xs = np.nonzero((drawn[:height] == rgb(PALETTE[index])).all(-1))
    return xs.min(), ys.min(), xs.max(), ys.max()


def test_boxes_at_one_place_surround_each_other_and_stay_inside() -> None:
    pixels = np.zeros((240, 400, 3), np.uint8)
    same = [[0, 0, 400, 240, 0.9, 0], [0, 0, 400, 240, 0.8, 1], [1, 1, 399, 239, 0.7, 2], [90, 80, 150, 160, 0.7, 3],
            [90, 80, 150, 160, 0.7, 4]]  # fmt: skip
    drawn = np.asarray(draw_predictions(pixels, np.array(same), {i: f"expression {i}" for i in range(5)}))
    for outer, inner in ((1, 0), (2, 1), (4, 3)):
        a, b = outline(drawn, outer, 240), outline(drawn, inner, 240)
        assert a[0] < b[0] and a[1] < b[1] and a[2] > b[2] and a[3] > b[3], (outer, inner)
    for j in range(5):  # each of the four sides of each box is to be seen
        left, top, right, bottom = outline(drawn, j, 240)
        own = (drawn[:240] == rgb(PALETTE[j])).all(-1)
        for side in (own[:, left], own[top], own[:, right], own[bottom]):
            assert side.sum() > 30
    overlapping = np.array([[50, 50, 200, 150, 0.9, 0], [120, 50, 260, 150, 0.9, 1]])
    drawn = np.asarray(draw_predictions(pixels, overlapping, {0: "one", 1: "other"}))
    assert all(abs(a - b) <= 3 for a, b in zip(outline(drawn, 0, 240), (50, 50, 200, 150), strict=True))


def test_every_box_has_its_number() -> None:
    boxes = np.array([[0, 0, 9, 9, 0.5, 1], [0, 0, 9, 9, 0.9, 1], [0, 0, 9, 9, 0.7, 0]])
    assert numbers_of(boxes) == ["2.2", "2.1", "1"]
    pixels = np.zeros((240, 400, 3), np.uint8)
    one = np.array([[100.0, 100, 200, 160, 0.9, 0]])
    drawn = np.asarray(draw_predictions(pixels, one, {0: "the ship", 1: "the tower"}))
    above = drawn[80:97, 97:130]
    assert (above > 180).all(-1).sum() > 6, "no number stands on the box"
    crowd = np.array([[100.0, 100, 200, 160, 0.9, j] for j in range(6)])
    drawn = draw_predictions(pixels, crowd, {j: f"expression {j}" for j in range(6)})
    tags = (np.asarray(drawn)[:240] == rgb(LEGEND)).all(-1)
    assert cv2.connectedComponents(cv2.dilate(tags.astype(np.uint8), np.ones((2, 2))))[0] - 1 >= 4  # beside each other


def test_the_legend_wraps_words_of_any_script_within_the_image() -> None:
    fonts = TextFonts(12)
    for text in ("a " * 80, "船" * 60, "x" * 200, "the ship 船在左上角 " * 8, ""):
        lines = fonts.wrap(text.strip(), 200)
        assert all(fonts.length(line) <= 200 for line in lines) and lines
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_characters_are_drawn_with_a_font_that_has_them(tmp_path: Path, monkeypatch, log) -> None:
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000, isTTF=True)
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    for step, point in zip(("moveTo", "lineTo", "lineTo"), ((0, 0), (500, 900), (900, 0)), strict=True):
        getattr(pen, step)(point)
    pen.closePath()
    builder.setupGlyphOrder([".notdef", "ship"])
    builder.setupCharacterMap({ord("船"): "ship"})
    builder.setupGlyf({".notdef": pen.glyph(), "ship": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "ship": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Ship", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "ship.ttf")
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")

    def drawn() -> np.ndarray:
        return np.asarray(draw_predictions(np.zeros((240, 400, 3), np.uint8), np.zeros((0, 6)), {0: "a 船 ship"}))

    fonts._installed_font_of.cache_clear()
    monkeypatch.setattr(fonts, "installed_fonts", lambda: ())
    monkeypatch.setattr(fonts, "_reported", set())
    without = drawn()
    drawn()
    assert log.text.count("no installed font has '船'") == 1
    fonts._installed_font_of.cache_clear()
    monkeypatch.setattr(fonts, "installed_fonts", lambda: (damaged, tmp_path / "ship.ttf"))
    assert [path.name for _, path in ((c, fonts.font_of(c)) for c in "a船")] == ["DejaVuSans.ttf", "ship.ttf"]
    assert (drawn() != without).any()
    fonts._installed_font_of.cache_clear()


RESULT = GroundingResults(
    np.zeros((100, 200, 3), np.uint8),
    path="a.jpg",
    names={0: "the ship", 1: "the tower", 2: "not the ship"},
    boxes=torch.tensor([[10.0, 10, 60, 60, 0.5, 0], [20.0, 30, 80, 90, 0.8, 0]]),
)
RESULT.notes = {"not the ship": "a negation"}


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_table_has_a_row_for_every_expression(library: str) -> None:
    pytest.importorskip(library)
    table = RESULT.to_df(library=library)
    rows = (
        table.to_dicts() if library == "polars" else table.astype(object).where(table.notna(), None).to_dict("records")
    )
    assert [(r["text"], r["rank"], r["answered"]) for r in rows] == [
        ("the ship", 1, True), ("the ship", 2, True), ("the tower", None, False), ("not the ship", None, False)
    ]  # fmt: skip
    assert (rows[0]["x1"], rows[0]["y2"], rows[0]["image"]) == (20, 90, "a.jpg") and rows[2]["x1"] is None
    assert rows[0]["confidence"] == pytest.approx(0.8) and rows[3]["note"] == "a negation"
    shares = RESULT.to_df(normalize=True, library=library)
    assert float(shares["x1"][0]) == pytest.approx(0.1)
    nothing = GroundingResults(np.zeros((9, 9, 3), np.uint8), path="", names={0: "x"}, boxes=torch.zeros(0, 6))
    assert list(nothing.to_df(library=library).columns) == list(table.columns)
    assert [str(a) for a in nothing.to_df(library=library).dtypes] == [str(a) for a in table.dtypes]


def test_other_tables_are_refused_and_text_forms_stay() -> None:
    with pytest.raises(ValueError, match="library='excel': it must be one of polars, pandas"):
        RESULT.to_df(library="excel")
    assert RESULT.to_csv().splitlines()[0].startswith("text,answered,confidence,x1")
    assert [r["name"] for r in json.loads(RESULT.to_json())] == [
        "the ship",
        "the ship",
    ]  # Ultralytics' form: boxes alone
