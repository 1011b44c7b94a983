"""The training loss: its terms, pictures without objects, rows of truth with several or undecided sentences."""

from __future__ import annotations

import pytest
import torch
from tiny_net import network, train_step, training_batch
from torch.nn import functional as F

from optisar_yolo.nn.head import region_labels
from optisar_yolo.nn.loss import FOREGROUND_WEIGHT, GroundingLoss

TERMS = ["box_loss", "cls_loss", "dfl_loss", "region_loss", "moe_loss"]


@pytest.fixture(scope="module")
def model():
    """A network in training mode; the tests look at its loss and leave its weights alone."""
    return network().train()


@pytest.fixture
def batch():
    """Four pictures with two objects each, the first asking text 0 and the second text 1 of five."""
    torch.manual_seed(0)
    return training_batch()


def predictions(model, batch):
    """The network's answers, from which gradients with respect to the scores can be taken."""
    with torch.no_grad():
        preds = model.predict(batch["img"], batch["txt_feats"], batch["extent"], batch["guide"])
    for key in ("scores", "boxes"):
        preds[key] = preds[key].clone().requires_grad_()
    return preds


def score_gradient(model, batch, preds):
    """d loss / d scores [B, T, A]."""
    loss, _ = GroundingLoss(model)(preds, batch)
    return torch.autograd.grad(loss.sum(), preds["scores"])[0]


def without(batch, pictures):
    """Take the objects of some pictures away."""
    keep = torch.tensor([int(i) not in pictures for i in batch["batch_idx"]])
    return batch | {k: batch[k][keep] for k in ("batch_idx", "cls", "bboxes", "targets")}


def test_terms_are_named_finite_and_add_up(model, batch):
    total, terms = model.loss(batch)
    assert list(terms) == TERMS
    assert all(v.isfinite() and v > 0 and not v.requires_grad for v in terms.values())
    assert float(total.detach().sum()) == pytest.approx(4 * sum(map(float, terms.values())), rel=1e-5)
    torch.testing.assert_close(total.detach(), 4 * torch.stack(list(terms.values())))


@pytest.mark.parametrize(("gain", "term"), [("box", 0), ("cls", 1), ("dfl", 2), ("region", 3), ("moe", 4)])
def test_every_gain_scales_its_own_term(model, batch, gain, term):
    preds = predictions(model, batch)
    before = torch.stack(list(GroundingLoss(model)(preds, batch)[1].values()))
    criterion = GroundingLoss(model)
    criterion.hyp = type(model.args)(**vars(model.args) | {gain: 3 * getattr(model.args, gain)})
    after = torch.stack(list(criterion(preds, batch)[1].values()))
    expected = before.clone()
    expected[term] *= 3
    torch.testing.assert_close(after, expected)


def test_pictures_without_any_object_train(batch):
    model = network()
    terms = train_step(model, without(batch, {0, 1, 2, 3}))
    assert float(terms["box_loss"]) == float(terms["dfl_loss"]) == 0
    assert all(v.isfinite() for v in terms.values()) and terms["cls_loss"] > 0 and terms["region_loss"] > 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.head.cv4[0].embed.weight.grad.any()


def test_a_picture_without_objects_among_others(model, batch):
    """It adds nothing but false sentences: the other pictures' gradients are as without it."""
    preds = predictions(model, batch)
    some = without(batch, {1})
    gradient = score_gradient(model, some, preds)
    assert gradient.isfinite().all() and (gradient[1] >= 0).all() and (gradient[1] > 0).any()
    whole = score_gradient(model, batch, preds)
    assert (whole[1] < 0).any()
    ratio = gradient[0] / whole[0]  # the weight of all objects together normalises both
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.median())), rtol=1e-3, atol=1e-6)


def test_loss_falls_in_training(batch):
    model = network()
    first = sum(map(float, train_step(model, batch).values()))
    for _ in range(8):
        last = sum(map(float, train_step(model, batch, rate=0.02).values()))
    assert last < 0.9 * first


def test_undecided_sentences_get_no_gradient_where_the_object_is(model, batch):
    preds = predictions(model, batch)
    plain = score_gradient(model, batch, preds)
    undecided = batch | {"targets": batch["targets"].clone()}
    undecided["targets"][batch["cls"] == 0, 3] = -1  # nobody can tell whether text 3 means the first objects
    gradient = score_gradient(model, undecided, preds)
    at_first = plain[:, 0] < 0  # anchors that are pushed towards text 0 belong to the first objects
    assert at_first.any() and (plain[:, 3] != 0).all()
    assert (gradient[:, 3][at_first] == 0).all()
    torch.testing.assert_close(gradient[:, 3][~at_first], plain[:, 3][~at_first])
    for t in (0, 1, 2, 4):
        torch.testing.assert_close(gradient[:, t], plain[:, t])


def test_an_object_pushes_all_its_true_sentences(model, batch):
    preds = predictions(model, batch)
    plain = score_gradient(model, batch, preds)
    both = batch | {"targets": batch["targets"].clone()}
    both["targets"][batch["cls"] == 0, 2] = 1  # "an optical ship", say
    gradient = score_gradient(model, both, preds)
    at_first = plain[:, 0] < 0
    assert (plain[:, 2] >= 0).all()
    assert (gradient[:, 2][at_first] < 0).all() and (gradient[:, 2][~at_first] >= 0).all()
    torch.testing.assert_close(gradient[:, 0], plain[:, 0])
    # one weight for the anchor, whatever the sentence: score - weight is the gradient of both
    difference = (gradient[:, 2] - plain[:, 2])[at_first] / (plain[:, 0] - gradient_of_false(plain, preds, 0))[at_first]
    torch.testing.assert_close(difference, torch.ones_like(difference), rtol=1e-3, atol=1e-4)


def gradient_of_false(gradient, preds, t):
    """What the gradient of text t's scores would be, were it false everywhere: the scores times a constant."""
    scores = preds["scores"][:, t].detach().sigmoid()
    false = preds["scores"][:, 4].detach().sigmoid()
    return scores * (gradient[:, 4] / false).median()


def test_classification_is_binary_cross_entropy_over_texts(model, batch):
    """Without objects all texts are false everywhere, which can be written down by hand."""
    preds = predictions(model, batch)
    _, terms = GroundingLoss(model)(preds, without(batch, {0, 1, 2, 3}))
    by_hand = F.softplus(preds["scores"].detach()).sum()  # -log(1 - sigmoid), normalised by max(sum of weights, 1) = 1
    assert float(terms["cls_loss"]) == pytest.approx(float(by_hand) * model.args.cls, rel=1e-4)


def test_boxes_of_objects_pull_boxes_only_there(model, batch):
    preds = predictions(model, without(batch, {2, 3}))
    loss, _ = GroundingLoss(model)(preds, without(batch, {2, 3}))
    gradient = torch.autograd.grad(loss[[0, 2]].sum(), preds["boxes"])[0]
    assert gradient[:2].any() and not gradient[2:].any()


def test_perfect_answers_cost_less_than_shifted_ones(model, batch):
    """A distribution that puts an object's own box at its anchors has a smaller loss than one shifted by a cell."""
    costs = []
    preds = predictions(model, batch)
    wide = torch.full_like(preds["boxes"], -10.0).view(4, 4, 16, -1)
    for bin_ in (1, 12):
        wide.fill_(-10)
        wide[:, :, bin_] = 10
        _, terms = GroundingLoss(model)(preds | {"boxes": wide.flatten(1, 2)}, batch)
        costs.append(float(terms["box_loss"] + terms["dfl_loss"]))
    assert costs[0] < costs[1]  # objects of 20 to 30 pixels are 2 to 4 cells wide, not 24


# region


def region_by_hand(maps, grids, foreground, extent):
    """Eq. 9, location by location."""
    means, start = [], 0
    for m, g in zip(maps, grids, strict=True):
        b, _, h, w = m.shape
        labels = region_labels(h, w, extent, g, g)
        total = weights = 0.0
        for i in range(b):
            for y in range(h):
                for x in range(w):
                    if labels[i, y, x] >= 0:
                        weight = FOREGROUND_WEIGHT if foreground[i, start + y * w + x] else 1.0
                        total -= weight * float(m[i, :, y, x].log_softmax(0)[labels[i, y, x]])
                        weights += weight
        start += h * w
        means.append(total / weights)
    return sum(means) / len(means)


@pytest.fixture
def regions(model):
    torch.manual_seed(0)
    maps = [torch.randn(2, g * g, *size) for g, size in zip(model.head.grids, [(8, 8), (4, 4), (2, 2)], strict=True)]
    extent = torch.tensor([[0.0, 0, 1, 1], [0.25, 0, 0.75, 1]])
    return maps, torch.rand(2, 84) < 0.3, extent


def test_region_loss_equals_equation_9(model, regions):
    maps, foreground, extent = regions
    ours = GroundingLoss(model)._region(maps, foreground, extent)
    assert float(ours) == pytest.approx(region_by_hand(maps, model.head.grids, foreground, extent), rel=1e-4)


def test_region_loss_ignores_padding(model, regions):
    maps, foreground, extent = regions
    criterion = GroundingLoss(model)
    before = criterion._region(maps, foreground, extent)
    changed = [m.clone() for m in maps]
    for m in changed:
        w = m.shape[3]
        m[1, :, :, : w // 4] += 5 * torch.randn_like(m[1, :, :, : w // 4])
        m[1, :, :, w - w // 4 :] -= 5 * torch.randn_like(m[1, :, :, : w // 4])
    torch.testing.assert_close(criterion._region(changed, foreground, extent), before)
    changed[0][1, :, :, 3] += torch.randn(16, 8)
    assert not torch.allclose(criterion._region(changed, foreground, extent), before)


def test_foreground_counts_twice(model, regions):
    maps, foreground, extent = regions
    criterion = GroundingLoss(model)
    even = [criterion._region(maps, torch.full_like(foreground, v), extent) for v in (False, True)]
    torch.testing.assert_close(*even)  # the same weight everywhere is no weight
    assert not torch.allclose(criterion._region(maps, foreground, extent), even[0])
