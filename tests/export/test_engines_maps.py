"""engine= where more than boxes is wanted: score maps, the app, and validation with plots and all matches."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lively_net import lively

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main as cli
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.engine.routing import RoutingRecorder
from optisar_yolo.export import engines
from optisar_yolo.export.engines import EngineNetwork, key_of, machine_of
from optisar_yolo.export.graph_cache import GraphCache
from optisar_yolo.serve.grounder import Grounder, PreparedImage
from optisar_yolo.serve.limits import Limits
from optisar_yolo.serve.outputs import score_maps

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cache")]

TEXTS = ["the ship in the upper left", "the airplane at the bottom", "all ships"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    kinds = {"guided": "", "late": "-late", "baseline": "-baseline"}
    return {name: str(save_shared(lively(kind), folder / f"{name}.safetensors")) for name, kind in kinds.items()}


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 96, 3), np.uint8)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["guided", "late", "baseline"])
def test_score_maps_are_those_of_pytorch_without_encoding_again(
    kind: str, engine: str, weights: dict[str, str], monkeypatch: Any
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    maps = []
    for which in ("torch", engine):
        grounder = Grounder(weights[kind], 96, engine=which)
        assert isinstance(grounder.network, EngineNetwork) == (which != "torch")
        cached = grounder.encode(PreparedImage.of("image", image(), 96))
        if which != "torch":
            net = grounder.network.torch_copy()
            monkeypatch.setattr(net, "encode", lambda *_: pytest.fail("encoded again, in PyTorch"))
        maps.append(score_maps(grounder, cached, TEXTS))
    assert len(maps[0]) == len(maps[1]) == len(TEXTS)
    for one, other in zip(*maps, strict=True):
        assert one.std() > 0.01
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_there_are_no_maps_of_weights_that_have_changed_since(weights: dict[str, str]) -> None:
    grounder = Grounder(OptiSAR(weights["late"]), 96, engine="onnx")
    cached = grounder.encode(PreparedImage.of("image", image(), 96))
    with torch.no_grad():
        next(grounder.network._model.parameters()).add_(1.0)
    assert score_maps(grounder, cached, TEXTS) == []


def table_of(folder: Path) -> list[list[str]]:
    with (folder / "expert_use.csv").open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["guided", "late", "baseline"])
def test_validation_with_plots_and_all_matches_gives_the_same(
    kind: str, engine: str, weights: dict[str, str], tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    figures, used = [], []
    for which in ("torch", engine):
        model, ran = OptiSAR(weights[kind]), []
        model.add_callback("on_val_end", lambda v, ran=ran: ran.append(getattr(v.routing, "use", None) is not None))
        found = model.val(
            data=str(tiny), imgsz=96, plots=True, matches=True, engine=which, device="cpu", batch=2,
            project=str(tmp_path), name=which,
        )  # fmt: skip
        assert ran == [True] and (model._engine is not None) == (which != "torch")
        if which != "torch":
            assert model._engine[1].running == engine
        figures.append(found.results_dict)
        used.append(tmp_path / which)
    assert figures[0].keys() == figures[1].keys() and any("AP50" in name for name in figures[0])
    for name, value in figures[0].items():
        assert figures[1][name] == pytest.approx(value, abs=1e-3, nan_ok=True), name
    assert {p.name for p in used[0].iterdir()} == {p.name for p in used[1].iterdir()}
    if kind == "baseline":  # YOLOE's blocks: no experts
        assert not (used[0] / "expert_use.csv").exists()
        return
    one, other = map(table_of, used)
    assert len(one) == len(other) > 8 and [row[:5] for row in one] == [row[:5] for row in other]
    values, same = (np.array([row[5:] for row in rows[1:]], float) for rows in (one, other))
    assert values.std() > 0.01
    np.testing.assert_allclose(values, same, atol=2e-3)


def test_experts_are_recorded_while_the_engine_changes_over(
    weights: dict[str, str], cache: GraphCache, tiny: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    model = OptiSAR(weights["guided"])
    key = key_of(model.model)
    engines.make_graph(model.model, key, cache)
    cache.add_trial(key, machine_of(torch.get_num_threads()), {"torch": 10.0, "onnx": 1.0})
    ran: list[str] = []
    real = EngineNetwork._look
    monkeypatch.setattr(EngineNetwork, "_look", lambda self: real(self) if len(ran) == 1 else None)
    monkeypatch.setattr(engines, "LOOK", 1)
    model.add_callback("on_val_batch_end", lambda v: ran.append(model._engine[1].running))
    model.val(data=str(tiny), imgsz=96, plots=True, device="cpu", batch=1, project=str(tmp_path), name="both")
    assert ran[0] == "torch" and ran[-1] == "onnx"
    OptiSAR(weights["guided"]).val(
        data=str(tiny), imgsz=96, plots=True, device="cpu", engine="torch", batch=1, project=str(tmp_path), name="torch"
    )
    one, other = (table_of(tmp_path / name) for name in ("torch", "both"))
    values, same = (np.array([row[5:] for row in rows[1:]], float) for rows in (one, other))
    np.testing.assert_allclose(values, same, atol=2e-3)


@pytest.mark.parametrize("canvas", [(160, 224), (64, 96)])  # their maps of 5 x 7 and 2 x 3 cells are padded to patches
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_patches_lie_where_they_do_in_pytorch(engine: str, canvas: tuple[int, int], weights: dict[str, str]) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    model = OptiSAR(weights["guided"])
    network = model.engine_network(engine)
    assert network is not None
    recorder = RoutingRecorder(network.torch_copy())
    pixels, extent = torch.rand(2, 3, *canvas), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1)
    with torch.inference_mode():
        network.torch_copy().encode(pixels, extent)
        plain = recorder.of(1, canvas)
        encoded = network.encode(pixels, extent)
        recorder.last.clear(), recorder.strides.clear()
        recorder.take(encoded)
        found = recorder.of(1, canvas)
    recorder.close()
    assert found.keys() == plain.keys() == {"moe8"}
    assert found["moe8"].cell == plain["moe8"].cell == (64.0, 64.0)
    np.testing.assert_allclose(found["moe8"].gates, plain["moe8"].gates, atol=1e-3)


def test_what_other_threads_encode_is_not_recorded(weights: dict[str, str]) -> None:
    net = OptiSAR(weights["late"]).model
    recorder = RoutingRecorder(net)
    pixels = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        net.encode(pixels)
        before = recorder.of(0, (96, 96))["moe8"].gates.copy()
        other = threading.Thread(target=lambda: net.encode(torch.zeros(1, 3, 160, 160)))
        other.start()
        other.join()
    assert recorder.of(0, (96, 96))["moe8"].gates.shape == before.shape
    recorder.close()


def test_sensitivity_stays_in_pytorch(weights: dict[str, str], tiny: Path) -> None:
    with pytest.raises(ValueError, match="sensitivity= needs the scores of all anchors"):
        OptiSAR(weights["late"]).val(data=str(tiny), imgsz=64, sensitivity=True, plots=False, engine="onnx")


def test_the_app_runs_in_an_engine(weights: dict[str, str], tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("gradio")
    from optisar_yolo.serve.app import AppHandlers, ModelChoice

    path = tmp_path / "port.png"
    cv2.imwrite(str(path), image())
    shown = []
    for engine in ("torch", "onnx"):
        handlers = AppHandlers(ModelChoice([weights["late"]], False, Limits(), engine), Limits())
        assert handlers.show_upload(str(path), weights["late"])[0]
        _, _, table, maps, _ = handlers.ground(str(path), "\n".join(TEXTS), 0.0, weights["late"], 2)
        network = handlers.models.get(weights["late"]).network
        assert getattr(network, "running", "torch") == engine
        shown.append((table, [(cv2.imread(file), title) for file, title in maps]))
        handlers.folder.remove()
    assert shown[0][0] == shown[1][0] and len(shown[0][1]) == len(TEXTS)
    for (one, title), (other, same) in zip(shown[0][1], shown[1][1], strict=True):
        assert title == same and np.abs(one.astype(int) - other).max() <= 3
    assert cli(["app", "engine=tensorrt"]) == 2 and "engine=tensorrt" in capsys.readouterr().err
