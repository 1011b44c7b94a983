"""The network's parts against outputs recorded from a re-creation of the authors' release, with the release's weights.

The recordings are not part of the repository; without them all of this is skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optisar_yolo.nn.head import ContrastiveHead, GroundingDetect, region_labels
from optisar_yolo.nn.plmoe import CosineGate, DualAdaptiveAttention, PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA, DualGateFusion, SpatialShuffleAttention

FILE = Path(__file__).resolve().parents[3] / "shared" / "parity" / "parity_modules.pt"
CLOSE = {"rtol": 0, "atol": 1e-5}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def recorded():
    """All recordings, by the release's description of the module."""
    if not FILE.is_file():
        pytest.skip(f"recordings of the release are not part of the repository, and {FILE} does not exist")
    return torch.load(FILE, weights_only=True)


def ready(module: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Load weights and set the release's constant of normalisation."""
    module.load_state_dict(weights)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 1e-3
    return module.eval()


def attention_keys(weights, prefix=""):
    """Names of the dual adaptive attention; the release's linear layers are 1x1 convolutions here."""
    out = {}
    for key, value in weights.items():
        if not key.startswith(prefix):
            continue
        part, number, name = key[len(prefix) :].split(".")
        if part == "channel_attn":
            number = {"2": "1", "4": "3"}[number]
            value = value[..., None, None] if name == "weight" else value
        out[f"{part.removesuffix('_attn')}.{number}.{name}"] = value
    return out


def mixture_keys(weights, blocks):
    """Names of PL-MoE; there A [E, out, r] and B [E, r, in], here one matrix of all experts' maps each."""
    out = {}
    for conv in ("cv1", "cv2"):
        for key, value in weights.items():
            for number, name in (("0", "conv"), ("1", "bn")):
                if key.startswith(f"{conv}.{number}."):
                    out[f"{conv}.{name}.{key.split('.')[-1]}"] = value
    for i in range(blocks):
        theirs, ours = f"m.{i}.", {}
        ours["scale1"], ours["scale2"] = weights[theirs + "layer_scale_daa"], weights[theirs + "layer_scale_moe"]
        ours |= {f"daa.{k}": v for k, v in attention_keys(weights, theirs + "daa.").items()}
        ours |= {f"{n}.{k}": weights[f"{theirs}{n}.{k}"] for n in ("norm1", "norm2") for k in NORM}
        gate, experts = theirs + "moe.gate.", theirs + "moe.experts."
        ours["gate.noise"] = weights[theirs + "moe.w_noise"]
        ours["gate.temperature"], ours["gate.experts"] = weights[gate + "temperature"], weights[gate + "sim_matrix"]
        ours |= {f"gate.project.{k}": weights[f"{gate}cosine_projector.{k}"] for k in ("weight", "bias")}
        ours["experts.gamma"] = weights[experts + "lora_scale"]
        for j in "12":
            ours[f"experts.conv{j}.weight"] = weights[f"{experts}shared_conv{j}.0.weight"]
            ours |= {f"experts.norm{j}.{k}": weights[f"{experts}shared_conv{j}.1.{k}"] for k in NORM}
            up, down = weights[f"{experts}lora{j}_A"], weights[f"{experts}lora{j}_B"]
            ours[f"experts.up{j}.weight"] = up.permute(1, 0, 2).flatten(1)[..., None, None]
            ours[f"experts.down{j}.weight"] = down.flatten(0, 1)[..., None, None]
        out |= {f"m.{i}.{k}": v for k, v in ours.items()}
    return out


FUSION_KEYS = (
    ("weight_gate", "attention_gate"), ("gl.proj.", "guide."), ("proj_conv", "value"), ("ec.", "embed."),
    ("guide.4", "guide.3"), ("guide.5", "guide.4"),
)  # fmt: skip


def fusion_keys(weights):
    out = {}
    for key, value in weights.items():
        for theirs, ours in FUSION_KEYS:
            key = key.replace(theirs, ours)
        out[key] = value
    return out


def test_gate(recorded):
    r = recorded["CosineTopKGate(32,4)"]
    w = r["state_dict"]
    gate = CosineGate(32, 4, 4)
    gate = ready(
        gate,
        {
            "temperature": w["temperature"], "experts": w["sim_matrix"], "noise": gate.noise.data,
            "project.weight": w["cosine_projector.weight"], "project.bias": w["cosine_projector.bias"],
        },
    )  # fmt: skip
    gates, probability = gate(r["inputs"][0])
    # the release's gate returns logits; with all experts kept, ours returns their softmax
    torch.testing.assert_close(gates, r["output"].softmax(1), **CLOSE)
    torch.testing.assert_close(probability, r["output"].softmax(1), **CLOSE)


def test_dual_adaptive_attention(recorded):
    r = recorded["DualAdaptiveAttention(32)"]
    module = ready(DualAdaptiveAttention(32), attention_keys(r["state_dict"]))
    torch.testing.assert_close(module(r["inputs"][0]), r["output"], **CLOSE)


@pytest.mark.parametrize("size", ["8x8", "10x12", "20x20"])
@pytest.mark.parametrize("shape", ["E=8,top2,r=16", "E=2,top2,r=4"])
def test_mixture_of_experts(recorded, shape, size):
    """Maps of even sides, where the release's patch is the one that we keep to."""
    r = recorded[f"PLoRA_MoE(48,32,n=1,e=.5,{shape},t=20,coef=.001,daa,ls,minp=2)@{size}"]
    assert tuple(r["patch"]) == (2, 2)
    experts, _, rank = r["state_dict"]["m.0.moe.experts.lora1_A"].shape
    module = ready(PLMoE(48, 32, 1, experts, 2, rank, 2, daa_residual=False), mixture_keys(r["state_dict"], 1))
    seen = {}
    module.m[0].gate.register_forward_hook(lambda m, i, o: seen.update(gates=o[0], probability=o[1]))
    out = module(r["inputs"][0])
    torch.testing.assert_close(out, r["output"], **CLOSE)
    torch.testing.assert_close(seen["gates"], r["gates"], **CLOSE)
    torch.testing.assert_close(seen["probability"], r["router_prob"], **CLOSE)
    corrected = ready(PLMoE(48, 32, 1, experts, 2, rank, 2), mixture_keys(r["state_dict"], 1))(r["inputs"][0])
    assert (corrected - r["output"]).abs().max() > 1e-2  # the attention that the release loses


def test_shuffle_attention(recorded):
    r = recorded["SpatialShuffleAttention(64,groups=8)"]
    module = ready(SpatialShuffleAttention(64, 8), r["state_dict"])
    torch.testing.assert_close(module(r["inputs"][0]), r["output"], **CLOSE)


@pytest.mark.parametrize("texts", [1, 5])
def test_fusion(recorded, texts):
    r = recorded[f"MaxSigmoidAttn(16,16,nh=4,ec=32,gc=24) txt{texts}"]
    module = ready(DualGateFusion(16, 24, 32, 4), fusion_keys(r["state_dict"]))
    torch.testing.assert_close(module(*r["inputs"]), r["output"], **CLOSE)


@pytest.mark.parametrize("texts", [1, 5])
def test_fusion_block(recorded, texts):
    r = recorded[f"TGDG_SSA(64,32,n=2,ec=32,nh=4,groups=8,ssa,enh,gc=24) txt{texts}"]
    module = ready(TGDFSSA(64, 32, 2, 24, 32, 4, 8), fusion_keys(r["state_dict"]))
    x, text = r["inputs"]
    torch.testing.assert_close(module(x, text.expand(len(x), -1, -1)), r["output"], **CLOSE)


def test_contrastive_head(recorded):
    """Its embedding map is given here: the linear layer before it is the identity."""
    r = recorded["BNContrastiveHead(24)"]
    head = ContrastiveHead(24, 24)
    identity = {"embed.weight": torch.eye(24)[..., None, None], "embed.bias": torch.zeros(24)}
    head = ready(head, r["state_dict"] | identity)
    f, text = r["inputs"]
    torch.testing.assert_close(head(f, F.normalize(text, dim=-1)), r["output"].flatten(2), **CLOSE)


@pytest.fixture(scope="module")
def detect():
    """A head for texts of width 24 with 12 hidden channels in the region branches, as recorded."""
    return GroundingDetect(text_dim=24, position=False, ch=(12, 12, 12)).eval()


def test_adapter(recorded, detect):
    r = recorded["Residual(SwiGLUFFN(24,24))"]
    ready(detect.adapter, r["state_dict"])
    torch.testing.assert_close(detect.adapter(r["inputs"][0]), r["output"], **CLOSE)
    torch.testing.assert_close(detect.adapt(r["inputs"][0]), F.normalize(r["output"], dim=-1), **CLOSE)


@pytest.mark.parametrize(("level", "grid"), [(0, 4), (1, 2)])
def test_region_branch(recorded, detect, level, grid):
    """Region maps, Eq. 8 labels and Eq. 9 losses with and without foreground."""
    from optisar_yolo.nn.loss import GroundingLoss

    r = recorded[f"SpatialGridHead(24,{grid},{grid},12)"]
    assert detect.grids[level] == grid
    weights = {k.removeprefix("grid_head."): v for k, v in r["state_dict"].items()}
    maps = ready(detect.regions[level], weights)(r["inputs"][0])
    torch.testing.assert_close(maps, r["output"], **CLOSE)
    whole = torch.tensor([[0.0, 0, 1, 1]]).expand(2, 4)
    labels = region_labels(10, 12, whole, grid, grid)
    assert torch.equal(labels[0], r["labels"].long())
    loss = GroundingLoss.__new__(GroundingLoss)
    loss.grids = [grid]
    for foreground, key in ((torch.zeros(2, 10, 12), "loss"), (r["fg"], "loss_fg")):
        ours = loss._region([maps], foreground.flatten(1).bool(), whole)
        torch.testing.assert_close(ours, r[key], **CLOSE)
