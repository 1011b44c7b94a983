"""A small network with the batch it trains on, for the tests of the network's parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo import OptiSAR
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.plmoe import CosineGate
from optisar_yolo.nn.yaml import load_model_yaml
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

WIDTH = 48  # of the text features: small, and no multiple of what the network is built of


def network(
    seed: int = 0,
    alive: bool = True,
    scale: str = "n",
    text_dim: int = WIDTH,
    kind: str = "",
    compare: int | None = None,
) -> GroundingModel:
    """Build a network with random weights.

    Args:
        seed: Of the weights.
        alive: Move every parameter and running statistic off its start, so that nothing is zero and no part idles.
        scale: One of n, s, m, l and x.
        text_dim: Width of a text feature.
        kind: Of the model's YAML: "", "-baseline" or "-released".
        compare: Candidates that the head compares; as in the YAML by default.
    """
    torch.manual_seed(seed)
    description = load_model_yaml(f"optisar++{scale}{kind}.yaml")
    if compare is not None:
        description["head"][-1][3] = [*description["head"][-1][3][:2], compare]
    model = GroundingModel(description, verbose=False, text_dim=text_dim)
    model.args = SimpleNamespace(**DEFAULT_CFG_DICT | OPTISAR_DEFAULTS)
    if alive:
        shake(model)
    return model


def shake(module: torch.nn.Module) -> None:
    """Add noise to all parameters and running statistics."""
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.1 * torch.randn_like(buffer)
            elif name.endswith("running_var"):
                buffer *= 0.5 + torch.rand_like(buffer)


def unit(*shape: int) -> Tensor:
    """Random vectors of length 1."""
    return F.normalize(torch.randn(*shape), dim=-1)


def training_batch(
    b: int = 4, side: int = 96, t: int = 5, text_dim: int = WIDTH, sizes: tuple[float, ...] = (0.2, 0.3)
) -> dict[str, Any]:
    """A batch as the data set collates it: b square images with objects of the given sizes (shares), and t texts.

    The last image is padded: it covers the upper three quarters of its canvas.
    """
    objects = len(sizes)
    n = b * objects
    extent = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(b, 1)
    extent[-1, 3] = 0.75
    size = torch.tensor(sizes).repeat(b)[:, None] * (0.9 + 0.2 * torch.rand(n, 2))
    centre = size / 2 + (1 - size).clamp(min=0) * torch.rand(n, 2) * 0.7
    own = torch.arange(n) % objects
    targets = F.one_hot(own, t).float()
    return {
        "img": torch.rand(b, 3, side, side),
        "extent": extent,
        "bboxes": torch.cat((centre, size), 1),
        "cls": own.float(),
        "targets": targets,
        "batch_idx": torch.arange(b).repeat_interleave(objects).float(),
        "txt_feats": unit(b, t, text_dim),
        "guide": torch.zeros(b, dtype=torch.long),
    }


def train_step(model: GroundingModel, batch: dict[str, Any], rate: float = 0.01) -> dict[str, Tensor]:
    """Compute the gradients of one batch, and take a step of plain descent along them; the terms of the loss."""
    model.train()
    model.zero_grad()
    loss, terms = model.loss(batch)
    loss.sum().backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= rate * p.grad / (1 + p.grad.norm())
    return terms


SIZE = 128  # pixels, of `spread`


def settle(model: GroundingModel, side: int = 128) -> GroundingModel:
    """Set running statistics as training would, so that in evaluation, too, answers depend on image and expression.

    Boxes then are about 3 cells wide and confidences spread around 0.3.
    """
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    smooth = F.interpolate(torch.rand(16, 3, 6, 8), (side // 2, side), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        model.train().predict(smooth, unit(16, 1, model.text_dim))
        for head, box in zip(model.head.cv4, model.head.cv2, strict=True):
            head.bias.fill_(-1.0)
            box[-1].weight.mul_(20)
            box[-1].bias.copy_(-0.5 * torch.arange(16.0).repeat(4))
    for m in norms:
        m.momentum = 0.03
    return model.eval()


def spread(name):
    """Random weights whose scores depend on image and expression, and whose patches choose several experts."""
    torch.manual_seed(0)
    model = OptiSAR(name)
    settle(model.model)
    for gate in (m for m in model.model.modules() if isinstance(m, CosineGate)):
        torch.nn.init.normal_(gate.experts)
        torch.nn.init.normal_(gate.project.weight)
    model.overrides |= {"imgsz": SIZE, "save": False, "verbose": False}
    return model
