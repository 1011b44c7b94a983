"""Fused networks: the same outputs as the network as trained, with less work."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_net import network, settle, shake, unit
from torch.nn import functional as F

from optisar_yolo.engine.checkpoint import BUNDLED, CheckpointError, load_shared, save_shared
from optisar_yolo.engine.grounding import ground
from optisar_yolo.nn.fuse import ChannelFactors, DensePatchConv, FusedContrastiveHead
from optisar_yolo.nn.head import ContrastiveHead, distributions_at
from optisar_yolo.nn.model import fused_copy
from optisar_yolo.nn.plmoe import PatchConv
from optisar_yolo.nn.tgdf import SpatialShuffleAttention

KINDS = [("", None), ("", 6), ("-late", None), ("-baseline", None)]
EXTENT = torch.tensor([[0.0, 0.0, 1.0, 0.8], [0.0, 0.1, 1.0, 0.9]])


def images(b: int, h: int, w: int) -> torch.Tensor:
    """Smooth images, as the networks here are settled on."""
    return F.interpolate(torch.rand(b, 3, 6, 8).double(), (h, w), mode="bicubic").clamp(0, 1)


@pytest.fixture(params=KINDS, ids=lambda k: f"{k[0] or 'guided'}{k[1] or ''}")
def pair(request):
    """A network and its fused copy, both in double precision."""
    torch.manual_seed(1)
    model = settle(network(kind=request.param[0], compare=request.param[1])).double()
    return model, copy.deepcopy(model).fuse(verbose=False)


def test_outputs_equal_those_of_the_network(pair):
    model, fused = pair
    img, text = images(2, 64, 128), unit(2, 3, model.text_dim).double()
    with torch.inference_mode():
        expected, found = model.predict(img, text), fused.predict(img, text)
        assert torch.allclose(expected["scores"], found["scores"], rtol=1e-7, atol=1e-7)
        boxes, conf = model.head.decode(expected, 2)
        same, again = fused.head.decode(found, 2)
    # no box map was made, unless there were many candidates
    assert (found["boxes"] is None) == (model.head.reranker is None or model.head.reranker.candidates == 6)
    assert torch.allclose(conf, again, atol=1e-6) and torch.allclose(boxes, same, atol=1e-5)
    assert boxes.std() > 1  # there is something to compare


def test_trained_weights_keep_their_scores():
    model = load_shared(BUNDLED / "optisar++n-pocket.safetensors").eval()
    img, text = torch.rand(2, 3, 160, 256), unit(2, 3, model.text_dim)
    with torch.inference_mode():
        expected, found = (m.predict(img, text, EXTENT)["scores"] for m in (model, fused_copy(model)))
    assert torch.allclose(expected, found, atol=1e-4) and expected.std() > 0.5


def test_folded_head_scores_as_the_head():
    torch.manual_seed(0)
    head = ContrastiveHead(24, 48)
    shake(head)
    head.eval()
    f, text = torch.randn(2, 24, 4, 5), unit(2, 3, 48)
    with torch.no_grad():
        assert torch.allclose(FusedContrastiveHead(head)(f, text), head(f, text), atol=1e-5)


def test_dense_patches_are_the_normalised_patch_convolution():
    torch.manual_seed(0)
    for patch in (2, 4):
        conv, norm = PatchConv(6, 10, patch), torch.nn.BatchNorm2d(10).eval()
        shake(norm)
        x = torch.randn(2, 6, 8, 12)
        with torch.no_grad():
            assert torch.allclose(DensePatchConv(conv, norm)(x), norm(conv(x)), atol=1e-5)


def test_expressions_of_encoded_images(pair):
    """Few anchors and so many that all boxes are computed: the boxes agree."""
    model, fused = pair
    img, text = images(2, 64, 128), unit(5, model.text_dim).double()
    rows = torch.tensor([0, 0, 0, 1, 1])
    with torch.inference_mode():
        for k in (1, 40):
            expected, found = (ground(m, m.encode(img), rows, text, k) for m in (model, fused))
            assert torch.allclose(expected[0][:, 0], found[0][:, 0], atol=1e-5)
            assert torch.allclose(expected[1], found[1], atol=1e-6)


@pytest.mark.parametrize("compare", [None, 6])
def test_it_runs_in_bfloat16(compare):
    """Under autocasting, as a processor that computes in it does; boxes come from windows there too."""
    torch.manual_seed(1)
    fused = fused_copy(settle(network(kind="-late", compare=compare)))
    img, text = images(2, 64, 128).float(), unit(4, fused.text_dim)
    with torch.inference_mode():
        exact = ground(fused, fused.encode(img), torch.tensor([0, 0, 1, 1]), text)
        with torch.autocast("cpu", torch.bfloat16):
            found = ground(fused, fused.encode(img), torch.tensor([0, 0, 1, 1]), text)
    assert torch.allclose(exact[1], found[1].float(), atol=0.1)


def test_windows_give_every_box():
    """Also those at the borders and corners of each level, and of maps narrower than a window."""
    torch.manual_seed(0)
    fused = fused_copy(settle(network()))
    for h, w in ((96, 160), (32, 64)):
        with torch.inference_mode():
            encoded = fused.encode(images(2, h, w).float())
            maps = fused.head_inputs(encoded, unit(2, 1, fused.text_dim))
            dense = fused.head._distributions(maps)
            index = torch.randperm(dense.shape[2]).repeat(2, 1)
            index[1] = index[1].flip(0)
            found = distributions_at(fused.head.cv2, maps, index)
        expected = dense.gather(2, index[:, None].expand(-1, dense.shape[1], -1))
        assert torch.allclose(found, expected, atol=1e-4) and expected.std() > 0.1


@pytest.mark.parametrize("channels", [64, 192])
def test_factors_and_order_are_the_shuffle_attention(channels):
    torch.manual_seed(0)
    ssa = SpatialShuffleAttention(channels, groups=16).eval()
    shake(ssa)
    for p in ssa.parameters():
        p.data += torch.randn_like(p)
    x = torch.randn(2, channels, 5, 7)
    factors = ChannelFactors(ssa, channels)
    with torch.no_grad():
        assert torch.allclose((x * factors(x))[:, factors.order], ssa(x), atol=1e-6)


def test_the_network_itself_stays_trainable_and_as_it_was():
    model = settle(network())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = fused_copy(model)
    assert fused.is_fused() and not model.is_fused()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in model.parameters())
    again = copy.deepcopy(fused).fuse(verbose=False)  # nothing left to do
    assert len(list(again.modules())) == len(list(fused.modules()))


def test_fused_weights_are_not_shared(tmp_path):
    with pytest.raises(CheckpointError, match="fused"):
        save_shared(fused_copy(network()), tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())
