"""Explanations: maps cover the image, boxes equal those of predict, routing equals the output of the gate."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from tiny_net import spread

from optisar_yolo import OptiSAR, explain as explain_door
from optisar_yolo.commands import main as cli
from optisar_yolo.engine.predict import canvas
from optisar_yolo.explain import ExplainError, explain
from optisar_yolo.explain.explainer import CLOSED, LATE, NO_EXPERTS, _recording, checked_network
from optisar_yolo.explain.pages import unused
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.nn.model import fused_copy
from optisar_yolo.nn.plmoe import CosineGate
from optisar_yolo.nn.tgdf import DualGateFusion

TEXTS = ["The ship in the upper left", "the airplane at the bottom"]


@pytest.fixture(scope="module")
def guided():
    return spread("optisar++n.yaml")


@pytest.fixture(scope="module")
def late():
    return spread("optisar++n-late.yaml")


@pytest.fixture(scope="module")
def baseline():
    return spread("optisar++n-baseline.yaml")


@pytest.fixture(scope="module")
def image():
    """An image with structure, wider than high: on its canvas of 128 x 96 it is padded by 9 and 10 rows."""
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), (100, 60), interpolation=cv2.INTER_CUBIC)


# boxes and score maps


@pytest.mark.parametrize("name", ["guided", "late", "baseline"])
def test_boxes_are_those_of_predict(name, image, request):
    model = request.getfixturevalue(name)
    (explanation,) = explain(model, image, TEXTS, conf=0.0)
    (result,) = model.predict(image, text=TEXTS, conf=0.0)
    assert explanation.texts == TEXTS
    for best, (*box, conf, _) in zip(explanation.boxes, result.boxes.data.tolist(), strict=True):
        assert best.box == pytest.approx(box, abs=0.05)
        assert best.conf == best.score == pytest.approx(conf, abs=1e-4) and best.found


def test_a_large_image_has_the_size_of_predict(late, monkeypatch):
    monkeypatch.setattr(late.model, "facts", {"sizes": [32, 192]}, raising=False)
    monkeypatch.setitem(late.overrides, "imgsz", 64)
    rng = np.random.default_rng(2)
    large = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)
    (explanation,) = explain(late, large, TEXTS, conf=0.0)
    (result,) = late.predict(large, text=TEXTS, conf=0.0, verbose=False, engine="torch")
    assert max(explanation.frame.canvas) == 160, "half of the image, as far as the weights know such sizes"
    for best, (*box, conf, _) in zip(explanation.boxes, result.boxes.data.tolist(), strict=True):
        assert best.box == pytest.approx(box, abs=0.05) and best.conf == pytest.approx(conf, abs=1e-4)
    (fixed,) = explain(late, large, TEXTS, imgsz=64)
    assert max(fixed.frame.canvas) == 64


@pytest.mark.parametrize("name", ["guided", "late"])
def test_a_box_surrounds_its_anchor(name, image, request):
    (explanation,) = explain(request.getfixturevalue(name), image, TEXTS)
    for best in explanation.boxes:
        stride = explanation.strides[best.level]
        x = (best.cell[1] + 0.5) * stride * 100 / 128  # the image is 128 pixels wide in the canvas
        y = ((best.cell[0] + 0.5) * stride - 9) * 60 / 77  # and 77 high, from row 9 on
        x1, y1, x2, y2 = best.box
        assert x1 - 0.1 <= np.clip(x, 0, 100) <= x2 + 0.1 and y1 - 0.1 <= np.clip(y, 0, 60) <= y2 + 0.1


def test_the_highest_score_is_the_anchor_of_the_box(guided, image):
    (explanation,) = explain(guided, image, TEXTS)
    assert explanation.candidates.shape == (2, 0, 5)
    for t, best in enumerate(explanation.boxes):
        tops = [level[t].max() for level in explanation.logits]
        assert best.level == int(np.argmax(tops))
        own = explanation.logits[best.level][t]
        assert np.unravel_index(own.argmax(), own.shape) == best.cell
        assert best.score == pytest.approx(1 / (1 + np.exp(-max(tops))), abs=1e-6)


def test_candidates_come_with_their_scores_after_reranking(late, image):
    (explanation,) = explain(late, image, TEXTS)
    assert explanation.candidates.shape[::2] == (2, 5) and explanation.candidates.shape[1] > 5
    assert (np.diff(explanation.candidates[..., 4], axis=1) <= 0).all()
    for best, candidates in zip(explanation.boxes, explanation.candidates, strict=True):
        assert candidates[0].tolist() == pytest.approx([*best.box, best.score])


def test_score_maps_leave_the_padding_out(guided, image):
    (explanation,) = explain(guided, image, TEXTS)
    # each level in pixels of the canvas, [T, 96, 128]
    pixels = [
        np.kron(x, np.ones((int(s), int(s)))) for x, s in zip(explanation.logits, explanation.strides, strict=True)
    ]
    highest = np.max(pixels, axis=0)[:, 9:86]  # rows of the image
    assert highest.shape == (2, 77, 128) and explanation.score_maps.shape == (2, 10, 16)
    rows, columns = ((np.arange(10) + 0.5) * 7.7).astype(int), np.arange(16) * 8 + 4
    expected = 1 / (1 + np.exp(-highest[:, rows][:, :, columns]))
    np.testing.assert_allclose(explanation.score_maps, expected, atol=1e-6)


def test_an_expression_is_explained_the_same_alone(guided, image):
    (both,), (alone,) = explain(guided, image, TEXTS), explain(guided, image, TEXTS[1])
    for a, b in zip(both.logits, alone.logits, strict=True):
        np.testing.assert_allclose(a[1:], b, atol=1e-4)
        assert not np.allclose(a[:1], b, atol=1e-2)


# the pyramid


def test_text_in_the_pyramid_shows_by_expression(guided, image):
    (explanation,) = explain(guided, image, TEXTS)
    assert explanation.notes == [] and set(explanation.fusions) == {"fusion16", "fusion19", "fusion22"}
    for factors, strength, stride in zip(
        explanation.fusions.values(), explanation.activations, explanation.strides, strict=True
    ):
        cells = 96 // stride, 128 // stride
        assert factors.shape == (2, 4, *cells) and strength.shape == (2, *cells)
        # both gates are 1: the sigmoid of Eq. 6 itself, up to rounding
        assert factors.min() > -1e-4 and factors.max() < 1 + 1e-4 and np.ptp(factors) > 0.5
        assert not np.allclose(factors[0], factors[1]) and not np.allclose(strength[0], strength[1])


def test_the_factor_is_that_of_the_paper(guided):
    net = guided.model
    part = net.model[16].attn
    assert isinstance(part, DualGateFusion)
    gate = part.feature_gate.data.clone()
    part.feature_gate.data.uniform_(-1, 2)
    x, text = torch.randn(1, part.value.conv.in_channels, 3, 5), torch.randn(1, 1, net.text_dim)
    with torch.inference_mode(), _recording(net) as (_, factors):
        part(x, text)
        g, f = part.guide(text).view(4, -1), part.embed(x).view(4, -1, 15)
        a = torch.einsum("hd,hdp->hp", g, f).view(1, 4, 3, 5)
        a = torch.sigmoid(a / part.temperature + part.bias[:, None, None])
        expected = 1 + part.feature_gate * part.attention_gate * (a - 1)
    part.feature_gate.data.copy_(gate)
    torch.testing.assert_close(factors["fusion16"], expected, rtol=1e-3, atol=1e-4)


def test_a_late_network_says_that_no_text_reaches_its_pyramid(late, image):
    (explanation,) = explain(late, image, TEXTS)
    assert (
        explanation.notes == [LATE]
        and explanation.fusions == {}
        and all(len(level) == 1 for level in explanation.activations)
    )


def test_closed_gates_are_named(image):
    model = OptiSAR("optisar++n.yaml")
    for part in (m for m in model.model.modules() if isinstance(m, DualGateFusion)):
        part.attention_gate.data.zero_()
    (explanation,) = explain(model, image, TEXTS, imgsz=64)
    assert explanation.notes == [CLOSED] and all((f == 1).all() for f in explanation.fusions.values())
    assert all(len(level) == 1 for level in explanation.activations)


# routing


def test_shares_are_those_of_the_gates_outputs(guided):
    rng = np.random.default_rng(1)
    square = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    (explanation,) = explain(guided, square, TEXTS, imgsz=256)  # 16 patches of 64 pixels, and no padding
    recorded = []
    (gate,) = (m for m in guided.model.modules() if isinstance(m, CosineGate))
    handle = gate.register_forward_hook(lambda _module, _args, output: recorded.append(output[0]))
    x, extent = canvas(square, 256)
    with torch.inference_mode():
        guided.model.eval().encode(x[None], extent[None])
    handle.remove()
    routing = explanation.routing["moe8"]
    shares = routing.shares(explanation.frame)
    assert recorded[0].shape == (16, 8) and routing.cell == (64, 64)
    counts = torch.bincount(recorded[0].argmax(1), minlength=8) / 16
    assert (counts > 0).sum() > 1  # several experts are chosen, or this would show little
    np.testing.assert_allclose(shares.weight, recorded[0].mean(0), atol=1e-6)
    np.testing.assert_allclose(shares.first, counts, atol=1e-6)


def test_shares_sum_to_one_and_leave_the_padding_out(guided, image):
    (explanation,) = explain(guided, image, TEXTS)
    routing = explanation.routing["moe8"]
    assert routing.gates.shape == (8, 2, 2)  # 128 x 96 pixels: patches of 64, the lower ones half beyond the canvas
    np.testing.assert_allclose((routing.gates > 0).sum(0), routing.top_k)
    pixels = np.kron(routing.first, np.ones((64, 64), int))[9:86]  # the image's rows
    shares = routing.shares(explanation.frame)
    assert shares.weight.sum() == pytest.approx(1) and shares.first.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares.first, np.bincount(pixels.ravel(), minlength=8) / pixels.size, atol=1e-6)


# the model, and what cannot be explained


def test_the_model_stays_as_it_was(image):
    model = OptiSAR("optisar++n.yaml")
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    explain(model, image, TEXTS, imgsz=64)
    assert model.model.training
    model.predict(image, text=TEXTS, imgsz=64, save=False, verbose=False)
    explain(model, image, TEXTS, imgsz=64)  # still possible after predict, which fuses a copy
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())


def test_exports_and_fused_networks_are_refused(late):
    export = ExportedModel.__new__(ExportedModel)
    export.__dict__["path"] = "best.onnx"
    with pytest.raises(ExplainError, match=r"best\.onnx: an export .* weights"):
        checked_network(export)
    with pytest.raises(ExplainError, match="fused"):
        checked_network(fused_copy(late.model))


def test_former_names_work_and_warn(late, image):
    with pytest.warns(FutureWarning, match=r"explain\.Answer is now optisar_yolo\.explain\.ExplainedBox"):
        assert explain_door.Answer is explain_door.ExplainedBox
    (explanation,) = explain(late, image, TEXTS[0], imgsz=64)
    with pytest.warns(FutureWarning, match=r"Explanation\.answers is now Explanation\.boxes"):
        assert explanation.answers is explanation.boxes


# the command


@pytest.fixture
def opened(monkeypatch):
    """Let the command open these models, by name."""

    def put(model):
        monkeypatch.setattr("optisar_yolo.api.OptiSAR", lambda _: model)

    return put


def test_command_writes_figures_arrays_and_record(guided, image, opened, tmp_path, monkeypatch):
    opened(guided)
    monkeypatch.setattr("optisar_yolo.explain.pages.PER_FIGURE", 1)
    cv2.imwrite(str(tmp_path / "x $5_1 ü.png"), image)
    expressions = ["左上角的船 worth $10_x$ and $20", "a " + "very " * 60 + "long ship"]
    words = [f"source={tmp_path / 'x $5_1 ü.png'}", f"text={expressions}", f"project={tmp_path}", "imgsz=64", "conf=0"]
    assert cli.main(["explain", *words]) == 0
    kinds = ("_scores.png", "_scores-2.png", "_activations.png", "_activations-2.png", "_experts.png", ".npz", ".json")
    found = {p.name for p in (tmp_path / "explain").iterdir()}
    assert found == {*(f"x $5_1 ü{kind}" for kind in kinds), "index.html"}
    record = json.loads((tmp_path / "explain" / "x $5_1 ü.json").read_text(encoding="utf-8"))
    (explanation,) = explain(guided, image, expressions, imgsz=64, conf=0.0)
    assert [s["text"] for s in record["sentences"]] == explanation.texts and record["notes"] == []
    assert record["sentences"][1]["box"] == pytest.approx(explanation.boxes[1].box.tolist(), abs=0.01)
    assert sum(record["experts"]["moe8"]["weight"]) == pytest.approx(1, abs=1e-4)
    with np.load(tmp_path / "explain" / "x $5_1 ü.npz") as arrays:
        np.testing.assert_allclose(arrays["score_maps"], explanation.score_maps, atol=1e-6)
        np.testing.assert_allclose(arrays["gates_moe8"].sum(0), 1, atol=1e-5)
        assert {"logits_P3", "activation_P5", "fusion22", "patch_moe8", "extent", "boxes"} <= set(arrays)


def test_images_of_the_same_name_get_files_of_their_own():
    used = set()
    assert [unused(stem, used) for stem in ("port", "quay", "port", "port")] == ["port", "quay", "port-2", "port-3"]


def test_command_says_what_a_model_without_experts_lacks(baseline, image, opened, tmp_path):
    opened(baseline)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    words = [f"source={tmp_path / 'x.png'}", "text=the ship", f"project={tmp_path}", "name=out", "imgsz=64"]
    assert cli.main(["explain", *words]) == 0
    assert not list((tmp_path / "out").glob("*_experts.png"))
    assert json.loads((tmp_path / "out" / "x.json").read_text())["notes"] == [LATE, NO_EXPERTS]
    assert "no experts" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "needs source="),
        (["source=x.jpg", "data=x.yaml"], 2, "needs source="),
        (["source=x.jpg", "text=a", "split=test"], 2, "'split=' does not go with 'source='"),
        (["data=x.yaml", "text=a"], 2, "'text=' does not go with 'data='"),
        (["data=x.yaml", "n=0"], 2, "'n=0' is not valid"),
        (["source=x.jpg", "txt=a"], 2, "did you mean 'text'"),
        (["source=x.jpg"], 2, "needs an expression"),
        (["source=x.jpg", "text=a", "imgsz=0"], 2, "'imgsz=0' is not valid: it must be a whole number of at least 32"),
        (["source=x.jpg", "text=[]"], 1, "empty list"),
        (["source=missing.jpg", "text=a"], 1, "missing.jpg does not exist"),
        (["source=x.jpg", "text=a", "model=missing.pt"], 1, "missing.pt"),
    ],
)  # fmt: skip
def test_slips_get_a_message(words, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    assert cli.main(["explain", *words, f"project={tmp_path}"]) == status
    assert message in capsys.readouterr().err
