"""Weights of other networks: taken by place and meaning, said in one line, refused where nothing fits."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from tiny_net import network, shake, unit
from torch import nn
from ultralytics.nn.modules import C3k2
from ultralytics.nn.tasks import DetectionModel, SegmentationModel, YOLOEModel

from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.transfer import TransferError, match_weights, transfer


@lru_cache
def _stock(name: str) -> nn.Module:
    torch.manual_seed(1)
    kind = YOLOEModel if "yoloe" in name else SegmentationModel if "-seg" in name else DetectionModel
    model = kind(name, verbose=False)
    shake(model)
    return model.eval()


def stock(name: str) -> nn.Module:
    """A network of Ultralytics with random weights, of the test's own."""
    return deepcopy(_stock(name))


@lru_cache
def _network(kind: str, seed: int) -> GroundingModel:
    return network(seed=seed, kind=kind)


def ours(kind: str = "-late", seed: int = 0) -> GroundingModel:
    """A network of ours with random weights, of the test's own."""
    return deepcopy(_network(kind, seed))


def maps(model: nn.Module, image: torch.Tensor, upto: int) -> dict[int, torch.Tensor]:
    """Outputs of the first rows of a network, by row."""
    found: dict[int, torch.Tensor] = {}
    x = image
    with torch.no_grad():
        for row in model.model[:upto]:
            if row.f != -1:
                x = found[row.f] if isinstance(row.f, int) else [x if j == -1 else found[j] for j in row.f]
            x = found[row.i] = row(x)
    return found


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 3, 64, 64)


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yoloe-11n.yaml", "yolo11n-seg.yaml"])
def test_all_maps_of_a_network_built_like_yolo11_are_the_same(name: str, image: torch.Tensor) -> None:
    own, other = ours("-baseline").eval(), stock(name)
    found = transfer(own, other)
    here, there = maps(own, image, 23), maps(other, image, 23)
    for row, value in there.items():
        assert torch.allclose(here[row], value, atol=1e-5), row
    boxes = [
        torch.cat([b(there[j]).flatten(2) for b, j in zip(m.model[-1].cv2, (16, 19, 22), strict=True)], 2)
        for m in (own, other)
    ]
    assert torch.allclose(*boxes, atol=1e-5)
    assert not any(k.startswith(f"model.{i}.") for k in found.left for i in range(23))
    assert {k.split(".")[2] for k in found.left} == {"cv3", "cv4", "adapter", "regions"}


def test_maps_before_a_block_of_ours_are_the_same(image: torch.Tensor) -> None:
    own, other = ours().eval(), stock("yolo11n.yaml")
    found = transfer(own, other)
    here, there = maps(own, image, 8), maps(other, image, 8)
    assert all(torch.allclose(here[row], value, atol=1e-5) for row, value in there.items())
    # PL-MoE splits its map as C3k2 does: the first convolution gives the same halves, the last one joins them
    halves = [m.model[8].cv1(there[7]) for m in (own, other)]
    assert torch.allclose(*halves, atol=1e-5)
    assert {k.split(".")[2] for k in found.left if k.startswith("model.8.")} == {"m"}
    # SPPF and the neck compute the same from the same map
    with torch.no_grad():
        assert torch.allclose(own.model[9](image_of(other, 9)), other.model[9](image_of(other, 9)), atol=1e-5)


def image_of(other: nn.Module, row: int) -> torch.Tensor:
    torch.manual_seed(row)
    return torch.randn(1, other.model[row].cv1.conv.in_channels, 6, 6)


def test_the_line_says_what_was_taken(image: torch.Tensor) -> None:
    found = match_weights(network(kind="-late", text_dim=384, alive=False), stock("yolo11n.yaml"))
    line = found.line()
    assert line.startswith("transferred 397 of 559 tensors, 63 % of the parameters; not taken: row 8 (inner blocks")
    for part in ("class branches", "scores", "reranker", "text adapter", "regions"):
        assert f"head: {part}" in line
    assert len(found.taken) + len(found.left) == found.tensors == 559
    assert not found.taken.keys() & found.left.keys()


def test_yolo26_computes_another_sppf_and_neck(image: torch.Tensor) -> None:
    own, other = ours().eval(), stock("yolo26n.yaml")
    fits = {
        k for k, v in own.state_dict().items() if (t := other.state_dict().get(k)) is not None and t.shape == v.shape
    }
    found = transfer(own, other)
    assert all(k in fits for k in own.state_dict() if k.startswith("model.9."))  # by name and shape it would be taken
    assert not any(k.startswith("model.9.") for k in found.taken)
    assert "SPPF with add=True there" in found.line()
    here, there = maps(own, image, 8), maps(other, image, 8)
    assert all(torch.allclose(here[row], value, atol=1e-5) for row, value in there.items())
    # row 22 there ends in attention, whose convolutions have other meanings under the names of ours
    assert not any(k.startswith("model.22.m.") for k in found.taken)


def test_an_activation_that_differs_counts(image: torch.Tensor) -> None:
    other = stock("yolo11n.yaml")
    other.model[9].cv1.act = nn.Identity()  # as YAML-built networks of some versions of Ultralytics have it
    found = match_weights(ours(), other)
    assert not any(k.startswith("model.9.") for k in found.taken) and "Identity there, SiLU here" in found.line()
    own = ours()
    del other.model[9].n, other.model[9].add  # older pickles lack them, and did what ours does
    other.model[9].cv1.act = nn.SiLU()
    assert any(k.startswith("model.9.") for k in match_weights(own, other).taken)


def test_stride_and_shortcut_count() -> None:
    other = stock("yolo11n.yaml")
    other.model[3].conv.stride = (1, 1)
    other.model[2].m[0].add = False
    left = match_weights(ours(), other).left
    assert "stride" in left["model.3.conv.weight"] and "model.2.m.0.cv1.conv.weight" in left
    assert isinstance(other.model[2], C3k2)


def test_a_mask_heads_cv4_is_no_score(image: torch.Tensor) -> None:
    found = match_weights(ours(), stock("yolo11n-seg.yaml"))
    assert not any(k.startswith("model.23.cv4.") for k in found.taken)


@pytest.mark.parametrize("name", ["yolo11s.yaml", "yolo26s.yaml"])
def test_another_scale_is_an_error(name: str) -> None:
    with pytest.raises(
        TransferError, match=rf"of scale {name.split('.')[0][-1]}, while optisar\+\+n-late.yaml is of scale n"
    ):
        match_weights(ours(), stock(name))


def test_a_fused_network_is_an_error() -> None:
    with pytest.raises(TransferError, match="fused"):
        match_weights(ours(), stock("yolo11n.yaml").fuse(verbose=False))
    with pytest.raises(TransferError, match="fused"):
        match_weights(ours(), ours().fuse(verbose=False))


def test_a_network_of_which_nothing_fits_is_an_error() -> None:
    with pytest.raises(TransferError, match="nothing of it fits"):
        match_weights(ours(), nn.Linear(2, 2))
    other = nn.Module()
    other.model = nn.Sequential(nn.Conv2d(3, 16, 3))
    other.model[0].f, other.model[0].i = -1, 0
    with pytest.raises(TransferError, match="its first layer does not fit"):
        match_weights(ours(), other)


def test_values_that_are_no_numbers_are_an_error() -> None:
    other = stock("yolo11n.yaml")
    with torch.no_grad():
        other.model[2].cv1.conv.weight[0] = float("nan")
    with pytest.raises(TransferError, match="no finite numbers"):
        match_weights(ours(), other)


def test_between_networks_of_ours(image: torch.Tensor) -> None:
    first, second = ours(seed=3), ours()
    first.text_model, first.text_fingerprint, first.names = "pocket", "abc", {0: "optical ship"}
    first.wordings, first.facts = ("colour",), {"words": ["ship"]}
    found = second.load(first)
    assert found.goes_on and found.share == 1 and found.line().startswith("transferred 559 of 559 tensors, 100 %")
    assert "not taken" not in found.line()
    text = unit(1, 1, second.text_dim)
    assert torch.equal(first.eval().predict(image, text)["scores"], second.eval().predict(image, text)["scores"])
    assert (second.text_fingerprint, second.names, second.wordings) == ("abc", {0: "optical ship"}, ("colour",))
    assert second.facts == {"words": ["ship"]}


def test_a_block_of_ours_is_no_c3k2() -> None:
    found = match_weights(ours(), ours(""))
    assert "row 16, row 19, row 22 (TGDFSSA there, C3k2 here)" in found.line()
    assert "head: reranker (nothing like it there)" in found.line() and not found.goes_on
    assert any(k.startswith("model.8.m.") for k in found.taken)  # the experts are the same


def test_layers_that_read_text_need_the_same_encoder() -> None:
    first, second = ours(seed=3), ours()
    first.text_model, second.text_model = "mobileclip2:b", "pocket"
    found = match_weights(second, first)
    assert "text encoder mobileclip2:b there, pocket here" in found.line() and not found.goes_on
    assert {k.split(".")[2] for k in found.left} == {"cv4", "adapter", "regions", "reranker"}
    wide = match_weights(network(kind="", text_dim=64, alive=False), ours(""))
    assert "text features of 48 numbers there, 64 here" in wide.line()
    same_width, other = ours(""), ours("", seed=3)
    same_width.text_model, other.text_model = "pocket", "sbert:x"
    for found in (wide, match_weights(same_width, other)):
        assert {k.split(".")[4] for k in found.left if k.startswith("model.16.attn.guide.")} == {"0", "1", "3", "4"}
        assert "model.16.attn.attention_gate" in found.left
        assert any(".attn.value." in k for k in found.taken)


def test_the_imported_release_keeps_its_own_blocks() -> None:
    found = match_weights(ours(), GroundingModel("optisar++n-official.yaml", verbose=False))
    line = found.line()
    assert "row 9 (Identity there, SiLU here)" in line and "inner blocks: FittedPLMoE there" in line
    assert any(k.startswith("model.23.cv2.") for k in found.taken)  # boxes are computed alike


def test_nothing_is_kept_of_a_network_that_is_only_partly_taken(tmp_path: Path) -> None:
    own = ours()
    own.load(stock("yolo11n.yaml"))
    assert own.text_fingerprint == "" and own.names == {0: "object"}
