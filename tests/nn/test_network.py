"""The network: its size, that text and gradients reach all of it, and that fast computations equal plain ones."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_net import WIDTH, network, shake, train_step, training_batch, unit
from torch import nn
from torch.nn import functional as F
from ultralytics.nn.modules.block import C3k2
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.tal import dist2bbox, make_anchors

from optisar_yolo.nn.head import ContrastiveHead, GroundingDetect, position_code, region_labels
from optisar_yolo.nn.model import SCALES, GroundingModel, count_table
from optisar_yolo.nn.plmoe import BALANCE_COEFFICIENT, CosineGate, MoEBlock, PatchConv, PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA, SpatialShuffleAttention
from optisar_yolo.nn.yaml import load_model_yaml

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    """A network whose every parameter is off its start; tests that change it take a copy."""
    return network().eval()


@pytest.fixture
def inputs(model):
    """Three images with the middle one padded, and two texts for each."""
    torch.manual_seed(1)
    extent = torch.tensor([[0.0, 0, 1, 1], [0.25, 0, 0.75, 1], [0, 0, 1, 1]])
    return torch.rand(3, 3, 64, 96), extent, unit(3, 2, WIDTH)


def predict(model, *args, **kwargs):
    with torch.inference_mode():
        return model.predict(*args, **kwargs)


# size and rows


@pytest.fixture(scope="module")
def sizes():
    """Millions of parameters by scale, at the text widths 384 and 512, as the table says."""
    rows = [line.replace(" M", "").split() for line in count_table().splitlines()[1:]]
    return {row[0]: (float(row[1]), float(row[2])) for row in rows}


def test_sizes_of_the_five_scales(sizes):
    assert "".join(sizes) == SCALES
    assert sizes["m"][1] == pytest.approx(26.6, rel=0.01)
    for column in (0, 1):
        counts = [sizes[s][column] for s in SCALES]
        assert counts == sorted(counts) and len(set(counts)) == len(counts)
    assert all(wide > narrow for narrow, wide in sizes.values())


def test_size_table_counts_what_is_trained(sizes):
    trained = sum(p.numel() for p in network(alive=False, text_dim=384).parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in network(alive=False, text_dim=384).model[-1].dfl.parameters())
    assert sizes["n"][0] == pytest.approx(trained / 1e6, abs=0.006)
    assert frozen == 16


@pytest.mark.parametrize("scale", ["n", "m"])
def test_rows_shared_with_yolo11_are_the_same_layers(scale):
    ours = GroundingModel(f"optisar++{scale}.yaml", verbose=False).model
    stock = DetectionModel(f"yolo11{scale}.yaml", verbose=False).model
    for row in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13):
        assert type(ours[row]) is type(stock[row]), row
        assert ours[row].f == stock[row].f, row
        shapes, expected = ({k: tuple(v.shape) for k, v in m[row].state_dict().items()} for m in (ours, stock))
        assert shapes == expected, f"row {row}"
    assert isinstance(ours[8], PLMoE) and isinstance(stock[8], C3k2)
    assert [i for i, m in enumerate(ours) if isinstance(m, TGDFSSA)] == [16, 19, 22]


def test_normalisation_settings_are_yolos(model):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}


def test_shared_rows_compute_what_yolo11_does():
    """Not shapes alone: with stock weights, rows 0-7 give stock maps (activations, strides and scales agree)."""
    torch.manual_seed(0)
    ours, stock = network(alive=False).eval(), DetectionModel("yolo11n.yaml", verbose=False).eval()
    x = y = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for row in range(8):
            ours.model[row].load_state_dict(stock.model[row].state_dict())
            x, y = ours.model[row](x), stock.model[row](y)
    assert y.std() > 0
    torch.testing.assert_close(x, y, **CLOSE)


def test_unknown_block_and_scale_are_named(tmp_path):
    text = "nc: 80\nreg_max: 16\ntext_dim: 8\nscales: {n: [1, 1, 64]}\nbackbone: [[-1, 1, Dense, [8]]]\nhead: []\n"
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"own\.yaml: row 0 names the unknown block 'Dense'.*PLMoE"):
        GroundingModel(file, verbose=False)
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match=r"list\.yaml: not a model description"):
        load_model_yaml(tmp_path / "list.yaml")
    file.write_text(text + "scale: q\n")
    with pytest.raises(ValueError, match="no scale 'q', only n"):
        load_model_yaml(file)
    with pytest.raises(FileNotFoundError, match="optisar"):
        load_model_yaml("optisar++n-absent.yaml")


def test_plain_name_is_scale_m():
    assert load_model_yaml("optisar++.yaml")["scale"] == "m"
    assert load_model_yaml("optisar++x.yaml")["scale"] == "x"


# text and gradients


def test_gradients_reach_every_parameter():
    """From the real start; zero-initialised maps block what lies behind them in the first step, so the third counts."""
    torch.manual_seed(0)
    model = network(alive=False)
    # Boxes start 15 cells wide. Started at 3 cells, objects of that size at each stride bring all levels into play.
    for box in model.head.cv2:
        box[-1].bias.data = -0.5 * torch.arange(16.0).repeat(4)
    batch = training_batch(b=6, side=128, sizes=(25 / 128, 49 / 128, 98 / 128))
    for _ in range(3):
        train_step(model, batch, rate=0.1)
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    assert len(trained) > 300
    silent = [k for k, p in trained.items() if p.grad is None or not p.grad.any()]
    broken = [k for k, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()]
    assert (silent, broken) == ([], [])


def test_gates_and_guide_learn_from_the_first_step():
    """With both gates at zero, as released, none of these would ever get a gradient."""
    torch.manual_seed(0)
    model = network(alive=False)
    train_step(model, training_batch())
    watched = {k: p for k, p in model.named_parameters() if "attn.attention_gate" in k or "attn.feature_gate" in k}
    watched |= {k: p for k, p in model.named_parameters() if ".attn.guide." in k and "19" in k}
    assert sum("gate" in k for k in watched) == 6 and any("guide" in k for k in watched)
    assert [k for k, p in watched.items() if not p.grad.any()] == []


@pytest.mark.parametrize("alive", [False, True], ids=["start", "later"])
def test_texts_change_the_pyramid(inputs, alive):
    """From the start: there on batch statistics, since on the initial running ones a network is all but 0."""
    model = network(alive=alive).train(not alive)
    img, extent, text = inputs
    pyramids = []
    with torch.no_grad():
        for i in (0, 1):
            torch.manual_seed(0)  # for dropout and the router's noise
            pyramids.append(model.head_inputs(model.encode(img, extent), model.head.adapt(text[:, i : i + 1])))
    one, other = pyramids
    assert [m.shape[2:] for m in one] == [(8, 12), (4, 6), (2, 3)]
    for a, b in zip(one, other, strict=True):
        assert (a - b).abs().max() > 1e-3 * a.abs().max()


def test_encoded_images_serve_several_texts(model, inputs):
    """What encode returns is all that the text-guided rows need of an image."""
    img, extent, text = inputs
    with torch.inference_mode():
        encoded = model.encode(img, extent)
        once = model.match(encoded, text[:, 0])
        again = model.match(encoded, text[:, 1])
        fresh = model.predict(img, text[:, 1:], extent)
    assert not torch.allclose(once["scores"], again["scores"])
    torch.testing.assert_close(again["scores"], fresh["scores"])
    torch.testing.assert_close(again["boxes"], fresh["boxes"])


def test_texts_together_equal_texts_alone(model, inputs):
    img, extent, text = inputs
    together = predict(model, img, text, extent)
    assert together["scores"].shape == (6, 1, 96 + 24 + 6)
    for t in range(2):
        alone = predict(model, img, text[:, t : t + 1], extent)
        for key in ("scores", "boxes"):
            torch.testing.assert_close(together[key][t::2], alone[key], **CLOSE)


def test_batch_equals_images_alone(model, inputs):
    img, extent, text = inputs
    batch = predict(model, img, text, extent)
    for i in range(len(img)):
        one = predict(model, img[i : i + 1], text[i : i + 1], extent[i : i + 1])
        for key in ("scores", "boxes"):
            torch.testing.assert_close(batch[key][2 * i : 2 * i + 2], one[key], **CLOSE)


def test_training_path_is_the_inference_path(model, inputs):
    """The scores of the guiding text are those of the same text alone."""
    img, extent, text = inputs
    guide = torch.tensor([1, 0, 1])
    trained = predict(model, img, text, extent, guide)
    alone = predict(model, img, text[torch.arange(3), guide][:, None], extent)
    assert trained["scores"].shape[1] == 2
    torch.testing.assert_close(trained["boxes"], alone["boxes"], **CLOSE)
    torch.testing.assert_close(trained["scores"][torch.arange(3), guide], alone["scores"][:, 0], **CLOSE)


def test_evaluation_is_deterministic(model, inputs):
    """Neither dropout nor the router's noise is active in evaluation."""
    img, extent, text = inputs
    torch.manual_seed(1)
    first = predict(model, img, text, extent)
    torch.manual_seed(2)
    second = predict(model, img, text, extent)
    assert torch.equal(first["scores"], second["scores"]) and torch.equal(first["boxes"], second["boxes"])
    assert first["regions"] == []  # the auxiliary branch costs nothing here


def test_dropout_and_noise_work_in_training(model, inputs):
    trained = copy.deepcopy(model).train()
    for part in trained.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()  # so that only chance is left to differ
    img, extent, text = inputs
    first, second = (predict(trained, img, text, extent) for _ in range(2))
    assert not torch.equal(first["scores"], second["scores"])
    assert [r.shape[1] for r in first["regions"]] == [16, 4, 4]


# mixture of experts


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patch_convolution_equals_a_loop_over_patches(patch):
    torch.manual_seed(patch)
    conv = PatchConv(5, 7, patch)
    x = torch.randn(2, 5, 3 * patch, 2 * patch)
    expected = torch.empty(2, 7, 3 * patch, 2 * patch)
    for i in range(3):
        for j in range(2):
            at = (..., slice(i * patch, (i + 1) * patch), slice(j * patch, (j + 1) * patch))
            expected[at] = F.conv2d(x[at], conv.weight, padding=1)
    torch.testing.assert_close(conv(x), expected, **CLOSE)


@pytest.mark.parametrize("size", [(7, 10), (5, 5), (1, 1), (4, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_mixture_keeps_the_shape_of_any_map(size, training):
    torch.manual_seed(0)
    block = PLMoE(12, 16, n=2, experts=4, top_k=2, rank=2, patch=2).train(training)
    out = block(torch.randn(2, 12, *size))
    assert out.shape == (2, 16, *size) and out.isfinite().all()


def test_padding_leaves_whole_patches_alone():
    torch.manual_seed(0)
    block = MoEBlock(8, 4, 2, 2, patch=2).eval()
    shake(block)
    nn.init.zeros_(block.daa.channel[3].weight)  # the channel gate's mean sees the whole map; without it all is local
    x = torch.randn(1, 8, 6, 7)
    torch.testing.assert_close(block(x)[..., :6], block(x[..., :6]), **CLOSE)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.booleans(), st.integers(0, 99))
def test_gates_keep_k_experts_and_sum_to_one(k, more, training, seed):
    torch.manual_seed(seed)
    gate = CosineGate(10, k + more, k).train(training)
    gates, probability = gate(torch.randn(9, 10))
    assert ((gates > 0).sum(1) == k).all() and (gates >= 0).all()
    torch.testing.assert_close(gates.sum(1), torch.ones(9))
    torch.testing.assert_close(probability.sum(1), torch.ones(9))
    # what is kept is what the router finds likeliest
    assert torch.equal(gates.topk(k).indices.sort().values, probability.topk(k).indices.sort().values)


def balance_of(share, probability, experts=4, k=2):
    """The balance loss of a block whose router gives these values."""
    block = MoEBlock(8, experts, k, 2, patch=2).train()
    block.gate.forward = lambda g: (share, probability)
    with torch.no_grad():
        block(torch.randn(1, 8, 4, 4))
    return float(block.balance)


def test_balance_is_least_where_patches_are_spread_evenly():
    even = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]).repeat(2, 1)
    least = balance_of(even, torch.full((4, 4), 0.25))
    assert least == pytest.approx(BALANCE_COEFFICIENT * 2)
    crowded = torch.tensor([[0.5, 0.5, 0, 0]]).repeat(4, 1)
    assert balance_of(crowded, torch.tensor([[0.5, 0.5, 0, 0]]).repeat(4, 1)) == pytest.approx(2 * least)


def test_balance_of_the_model_is_the_sum_over_blocks():
    model = network()
    with torch.no_grad():
        model.train().predict(torch.rand(2, 3, 64, 64))
    parts = [float(m.balance.detach()) for m in model.modules() if isinstance(m, MoEBlock)]
    assert parts and float(model.balance()) == pytest.approx(sum(parts))
    assert float(model.balance()) >= BALANCE_COEFFICIENT  # of two experts per patch, f and P cannot both be small


def test_experts_refuse_more_than_there_are():
    with pytest.raises(ValueError, match="top_k=5 must lie between 1 and experts=4"):
        PLMoE(8, 8, experts=4, top_k=5)
    with pytest.raises(ValueError, match="20 channels do not divide into 8 groups"):
        SpatialShuffleAttention(20, 8)


# head


def explicit(head: ContrastiveHead, momentum: float) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """The embedding map and its normalisation as layers, with the head's weights."""
    conv = nn.Conv2d(*head.embed.weight.shape[1::-1], 1)
    conv.load_state_dict(head.embed.state_dict())
    norm = nn.BatchNorm2d(head.norm.num_features, eps=head.norm.eps, momentum=momentum)
    norm.load_state_dict(head.norm.state_dict())
    return conv, norm


def score(head, conv, norm, f, text):
    """Eq. 4 as it is written, over the D-channel map."""
    e = norm(conv(f))
    return torch.einsum("bdhw,btd->bthw", e, text).flatten(2) * head.logit_scale.exp() + head.bias


@pytest.mark.parametrize("momentum", [0.1, 0.03])
def test_contrastive_head_equals_the_explicit_map(momentum):
    torch.manual_seed(0)
    head = ContrastiveHead(6, 20)
    shake(head)
    head.norm.momentum = momentum
    conv, norm = explicit(head, momentum)
    text = unit(2, 3, 20)
    for step in range(3):  # the running statistics are compared along the way
        head.train(), norm.train()
        f = (torch.randn(2, 6, 4, 5) * (1 + step) + 0.5).requires_grad_()
        fast, plain = head(f, text), score(head, conv, norm, f, text)
        torch.testing.assert_close(fast, plain, **CLOSE)
        ours, theirs = (torch.autograd.grad((y**2).sum(), f)[0] for y in (fast, plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(head.norm, key), getattr(norm, key), **CLOSE)
    head.eval(), norm.eval()
    torch.testing.assert_close(head(f, text), score(head, conv, norm, f, text), **CLOSE)


def test_merged_region_layers_equal_the_explicit_map(model):
    head = model.head
    for i in range(3):
        e = torch.randn(2, head.cv4[i].embed.in_channels, 3, 4)
        torch.testing.assert_close(head._region(i, e), head.regions[i](head.cv4[i].embed(e)), rtol=1e-3, atol=1e-4)


def test_position_code_is_that_of_the_unpadded_image():
    """A 4 x 6 map of an image, and the same image in the middle of an 8 x 10 canvas."""
    alone = position_code(4, 6, torch.tensor([[0.0, 0, 1, 1]]))
    padded = position_code(8, 10, torch.tensor([[0.2, 0.25, 0.8, 0.75]]))
    torch.testing.assert_close(padded[:, :, 2:6, 2:8], alone, **CLOSE)
    assert alone[0, 0, 0].tolist() == pytest.approx([2 * (i + 0.5) / 6 - 1 for i in range(6)], abs=1e-6)
    assert alone[0, 1, :, 0].tolist() == pytest.approx([2 * (i + 0.5) / 4 - 1 for i in range(4)], abs=1e-6)
    torch.testing.assert_close(alone[0, 2], torch.sin(math.pi * alone[0, 0]), **CLOSE)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4),
    st.integers(0, 20), st.integers(0, 20), st.integers(44, 64), st.integers(44, 64),
)  # fmt: skip
def test_region_labels_follow_equation_8(h, w, rows, cols, left, top, right, bottom):
    extent = torch.tensor([[left / 64, top / 64, right / 64, bottom / 64]], dtype=torch.float64)
    labels = region_labels(h, w, extent, rows, cols)[0]
    x0, y0, x1, y1 = extent[0].tolist()
    for i in range(h):
        for j in range(w):
            y, x = ((i + 0.5) / h - y0) / (y1 - y0), ((j + 0.5) / w - x0) / (x1 - x0)
            if min(abs(v * n - round(v * n)) for v, n in ((y, rows), (x, cols))) < 1e-9:
                continue  # on a cell's border rounding decides
            inside = 0 <= x < 1 and 0 <= y < 1
            assert int(labels[i, j]) == (int(y * rows) * cols + int(x * cols) if inside else -1)


def test_decode_equals_full_decode_and_argmax(model, inputs):
    img, extent, text = inputs
    preds = predict(model, img, text, extent, torch.tensor([0, 1, 0]))
    head = model.head
    anchors, strides = make_anchors(preds["feats"], head.stride, 0.5)
    full = dist2bbox(head.dfl(preds["boxes"]).transpose(1, 2), anchors, xywh=False) * strides  # [B, A, 4]
    boxes, conf = head.decode(preds)
    assert boxes.shape == (3, 2, 1, 4) and conf.shape == (3, 2, 1)
    best = preds["scores"].argmax(2)
    for i in range(3):
        for t in range(2):
            torch.testing.assert_close(boxes[i, t, 0], full[i, best[i, t]], rtol=1e-4, atol=1e-3)
            assert float(conf[i, t, 0]) == pytest.approx(float(preds["scores"][i, t].max().sigmoid()))
    several, confs = head.decode(preds, k=7)
    assert several.shape == (3, 2, 7, 4) and (confs.diff(dim=2) <= 0).all()
    torch.testing.assert_close(several[:, :, :1], boxes)
    assert head.decode(preds, k=10**6)[1].shape[2] == preds["scores"].shape[2]


def test_adapter_starts_as_identity(inputs):
    text = inputs[2]
    torch.testing.assert_close(network(alive=False).head.adapt(3 * text), text)


# the whole


def test_fused_network_gives_the_same_predictions(model, inputs):
    img, extent, text = inputs
    before = predict(model, img, text, extent)
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert fused.is_fused() and not any(hasattr(m, "bn") for m in fused.modules() if isinstance(m, Conv))
    after = predict(fused, img, text, extent)
    torch.testing.assert_close(after["scores"], before["scores"], rtol=1e-4, atol=1e-4)
    for found, expected in zip(fused.head.decode(after, 3), model.head.decode(before, 3), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("double", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies_give_the_same_predictions(model, inputs, double):
    img, extent, text = inputs
    twin = double(model)
    assert torch.equal(predict(twin, img, text, extent)["scores"], predict(model, img, text, extent)["scores"])
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(next(twin.parameters()), next(model.parameters()))
    assert isinstance(twin.head, GroundingDetect) and twin.text_dim == WIDTH


def test_copies_and_pickles_leave_the_step_behind():
    """Tensors of a training step are no part of a checkpoint, and non-leaf ones could not even be copied."""
    model = network(alive=False)
    fresh = len(pickle.dumps(model))
    train_step(model, training_batch(b=8, side=128))
    for p in model.parameters():
        p.grad = None
    assert any(m.balance is not None for m in model.modules() if isinstance(m, MoEBlock))
    loaded, copied = pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    for twin in (loaded, copied):
        assert twin.criterion is None
        assert all(m.balance is None and m.gates is None for m in twin.modules() if isinstance(m, MoEBlock))
    assert abs(len(pickle.dumps(model)) - fresh) < 4096
    train_step(loaded, training_batch())  # and it can go on
