"""Grounding several images at once, as on a GPU, has the results of one image after the other."""

import pytest
import torch

from optisar_yolo.engine import grounding
from optisar_yolo.nn import GroundingModel


@pytest.mark.parametrize("name", ["optisar++n.yaml", "optisar++n-late.yaml"])
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("counts", [[3, 3, 3], [2, 5, 5, 1], [1, 1, 1, 1], [70, 70, 200, 300]])
def test_images_together_have_the_results_of_one_after_the_other(
    name: str, k: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "late" not in name and max(counts) > 5:
        pytest.skip("each expression has a pyramid of its own; nothing is taken together")
    torch.manual_seed(0)
    net = GroundingModel(name, verbose=False).eval()
    net.fuse(verbose=False)
    sizes: list[tuple[int, int]] = []
    match_all = net.match_all
    monkeypatch.setattr(net, "match_all", lambda e, t: (sizes.append((len(t), t.shape[1])), match_all(e, t))[1])
    with torch.inference_mode():
        encoded = net.encode(torch.rand(len(counts), 3, 64, 96))
        rows = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        texts = torch.nn.functional.normalize(torch.randn(len(rows), net.text_dim), dim=-1)
        single = grounding.ground(net, encoded, rows, texts, k)
        assert all(images == 1 for images, _ in sizes)
        scored = grounding._scored
        monkeypatch.setattr(grounding, "_scored", lambda *a: scored(*a[:4], True))
        sizes.clear()
        boxes, confs = grounding.ground(net, encoded, rows, texts, k)
    assert boxes.shape == (len(rows), k, 4)
    torch.testing.assert_close(confs, single[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes, single[0], atol=0.01, rtol=0)
    if "late" in name and counts == [3, 3, 3]:
        assert sizes == [(3, 3)]
    assert all(images * texts <= grounding.TEXT_BATCH for images, texts in sizes)
