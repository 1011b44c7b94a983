"""The whole network against outputs recorded from a re-creation of the authors' release, with the release's weights.

The recordings are not part of the repository; without them what needs them is skipped.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from test_parity import mixture_keys, ready

from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.plmoe import PLMoE
from optisar_yolo.nn.yaml import load_model_yaml
from optisar_yolo.paper.blocks import FittedPLMoE, fitted_side
from optisar_yolo.paper.release import UNUSED, our_name, translate, why_unused

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "parity"
EXACT = {"rtol": 0, "atol": 1e-9}  # double against double precision
# the recordings' own single precision, by their description: boxes 6e-2 px, logits 2e-3; distributions are logits
SINGLE = {"rtol": 0, "atol": 2e-3}
TRAINPATH = {"rtol": 0, "atol": 5e-3}  # recorded in single precision alone, where distributions reach 250
PIXELS = {"rtol": 0, "atol": 6e-2}


def recording(name):
    """Load a file of recordings."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"recordings of the release are not part of the repository, and {FOLDER / name} does not exist")
    return torch.load(FOLDER / name, weights_only=True)


@pytest.fixture(scope="module")
def recorded():
    return recording("parity_n.pt")


@pytest.fixture(scope="module")
def network(recorded):
    """Our network of the release's arithmetic with the recorded weights, in double precision."""
    model = GroundingModel("optisar++n-official.yaml", verbose=False)
    theirs = translate(recorded["state_dict"])
    own = model.state_dict()
    assert own.keys() == theirs.keys()
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in theirs.items()})
    return model.double().eval()


def answers(model, img, text, raw=False):
    """Ask all texts together, as the release does, with region maps and the load balance that it computes, too."""
    model.head.training = model.model[8].m[0].training = True  # without noise: their parts stay in evaluation
    model.training = raw  # the guide is the raw text in training
    try:
        with torch.no_grad():
            return model.predict(img, text, guide=torch.full((len(img),), -1))
    finally:
        model.eval()


def decoded(model, preds):
    """All boxes as centre and size, and confidences: [B, 4 + T, A]."""
    count = preds["scores"].shape[2]
    left, right = model.head.boxes_at(preds, torch.arange(count)[None]).transpose(1, 2).chunk(2, 1)
    return torch.cat(((left + right) / 2, right - left, preds["scores"].sigmoid()), 1)


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("size", ["64x64", "256x320", "640x640"])
def test_network(recorded, network, size, texts):
    """Adapted text, distributions, logits, regions, load balance and boxes of inference."""
    case = recorded["cases"][size, texts]
    reference = case.get("f64", case)
    close, pixels = (EXACT, EXACT) if "f64" in case else (SINGLE, PIXELS)
    text = recorded["texts"][texts].double()
    preds = answers(network, recorded["images"][size].double(), text)
    torch.testing.assert_close(network.head.adapt(text), case["pe"].double(), rtol=0, atol=1e-6)
    for ours_, theirs in ((preds["boxes"], reference["boxes"]), (preds["scores"], reference["scores"])):
        torch.testing.assert_close(ours_, theirs.double(), **close)
    for ours_, theirs in zip(preds["regions"], reference["regions"], strict=True):
        torch.testing.assert_close(ours_, theirs.double(), **close)
    torch.testing.assert_close(network.balance(), reference["moe_loss"].double(), **EXACT)
    torch.testing.assert_close(decoded(network, preds), reference["decoded"].double(), **pixels)


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("size", ["64x64", "256x320", "640x640"])
def test_guide_of_training(recorded, network, size, texts):
    """In training the release guides with raw text; the difference to inference is larger than the tolerance."""
    case = recorded["cases"][size, texts]
    preds = answers(network, recorded["images"][size].double(), recorded["texts"][texts].double(), raw=True)
    torch.testing.assert_close(preds["boxes"], case["boxes_trainpath"].double(), **TRAINPATH)
    torch.testing.assert_close(preds["scores"], case["scores_trainpath"].double(), **TRAINPATH)
    assert (preds["boxes"] - case["boxes"]).abs().max() > 10 * TRAINPATH["atol"]


def test_training_with_frozen_norms(recorded, network):
    case = recorded["train_frozen_256x320_n3"]
    preds = answers(network, recorded["images"]["256x320"].double(), recorded["texts"][3].double(), raw=True)
    for key in ("boxes", "scores"):
        torch.testing.assert_close(preds[key], case[key].double(), **TRAINPATH)
    for ours_, theirs in zip(preds["regions"], case["regions"], strict=True):
        torch.testing.assert_close(ours_, theirs.double(), **TRAINPATH)


def test_query_by_query_is_the_release_asked_one_by_one(recorded, network):
    """What our engine does with several expressions: each alone, whatever the others are."""
    text = recorded["texts"][3].double()
    img = recorded["images"]["64x64"].double()
    with torch.no_grad():
        each = network.predict(img, text)
        for i in range(3):
            alone = answers(network, img, text[:, i : i + 1])
            torch.testing.assert_close(each["scores"][i], alone["scores"][0], **EXACT)


@pytest.mark.parametrize("size", ["7x10", "8x8", "20x20"])
@pytest.mark.parametrize("shape", ["E=8,top2,r=16", "E=2,top2,r=4"])
def test_experts_fall_back_to_smaller_patches(shape, size):
    """Odd sides are where the release's rule and a constant patch differ."""
    r = recording("parity_modules.pt")[f"PLoRA_MoE(48,32,n=1,e=.5,{shape},t=20,coef=.001,daa,ls,minp=2)@{size}"]
    experts, _, rank = r["state_dict"]["m.0.moe.experts.lora1_A"].shape
    weights = mixture_keys(r["state_dict"], 1)
    module = ready(FittedPLMoE(48, 32, 1, experts, 2, rank, 2, False, 20), weights)
    seen = {}
    module.m[0].gate.register_forward_hook(lambda m, i, o: seen.update(gates=o[0], probability=o[1]))
    x = r["inputs"][0]
    assert tuple(fitted_side(s, 2, 20) for s in x.shape[2:]) == tuple(r["patch"])
    out = module(x)
    torch.testing.assert_close(out, r["output"], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen["gates"], r["gates"], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen["probability"], r["router_prob"], rtol=0, atol=1e-5)
    constant = ready(PLMoE(48, 32, 1, experts, 2, rank, 2, False), weights)(x)
    assert torch.allclose(constant, out, atol=1e-4) == (size != "7x10")


def test_patch_of_a_coarse_aim():
    r = recording("parity_modules.pt")["PLoRA_MoE(48,32,n=2,e=.5,E=4,top2,r=8,t=4,coef=.01)@16x16"]
    assert (fitted_side(16, 1, 4),) * 2 == tuple(r["patch"])


def test_names_of_scale_m():
    """Every tensor of the published scale has a place of its shape here, or a reason to be left out."""
    path = FOLDER / "keys_m.txt"
    if not path.is_file():
        pytest.skip(f"names of the release are not part of the repository, and {path} does not exist")
    rows = [line.split("\t") for line in path.read_text().splitlines() if line]
    shapes = {name: ast.literal_eval(shape) for name, shape, _ in rows}
    tensors = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    own = GroundingModel(load_model_yaml("optisar++m-official.yaml"), verbose=False).state_dict()
    theirs = translate(tensors)
    assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in own.items()}
    left_out = [k for k in tensors if why_unused(k)]
    assert len(left_out) == 68 and all(k.startswith("model.23.savpe.") for k in left_out)
    assert len({our_name(k) for k in tensors}) == len(tensors) and UNUSED
