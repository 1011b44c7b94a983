"""The reranker: its candidates, pair features and loss, that it learns superlatives, and names of earlier versions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tiny_net import network, settle, shake, train_step, training_batch, unit

from optisar_yolo.nn.rerank import (
    OLD_NAMES,
    SUPPRESSED,
    CandidateReranker,
    Candidates,
    local_maxima,
    pair_features,
    rerank_loss,
)


def test_candidates_are_the_maxima_of_each_level():
    """Two peaks on the fine level and one on the coarse one come first, best first; their neighbours do not."""
    torch.manual_seed(0)
    shapes = [(6, 6), (3, 3)]
    scores = torch.rand(1, 2, 45) * 0.1 - 5
    scores[0, 0, 7] = 2.0
    scores[0, 0, 8] = 1.9  # beside the peak
    scores[0, 0, 33] = 1.0
    scores[0, 0, 36 + 4] = 1.5
    found = local_maxima(scores, shapes, 4)
    assert found.shape == (1, 2, 4)
    assert found[0, 0, :3].tolist() == [7, 40, 33]
    assert 8 not in found[0, 0].tolist()
    assert local_maxima(scores, shapes, 1000).shape == (1, 2, 45)


def test_pairs_are_compared_from_both_sides():
    """Gaps change their sign with the direction; a box overlaps itself wholly and a far one not at all."""
    geometry = torch.tensor([[[[0.2, 0.5, -2.0, -2.0], [0.8, 0.5, -2.0, -1.0], [0.2, 0.5, -2.0, -2.0]]]])
    pairs = pair_features(geometry)
    assert pairs.shape == (1, 1, 3, 3, 7)
    assert torch.allclose(pairs[..., :6], -pairs[..., :6].transpose(2, 3))
    overlap = pairs[0, 0, :, :, 6]
    assert overlap[0, 0] == pytest.approx(1, abs=1e-3) and overlap[0, 2] == pytest.approx(1, abs=1e-3)
    assert overlap[0, 1] == 0


def test_an_untrained_reranker_changes_nothing():
    """Before training the predictions are those of the same network without a reranker."""
    plain = settle(network(alive=False))
    reranking = network(alive=False, compare=8).eval()
    missing = reranking.load_state_dict(plain.state_dict(), strict=False)
    assert all("reranker" in k for k in missing.missing_keys) and not missing.unexpected_keys
    img, text = torch.rand(2, 3, 96, 96), unit(2, 3, plain.text_dim)
    with torch.no_grad():
        before, after = (m.head.decode(m.predict(img, text)) for m in (plain, reranking))
    assert torch.allclose(before[0], after[0], atol=1e-3) and torch.allclose(before[1], after[1], atol=1e-6)


def test_only_candidates_are_chosen_and_one_by_one_equals_together():
    """In evaluation no other anchor is chosen, and a prediction does not depend on the batch."""
    model = settle(network(alive=False, compare=8))
    assert model.head.reranker is not None
    shake(model.head.reranker)
    img, text = torch.rand(3, 3, 96, 96), unit(3, 2, model.text_dim)
    with torch.no_grad():
        together = model.predict(img, text)
        first, ninth = together["scores"].topk(9, -1).values[..., [7, 8]].unbind(-1)
        assert (first - ninth >= -SUPPRESSED - 1e-3).all()  # eight candidates, far above all others
        assert (together["scores"].diff(dim=-1) != 0).float().mean() > 0.9  # which keep their order
        alone = [model.head.decode(model.predict(img[i : i + 1], text[i : i + 1])) for i in range(3)]
    boxes, conf = model.head.decode(together)
    assert torch.allclose(boxes, torch.cat([b for b, _ in alone]), atol=0.05)
    assert torch.allclose(conf, torch.cat([c for _, c in alone]), atol=1e-4)


def test_loss_reaches_the_reranker():
    """A training step has a term for it, whose gradients reach all its weights and no others."""
    torch.manual_seed(0)
    model = network(compare=12)
    for gain in ("box", "cls", "dfl", "choice", "region", "moe"):
        setattr(model.args, gain, 0.0)
    terms = train_step(model, training_batch(), rate=0.0)
    assert terms["compare_loss"] > 0
    reranker = model.head.reranker
    assert reranker is not None
    for name, p in reranker.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
    assert not [n for n, p in model.named_parameters() if ".reranker." not in n and p.grad is not None and p.grad.any()]
    assert "compare_loss" not in train_step(network(), training_batch(), rate=0.0)


def candidates(logits: list[float]) -> Candidates:
    """One expression's candidates: on the first object, on the second one, on nothing."""
    boxes = torch.tensor([[[[0.0, 0, 10, 10], [50.0, 50, 60, 60], [80.0, 0, 90, 10]]]])
    return Candidates(torch.arange(3).view(1, 1, 3), boxes, torch.tensor([[logits]], requires_grad=True))


def test_loss_prefers_the_object_referred_to():
    """Lower when the correct candidate leads; undecided objects get no gradient; without a correct one all decrease."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [50.0, 50, 60, 60], [0.0, 0, 0, 0]]])

    def loss(logits: list[float], truth: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
        found = candidates(logits)
        value = rerank_loss(found, boxes, torch.tensor(truth).view(1, 3, 1))
        value.backward()
        return value.detach(), found.logits.grad[0, 0]

    assert loss([2.0, -2, -2], [1.0, 0, 0])[0] < loss([-2.0, 2, -2], [1.0, 0, 0])[0]
    gradient = loss([0.0, 0, 0], [1.0, -1, 0])[1]
    assert gradient[0] < 0 and gradient[1] == 0 and gradient[2] > 0
    assert (loss([0.0, 0, 0], [0.0, 0, 0])[1] > 0).all()
    empty = rerank_loss(candidates([0.0, 0, 0]), torch.zeros(1, 0, 4), torch.zeros(1, 0, 1))
    assert empty > 0


def test_it_learns_superlatives():
    """Trained on random boxes with equal scores, it finds the leftmost or the largest one, as the expression says."""
    torch.manual_seed(0)
    words = unit(2, 16)
    net = CandidateReranker(4, 16, candidates=5, width=16)
    rate = torch.optim.Adam(net.parameters(), 1e-2)

    def draw(n: int) -> tuple[torch.Tensor, ...]:
        geometry = torch.cat((torch.rand(n, 2, 5, 2), -1 - 2 * torch.rand(n, 2, 5, 2)), -1)
        best = torch.stack((geometry[:, 0, :, 0].argmin(-1), geometry[:, 1, :, 2:].sum(-1).argmax(-1)), 1)
        return torch.zeros(n, 2, 5, 4), geometry, torch.zeros(n, 2, 5), words.expand(n, 2, 16), best

    for _ in range(150):
        *given, best = draw(32)
        loss = torch.nn.functional.cross_entropy(net(*given).flatten(0, 1), best.flatten())
        rate.zero_grad()
        loss.backward()
        rate.step()
    *given, best = draw(500)
    assert (net(*given).argmax(-1) == best).float().mean(0).min() > 0.85


def with_old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a network by the names that earlier versions gave them."""
    new_to_old = {"reranker": "compare"} | {new: old for old, new in OLD_NAMES.items()}
    return {
        ".".join(new_to_old.get(part, part) for part in k.split(".")) if ".reranker." in k else k: v
        for k, v in state.items()
    }


def test_weights_with_old_names_load():
    """Strictly, as a whole network and as a reranker alone; the given dictionary is not changed."""
    model = network(kind="-late")
    old = with_old_names(model.state_dict())
    assert "model.23.compare.say.weight" in old and not any("reranker" in k for k in old)
    names = list(old)
    fresh = network(seed=1, kind="-late")
    fresh.load_state_dict(old)
    assert names == list(old)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in fresh.state_dict().items())
    own = {k.removeprefix("model.23.compare."): v for k, v in old.items() if ".compare." in k}
    fresh.head.reranker.load_state_dict(own)


def test_a_pickle_with_old_names_opens():
    """A network pickled when its reranker and the layers in it had other names predicts the same."""
    model = settle(network(kind="-late"))
    shake(model.head.reranker)
    img, text = torch.rand(1, 3, 64, 64), unit(1, 2, model.text_dim)
    with torch.no_grad():
        wanted = model.predict(img, text)["scores"]
    old = copy.deepcopy(model)
    reranker = old.head._modules.pop("reranker")
    new_to_old = {new: old for old, new in OLD_NAMES.items()}
    reranker._modules = {new_to_old.get(k, k): v for k, v in reranker._modules.items()}
    old.head._modules["compare"] = reranker
    opened = pickle.loads(pickle.dumps(old))
    with torch.no_grad():
        assert torch.equal(opened.predict(img, text)["scores"], wanted)
    assert opened.state_dict().keys() == model.state_dict().keys()


def test_a_head_pickled_before_there_was_a_reranker_opens():
    head = network().head
    state = head.__dict__ | {"_modules": {k: v for k, v in head._modules.items() if k != "reranker"}}
    for drop in ("reranker", "windows"):
        state.pop(drop, None)
    for more in ({}, {"compare": None}):
        old = type(head).__new__(type(head))
        old.__setstate__(state | more)
        assert old.reranker is None and not old.windows and "compare" not in vars(old)
