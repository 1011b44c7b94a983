"""The training loss: its terms, images without objects, targets with several true or undecided expressions."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_net import network, train_step, training_batch
from torchvision.ops import box_iou
from ultralytics.utils.tal import make_anchors

from optisar_yolo.nn.head import region_labels
from optisar_yolo.nn.loss import FOREGROUND_WEIGHT, GroundingLoss, choice_loss

TERMS = ["box_loss", "cls_loss", "dfl_loss", "choice_loss", "region_loss", "moe_loss"]


@pytest.fixture(scope="module")
def model():
    """A network in training mode; the tests look at its loss and leave its weights alone."""
    return network().train()


@pytest.fixture
def batch():
    """Four images with two objects each, described by texts 0 and 1 of five."""
    torch.manual_seed(0)
    return training_batch()


def predictions(model, batch):
    """Random outputs that require gradients: low scores, boxes 3 cells wide (right for stride 8)."""
    with torch.no_grad():
        preds = model.predict(batch["img"], batch["txt_feats"], batch["extent"], batch["guide"])
    preds["scores"] = torch.randn_like(preds["scores"]) - 3
    preds["boxes"] = -0.5 * torch.arange(16.0).repeat(4)[:, None] + 0.1 * torch.randn_like(preds["boxes"])
    for key in ("scores", "boxes"):
        preds[key].requires_grad_()
    return preds


class Watched(GroundingLoss):
    """The loss, with the assigner's results: weight [B, A] and own column [B, A], -1 for background."""

    def __init__(self, model):
        super().__init__(model)
        assign = self.assigner.forward

        def watch(*args, **kwargs):
            labels, _, scores, foreground, _ = out = assign(*args, **kwargs)
            self.weight, self.column = scores.sum(-1), torch.where(foreground, labels, -1)
            return out

        self.assigner.forward = watch


def score_gradient(model, batch, preds):
    """d loss / d scores [B, T, A], times the normalisation, and the watched loss."""
    criterion = Watched(model)
    loss, _ = criterion(preds, batch)
    gradient = torch.autograd.grad(loss.sum(), preds["scores"])[0]
    return gradient * criterion.weight.sum().clamp(min=1) / (len(batch["img"]) * model.args.cls), criterion


def without(batch, images):
    """Take the objects of some images away."""
    keep = torch.tensor([int(i) not in images for i in batch["batch_idx"]])
    return batch | {k: batch[k][keep] for k in ("batch_idx", "cls", "bboxes", "targets")}


def with_choice(model):
    """The criterion with the choice term on, which is off by default."""
    criterion = GroundingLoss(model)
    criterion.hyp = type(model.args)(**vars(model.args) | {"choice": 0.5})
    return criterion


def test_choice_is_a_softmax_over_all_decided_anchors():
    scores = torch.tensor([[1.0, 5.0], [2.0, 0.0], [0.5, 0.0], [9.0, 0.0]])[None].requires_grad_()  # [1, 4, 2]
    chosen = torch.zeros(1, 4, 2, dtype=torch.bool)
    chosen[0, :2, 0] = True  # the second expression has no anchor and does not count
    keep = torch.ones(1, 4, 2)
    keep[0, 3, 0] = 0
    loss = choice_loss(scores, chosen, keep)
    p = torch.tensor([1.0, 2.0, 0.5]).softmax(0)
    assert float(loss.detach()) == pytest.approx(-math.log(float(p[0] + p[1])), rel=1e-5)
    gradient = torch.autograd.grad(loss, scores)[0][0]
    assert gradient[2, 0] > 0 > gradient[1, 0] and gradient[3, 0] == 0 and not gradient[:, 1].any()
    assert choice_loss(scores, torch.zeros_like(chosen), keep) == 0


def test_terms_are_named_finite_and_add_up(model, batch):
    preds = predictions(model, batch)
    total, terms = with_choice(model)(preds, batch)
    assert list(terms) == TERMS
    assert all(v.isfinite() and v > 0 and not v.requires_grad for v in terms.values())
    assert float(total.detach().sum()) == pytest.approx(4 * sum(map(float, terms.values())), rel=1e-5)
    torch.testing.assert_close(total.detach(), 4 * torch.stack(list(terms.values())))


@pytest.mark.parametrize(
    ("gain", "term"), [("box", 0), ("cls", 1), ("dfl", 2), ("choice", 3), ("region", 4), ("moe", 5)]
)
def test_every_gain_scales_its_own_term(model, batch, gain, term):
    preds = predictions(model, batch)
    criterion = with_choice(model)
    before = torch.stack(list(criterion(preds, batch)[1].values()))
    setattr(criterion.hyp, gain, 3 * getattr(criterion.hyp, gain))
    after = torch.stack(list(criterion(preds, batch)[1].values()))
    expected = before.clone()
    expected[term] *= 3
    torch.testing.assert_close(after, expected)


def test_images_without_any_object_train(batch):
    model = network()
    terms = train_step(model, without(batch, {0, 1, 2, 3}))
    assert float(terms["box_loss"]) == float(terms["dfl_loss"]) == 0
    assert all(v.isfinite() for v in terms.values()) and terms["cls_loss"] > 0 and terms["region_loss"] > 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.head.cv4[0].embed.weight.grad.any()


def test_an_image_without_objects_among_others(model, batch):
    """In it every expression is false everywhere, and the other images' gradients do not change."""
    preds = predictions(model, batch)
    gradient, criterion = score_gradient(model, without(batch, {1}), preds)
    assert (criterion.column[1] == -1).all()
    torch.testing.assert_close(gradient[1], preds["scores"][1].detach().sigmoid())
    whole, _ = score_gradient(model, batch, preds)
    torch.testing.assert_close(gradient[[0, 2, 3]], whole[[0, 2, 3]])


def test_descending_the_loss_finds_the_objects(model, batch):
    """With free scores and boxes, minimising the loss makes each text's best box that of its object."""
    preds = predictions(model, batch)
    free = [preds[k].detach().clone().requires_grad_() for k in ("scores", "boxes")]
    preds |= {"scores": free[0], "boxes": free[1]}
    optimiser, criterion = torch.optim.Adam(free, 0.2), GroundingLoss(model)
    costs = []
    for _ in range(60):
        optimiser.zero_grad()
        loss, _ = criterion(preds, batch)
        loss[:3].sum().backward()
        optimiser.step()
        costs.append(float(loss[:3].sum().detach()))
    assert costs[-1] < 0.2 * costs[0]
    found, conf = model.head.decode({k: v.detach() if torch.is_tensor(v) else v for k, v in preds.items()})
    x, y, w, h = (batch["bboxes"] * 96).T
    boxes = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)
    ious = box_iou(found[:, :2, 0].flatten(0, 1), boxes).diagonal()  # texts 0 and 1 of each image mean its two objects
    assert (ious > 0.8).all() and (conf[:, :2] > 0.5).all() and (conf[:, 2:] < 0.1).all()


def test_classification_is_binary_cross_entropy_over_rows_of_truth(model, batch):
    """The target of an assigned anchor is its object's row, weighted by the alignment; of all others 0."""
    preds = predictions(model, batch)
    batch["targets"][batch["cls"] == 1, 2] = 1
    batch["targets"][batch["cls"] == 0, 3] = -1
    gradient, criterion = score_gradient(model, batch, preds)
    expected = preds["scores"].detach().sigmoid()
    rows = {0: torch.tensor([1.0, 0, 0, -1, 0]), 1: torch.tensor([0.0, 1, 1, 0, 0])}
    for b, a in (criterion.column >= 0).nonzero().tolist():
        row = rows[int(criterion.column[b, a])]
        expected[b, :, a] = (expected[b, :, a] - row.clamp(min=0) * criterion.weight[b, a]) * (row >= 0)
    assert set(criterion.column.unique().tolist()) == {-1, 0, 1} and criterion.weight.max() > 0.5
    torch.testing.assert_close(gradient, expected)


def test_undecided_expressions_get_no_gradient_where_the_object_is(model, batch):
    preds = predictions(model, batch)
    plain, criterion = score_gradient(model, batch, preds)
    batch["targets"][batch["cls"] == 0, 3] = -1  # undecided whether text 3 refers to the first objects
    gradient, _ = score_gradient(model, batch, preds)
    at_first = criterion.column == 0
    assert at_first.any() and (plain[:, 3] != 0).all()
    assert (gradient[:, 3][at_first] == 0).all()
    torch.testing.assert_close(gradient[:, 3][~at_first], plain[:, 3][~at_first])
    torch.testing.assert_close(gradient[:, [0, 1, 2, 4]], plain[:, [0, 1, 2, 4]])


def test_an_object_pushes_all_its_true_expressions(model, batch):
    preds = predictions(model, batch)
    plain, criterion = score_gradient(model, batch, preds)
    batch["targets"][batch["cls"] == 0, 2] = 1  # "an optical ship", say
    gradient, _ = score_gradient(model, batch, preds)
    best = (criterion.column == 0) & (criterion.weight > 0.5)
    assert best.any() and (plain[:, 2] > 0).all()
    assert (gradient[:, 2][best] < 0).all() and (gradient[:, 0][best] < 0).all()
    torch.testing.assert_close(gradient[:, [0, 1, 3, 4]], plain[:, [0, 1, 3, 4]])


def test_boxes_of_objects_pull_boxes_only_there(model, batch):
    preds = predictions(model, without(batch, {2, 3}))
    loss, _ = GroundingLoss(model)(preds, without(batch, {2, 3}))
    gradient = torch.autograd.grad(loss[[0, 2]].sum(), preds["boxes"])[0]
    assert gradient[:2].any() and not gradient[2:].any()


def exact_boxes(box, feats, strides):
    """Distributions [1, 64, A] that give box (xyxy pixels) at every anchor inside it."""
    anchors, strides = make_anchors(feats, strides, 0.5)
    reach = torch.cat((anchors - box[:2] / strides, box[2:] / strides - anchors), 1).clamp(0, 14.9)  # [A, 4] in cells
    low = reach.floor().long()
    logits = torch.full((*reach.shape, 16), -50.0)
    logits.scatter_(2, low[..., None], (1 - (reach - low)).clamp(min=1e-9).log()[..., None])
    logits.scatter_(2, low[..., None] + 1, (reach - low).clamp(min=1e-9).log()[..., None])
    return logits.flatten(1).T[None].contiguous()


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_exact_boxes_cost_nothing(model, size):
    """On canvases that are not square, so that no mixing up of width and height goes unseen."""
    torch.manual_seed(0)
    batch = training_batch(b=1, sizes=(0.4,))
    batch |= {"img": torch.rand(1, 3, *size), "bboxes": torch.tensor([[0.5, 0.4, 0.35, 0.5]])}
    preds = predictions(model, batch)
    h, w = size
    box = torch.tensor([(0.5 - 0.175) * w, (0.4 - 0.25) * h, (0.5 + 0.175) * w, (0.4 + 0.25) * h])
    preds["boxes"] = exact_boxes(box, preds["feats"], model.stride)
    criterion = Watched(model)
    _, exact = criterion(preds, batch)
    assert (criterion.column == 0).sum() > 4
    assert float(exact["box_loss"]) < 1e-3
    preds["boxes"] = exact_boxes(box + torch.tensor([3.0, 0, 3, 0]), preds["feats"], model.stride)
    _, shifted = Watched(model)(preds, batch)
    assert shifted["box_loss"] > 0.1 and shifted["dfl_loss"] > exact["dfl_loss"]


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
