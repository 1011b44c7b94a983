"""Every tensor of a network is where the network is. Fake tensors have a device and no data, so no GPU is needed."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from optisar_yolo import OptiSAR
from optisar_yolo.nn import GroundingModel
from optisar_yolo.utils import BUNDLED_MODEL


def _move(module: nn.Module) -> None:
    """Put a module's own parameters and buffers on a GPU that is not there."""
    for kept in (module._parameters, module._buffers):
        for key, value in kept.items():
            if value is not None:
                fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                kept[key] = nn.Parameter(fake, False) if kept is module._parameters else fake


@pytest.mark.parametrize("name", ["optisar++n.yaml", "optisar++n-late.yaml", BUNDLED_MODEL])
@pytest.mark.parametrize("fused", [False, True])
def test_a_network_that_is_moved_before_it_is_fused_computes_on_one_device(name: str, fused: bool) -> None:
    source: Any = OptiSAR(name).model if Path(name).suffix != ".yaml" else GroundingModel(name, verbose=False)
    net = copy.deepcopy(source).float().eval()
    assert net.is_fused() is False
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        net.apply(_move)
        net.head.stride = [8.0, 16.0, 32.0]  # a tensor's items have no values here
        net.to = lambda *_args, **_names: net  # Torch cannot change the memory format of fake tensors
        if fused:
            net.fuse(verbose=False)
            assert net.is_fused()
        encoded = net.encode(torch.empty(2, 3, 64, 64, device="cuda"))
        if net.guided:
            rows = torch.tensor([0, 0, 1], device="cuda")
            preds = net.match(encoded.rows(rows), torch.empty(3, net.text_dim, device="cuda"))
        else:
            preds = net.match_all(encoded, torch.empty(2, 3, net.text_dim, device="cuda"))
        boxes, confidences = net.head.decode(preds, 2)
    assert boxes.device.type == confidences.device.type == "cuda"
    assert boxes.shape[2:] == (2, 4)
