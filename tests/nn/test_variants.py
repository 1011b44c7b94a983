"""The networks of the ablation: every variant builds, trains a step, predicts, and has the parts its name says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny_net import network, settle, shake, train_step, training_batch, unit

from optisar_yolo.engine import grounding
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.plmoe import PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA
from optisar_yolo.nn.yaml import load_model_yaml
from optisar_yolo.plugin.settings import SETTINGS, check

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from variants import VARIANTS  # noqa: E402


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_builds(name):
    """Its rows parse, its settings are accepted, and parts that its name leaves out are left out."""
    variant = VARIANTS[name]
    description = load_model_yaml(variant.model.replace("++", "++n"))
    for edit in variant.edits:
        edit(description)
    model = GroundingModel(description, verbose=False, text_dim=16)
    blocks = {type(m) for m in model.modules()}
    assert (PLMoE in blocks) == (name not in ("baseline", "adversarial", "no-experts"))
    late = name == "compare-no-fusion" or name.startswith("late-")
    assert (TGDFSSA in blocks) == (not late and name not in ("baseline", "adversarial", "experts", "no-fusion"))
    assert model.head.position == (
        name not in ("released", "baseline", "adversarial", "experts", "paper", "no-position")
    )
    assert (model.head.reranker is not None) == (late or name == "compare")
    check({k: v for k, v in variant.settings.items() if k in SETTINGS})


@pytest.mark.parametrize("kind", ["-baseline", "-released", "-late"])
def test_packaged_networks_train_and_predict(kind):
    """A step is finite; expressions alone and together agree; without fusion no box depends on the expression."""
    torch.manual_seed(0)
    model = network(kind=kind)
    terms = train_step(model, training_batch())
    assert all(torch.isfinite(v).all() for v in terms.values())
    model = settle(model)
    img, text = torch.rand(2, 3, 96, 64), unit(2, 3, model.text_dim)
    with torch.no_grad():
        together = model.predict(img, text)
        alone = model.predict(img[:1], text[:1, :1])
    assert torch.allclose(together["scores"][:1], alone["scores"], rtol=1e-3, atol=1e-2)
    boxes = together["boxes"].view(2, 3, *together["boxes"].shape[1:])
    if kind != "-released":
        assert torch.equal(boxes[:, 0], boxes[:, 1])


def test_all_expressions_together_may_guide():
    """Guide -1: Eq. 5's maximum over all expressions, another pyramid than one expression's."""
    torch.manual_seed(0)
    model = network().train()
    batch = training_batch()
    union = model.predict(batch["img"], batch["txt_feats"], batch["extent"], torch.full((4,), -1))
    torch.manual_seed(1)
    one = model.predict(batch["img"], batch["txt_feats"], batch["extent"], batch["guide"])
    assert union["scores"].shape == one["scores"].shape
    assert not torch.allclose(union["boxes"], one["boxes"], atol=1e-3)


def test_the_guiding_expression_can_count_more():
    """guide_gain multiplies what the guided expression's scores contribute, and nothing else's."""
    torch.manual_seed(0)
    model = network().train()
    batch = training_batch()
    batch["guide"] = torch.tensor([0, 1, 2, -1])
    with torch.no_grad():
        preds = model.predict(batch["img"], batch["txt_feats"], batch["extent"], batch["guide"].clamp(min=0))
    preds["boxes"].requires_grad_()

    def gradient(gain):
        model.args.guide_gain = gain
        preds["scores"] = preds["scores"].detach().requires_grad_()
        model.loss(batch, preds)[0].sum().backward()
        return preds["scores"].grad

    ratio = gradient(4.0) / gradient(1.0)
    for row, guide in enumerate(batch["guide"].tolist()):
        for t in range(5):
            seen = ratio[row, t][ratio[row, t].isfinite()]
            assert torch.allclose(seen, torch.full_like(seen, 4.0 if t == guide else 1.0), rtol=1e-3)


@pytest.mark.parametrize("compare", [0, 6])
def test_without_fusion_an_image_is_encoded_once(compare, monkeypatch):
    """Many expressions of several images are grounded as one by one, and no layer runs on an image twice."""
    model = settle(network(kind="-baseline", compare=compare))
    if model.head.reranker is not None:
        shake(model.head.reranker)
    img, texts, rows = torch.rand(2, 3, 96, 64), unit(7, model.text_dim), torch.tensor([1, 1, 0, 0, 0, 1, 1])
    extent = torch.tensor([[0.0, 0.1, 1.0, 0.9], [0.0, 0.0, 1.0, 1.0]])
    calls = []
    model.head.cv2[0].register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(grounding, "TEXT_BATCH", 2)  # parts of 2 and 1 expressions
    with torch.inference_mode():
        encoded = model.encode(img, extent)
        boxes, confs = grounding.ground(model, encoded, rows, texts, 3)
        assert len(calls) == 1 and boxes.shape == (7, 3, 4)
        for i, row in enumerate(rows.tolist()):
            one = model.predict(img[row : row + 1], texts[None, i : i + 1], extent[row : row + 1])
            box, conf = model.head.decode(one, 3)
            torch.testing.assert_close(conf[0, 0], confs[i], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(box[0, 0], boxes[i], rtol=1e-4, atol=0.05)
