"""A network whose answers are spread, for the tests of exports."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.text import load_text_encoder


def lively(kind: str = "") -> GroundingModel:
    """A network in which every part counts: no gate, scale or statistic is at its start, and scores are spread.

    Args:
        kind: Of the model's YAML: "", "-late" or "-baseline".
    """
    torch.manual_seed(3)
    encoder = load_text_encoder("pocket")
    model = GroundingModel(f"optisar++n{kind}.yaml", verbose=False, text_dim=encoder.width)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".dfl." in name:
                continue
            if "gate" in name and p.ndim == 4 or "scale" in name or "gamma" in name:
                p.uniform_(0.5, 1.5)
            elif p.ndim > 1 and not p.any():  # the experts' zero maps, the attention's weights
                p.normal_(0, 0.2)
            elif p.ndim == 1:
                p.add_(torch.empty_like(p).uniform_(-0.2, 0.2))
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 0.5
        model.train()
        for _ in range(4):  # statistics that belong to the weights
            text = F.normalize(torch.randn(2, 3, model.text_dim), dim=-1)
            model.predict(torch.rand(2, 3, 128, 160), text, guide=torch.tensor([0, 1]))
        for box, score in zip(model.head.cv2, model.head.cv4, strict=True):
            box[-1].weight.normal_(0, 0.3)
            score.bias.fill_(-1.0)
    model.text_model, model.text_fingerprint = encoder.name, encoder.fingerprint
    model.args = {"imgsz": 320}
    return model.eval()
