"""Drawn predictions: boxes where they are, a legend that tells found from not found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from optisar_yolo.visualize.draw import PALETTE, GroundingResults, draw_predictions

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
