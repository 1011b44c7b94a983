"""The mean of the boxes around a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from optisar_yolo.nn.averaging import SIDE, mean_box, neighbourhood
from optisar_yolo.nn.model import GroundingModel

SHAPES = [(3, 4), (2, 2)]


def test_neighbours_are_those_of_the_same_level() -> None:
    found = neighbourhood(SHAPES, torch.device("cpu"))
    assert found.shape == (16, SIDE * SIDE)
    assert found[:, SIDE * SIDE // 2].tolist() == list(range(16))
    assert found[5].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]  # row 1, column 1 of the first level
    assert found[12].tolist() == [-1, -1, -1, -1, 12, 13, -1, 14, 15]  # corner of the second level


def test_mean_leaves_out_other_objects_and_what_is_outside() -> None:
    own = torch.tensor([10.0, 10.0, 20.0, 20.0])
    boxes = own.repeat(9, 1)
    boxes[0] = torch.tensor([10.0, 10.0, 22.0, 20.0])  # the same object, as sure
    boxes[1] = torch.tensor([15.0, 15.0, 40.0, 40.0])  # overlaps by less than half
    inside = torch.tensor([True, True, False, False, True, False, False, False, False])
    logits = torch.zeros(9)
    found = mean_box(boxes, logits, inside)
    iou = 100 / 120
    torch.testing.assert_close(found, torch.tensor([10.0, 10.0, 20.0 + 2 * iou / (1 + iou), 20.0]))
    logits[0] = -40.0  # nothing there
    torch.testing.assert_close(mean_box(boxes, logits, inside), own, atol=1e-3, rtol=0)
    flat = torch.zeros(9, 4)  # boxes without an area stay what they are
    assert torch.equal(mean_box(flat, logits, inside), flat[0])


def test_scores_of_nothing_leave_boxes_numbers_in_a_graph(tmp_path: Path) -> None:
    """As the logarithm of a sigmoid, weights of logits below -20 were no numbers in ONNX Runtime, and so were boxes."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")

    class Mean(torch.nn.Module):
        def forward(self, boxes: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            return mean_box(boxes, logits, torch.ones_like(logits, dtype=torch.bool))

    lows = torch.tensor([2.0, -10, -19, -50, -90, -104, -1e4])
    given = torch.tensor([10.0, 10, 20, 20]).repeat(len(lows), SIDE * SIDE, 1), lows[:, None].repeat(1, SIDE * SIDE)
    file = tmp_path / "mean.onnx"
    torch.onnx.export(Mean(), given, str(file), input_names=["boxes", "logits"], dynamo=False)
    feed = {"boxes": given[0].numpy(), "logits": given[1].numpy()}
    (found,) = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feed)
    assert np.allclose(found, given[0][:, 0].numpy())


def test_the_head_averages_where_its_description_says_so() -> None:
    torch.manual_seed(0)
    model = GroundingModel("optisar++n-late.yaml", verbose=False).eval()
    assert model.head.average and not GroundingModel("optisar++n.yaml", verbose=False).head.average
    text = torch.nn.functional.normalize(torch.randn(2, 3, model.text_dim), dim=-1)
    with torch.no_grad():
        preds = model.match_all(model.encode(torch.rand(2, 3, 96, 64)), text)
        boxes, conf = model.head.decode(preds, 4)
        without = {k: v for k, v in preds.items() if k != "first_scores"}
        single, same = model.head.decode(without, 4)
        index = preds["scores"].topk(4, 2).indices
        around = neighbourhood([f.shape[2:] for f in preds["feats"]], index.device)[index[1, 2, 3]]
        inside = around >= 0
        cells = model.head.boxes_at(preds, around.clamp(min=0).repeat(2, 1))[1]
        scores = preds["first_scores"][1, 2, around.clamp(min=0)]
    assert torch.equal(conf, same) and not torch.allclose(boxes, single)
    torch.testing.assert_close(boxes[1, 2, 3], mean_box(cells, scores, inside))
