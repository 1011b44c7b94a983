"""The mean of the boxes around a cell."""

from __future__ import annotations

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
