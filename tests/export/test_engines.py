"""engine=: the same boxes from PyTorch, ONNX Runtime and OpenVINO on every road, and the choice among them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
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
from optisar_yolo.export import engines
from optisar_yolo.export.engines import EngineNetwork, fastest, key_of, machine_of
from optisar_yolo.export.graph_cache import GraphCache
from optisar_yolo.serve.grounder import Grounder, GroundingRequest, PreparedImage

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cache")]

TEXTS = ["the ship in the upper left", "the airplane at the bottom", "the small ship"]
ASK: dict[str, Any] = {"text": TEXTS, "conf": 0.0, "verbose": False, "imgsz": 96}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    return {
        name: str(save_shared(lively(kind), folder / f"{name}.safetensors"))
        for name, kind in (("guided", ""), ("late", "-late"))
    }


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((60, 96), (96, 96), (60, 96))]


def alike(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.05)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-5)
    assert found[:, 5].tolist() == expected[:, 5].tolist()


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["guided", "late"])
def test_every_road_gives_the_boxes_of_pytorch(kind: str, engine: str, weights: dict[str, str]) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    model = OptiSAR(weights[kind])
    for topk in (1, 4):
        expected = [r.boxes.data for r in model.predict(images(), **ASK, topk=topk, engine="torch")]
        assert not isinstance(model.predictor.network, EngineNetwork)
        found = [r.boxes.data for r in model.predict(images(), **ASK, topk=topk, engine=engine)]
        assert model.predictor.network.running == engine
        for one, other in zip(found, expected, strict=True):
            alike(one, other)
    encoded = model.encode(images()[0], 96, engine)
    assert encoded.model.running == engine
    for text in TEXTS:
        expected = model.encode(images()[0], 96, "torch").ground(text, conf=0.0, topk=3).boxes.data
        alike(encoded.ground(text, conf=0.0, topk=3).boxes.data, expected)
    answers = []
    for which in ("torch", engine):
        grounder = Grounder(model, 96, engine=which)
        asked = [
            GroundingRequest(PreparedImage.of(str(i), x, 96), (t,), 0.0)
            for i, (x, t) in enumerate(zip(images(), TEXTS, strict=True))
        ]
        answers.append([[*b.xyxy, b.conf, 0] for r in grounder.ground(asked) for b in r[0].boxes])
    alike(np.array(answers[1]), np.array(answers[0]))


def test_validation_gives_the_same_table(weights: dict[str, str], tiny: Path) -> None:
    tables = []
    for engine in ("torch", "onnx"):
        model = OptiSAR(weights["late"])
        tables.append(
            model.val(data=str(tiny), imgsz=64, plots=False, engine=engine, device="cpu", batch=2).results_dict
        )
    assert tables[0].keys() == tables[1].keys()
    for name in tables[0]:
        assert tables[1][name] == pytest.approx(tables[0][name], abs=1e-4), name


def test_the_graph_is_made_once_and_never_beside_the_weights(
    weights: dict[str, str], cache: GraphCache, monkeypatch: Any
) -> None:
    OptiSAR(weights["late"]).encode(images()[0], 96, "onnx")
    monkeypatch.setattr(engines, "export", lambda *_: pytest.fail("made twice"))
    OptiSAR(weights["late"]).encode(images()[0], 96, "onnx")
    assert {p.suffix for p in Path(weights["late"]).parent.iterdir()} == {".safetensors"}
    assert any(e.about["weights"] == "late.safetensors" for e in cache.entries())


def test_a_damaged_graph_is_made_anew(weights: dict[str, str], cache: GraphCache, log: Any) -> None:
    model = OptiSAR(weights["late"])
    model.encode(images()[0], 96, "onnx")
    file = cache.root / key_of(model.model) / "net-query.onnx"
    file.write_bytes(file.read_bytes()[:-7])
    found = OptiSAR(weights["late"]).encode(images()[0], 96, "onnx").ground(TEXTS[0], conf=0.0).boxes.data
    assert "damaged graph" in log.text
    alike(found, model.encode(images()[0], 96, "torch").ground(TEXTS[0], conf=0.0).boxes.data)


def test_the_key_tells_networks_and_versions_apart(weights: dict[str, str], monkeypatch: Any) -> None:
    model = OptiSAR(weights["late"]).model
    keys = {key_of(model), key_of(OptiSAR(weights["guided"]).model)}
    assert key_of(OptiSAR(weights["late"]).model) in keys
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1e-3
    keys.add(key_of(model))
    monkeypatch.setattr(engines, "__version__", "another")
    keys.add(key_of(model))
    assert len(keys) == 4


def test_what_needs_pytorch_stays_there(weights: dict[str, str]) -> None:
    model = OptiSAR(weights["late"])
    for kwargs, words in (({"half": True}, "half precision"), ({"device": "meta"}, "not a CPU")):
        if "device" in kwargs:
            continue  # Ultralytics refuses the device itself
        with pytest.raises(ValueError, match=words):
            model.predict(images()[0], **ASK, **kwargs, engine="onnx")
    called = []
    handle = model.model.model[0].register_forward_hook(lambda *_: called.append(1))
    with pytest.raises(ValueError, match="hooks"):
        model.predict(images()[0], **ASK, engine="onnx")
    model.predict(images()[0], **ASK)  # auto
    assert called and not isinstance(model.predictor.network, EngineNetwork)
    handle.remove()
    model.predictor = None
    model.predict(images()[0], **ASK)
    assert isinstance(model.predictor.network, EngineNetwork)


def test_changed_weights_are_not_answered_from_the_old_graph(weights: dict[str, str]) -> None:
    model = OptiSAR(weights["late"])
    before = model.encode(images()[0], 96, "onnx").ground(TEXTS[0], conf=0.0).boxes.data
    with torch.no_grad():
        for p in model.model.head.cv3.parameters():
            p += 0.05 * torch.randn_like(p)
    after = model.encode(images()[0], 96, "onnx").ground(TEXTS[0], conf=0.0).boxes.data
    expected = model.encode(images()[0], 96, "torch").ground(TEXTS[0], conf=0.0).boxes.data
    alike(after, expected)
    assert abs(float(before[0, 4] - after[0, 4])) > 1e-5


def test_a_missing_engine_is_named_with_its_extra(
    weights: dict[str, str], monkeypatch: Any, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setitem(engines.PACKAGE, "onnx", "onnxruntime_of_nobody")
    from optisar_yolo.utils import extras

    monkeypatch.setitem(extras.EXTRAS, "onnxruntime_of_nobody", ("export", "this engine needs"))
    with pytest.raises(ValueError, match=r"optisar-yolo\[export\]"):
        OptiSAR(weights["late"]).predict(images()[0], **ASK, engine="onnx")
    with pytest.raises(ValueError, match="engine"):
        OptiSAR(weights["late"]).encode(images()[0], 96, "tensorrt")


def test_auto_takes_what_a_trial_found_faster(weights: dict[str, str], cache: GraphCache, log: Any) -> None:
    first = OptiSAR(weights["guided"])
    key = key_of(first.model)
    engines.make_graph(first.model, key, cache)
    machine = machine_of(torch.get_num_threads())
    cache.add_trial(key, machine, {"torch": 10.0, "onnx": 5.0})
    model = OptiSAR(weights["guided"])
    model.predict(images()[0], **ASK)
    assert model.predictor.network.running == "onnx"
    assert log.text.count("running in ONNX Runtime") == 1
    cache.add_trial(key, machine, {"torch": 10.0, "onnx": 9.5})  # not clearly
    model = OptiSAR(weights["guided"])
    model.predict(images()[0], **ASK)
    assert model.predictor.network.running == "torch"


def test_fastest(monkeypatch: Any) -> None:
    monkeypatch.setattr(engines, "installed", lambda: ["onnx", "openvino"])
    assert fastest({"torch": 10, "onnx": 8, "openvino": 7}) == "openvino"
    assert fastest({"torch": 10, "onnx": 8, "openvino": 7.5}) == "onnx"  # OpenVINO takes longer to start
    assert fastest({"torch": 10, "onnx": 9.5, "openvino": 8.8}) == "openvino"
    assert fastest({"torch": 10, "onnx": 9.5}) == fastest({"torch": 10}) == fastest({}) == "torch"
    monkeypatch.setattr(engines, "installed", lambda: ["onnx"])
    assert fastest({"torch": 10, "onnx": 8, "openvino": 1}) == "onnx"  # uninstalled since


def test_auto_changes_over_between_two_images_when_much_was_done(
    weights: dict[str, str], cache: GraphCache, monkeypatch: Any
) -> None:
    started = []
    monkeypatch.setattr(engines.subprocess, "Popen", lambda words, **_: started.append(words))
    cache.clear()
    model = OptiSAR(weights["late"])
    net = model.engine_network()
    assert net is not None and net.running == "torch"
    image = torch.rand(1, 3, 64, 64)
    text, rows = torch.nn.functional.normalize(torch.randn(1, net.text_dim), dim=-1), torch.zeros(1, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(engines.MUCH - 1):
            net._images += 1  # as so many images would
        assert not started
        early = net.encode(image)  # the hundredth
        assert len(started) == 1 and "cache" in started[0] and f"model={weights['late']}" in started[0]
        before = net.ground(early, rows, text)
        key = key_of(model.model)
        engines.make_graph(model.model, key, cache)
        cache.add_trial(key, machine_of(torch.get_num_threads()), {"torch": 10.0, "onnx": 5.0})
        for _ in range(engines.LOOK):
            late = net.encode(image)
        assert net.running == "onnx" and len(started) == 1
        after, again = net.ground(late, rows, text), net.ground(early, rows, text)  # an image of before works on
    np.testing.assert_allclose(after[0], before[0], atol=0.05)
    np.testing.assert_allclose(after[1], before[1], atol=1e-5)
    np.testing.assert_allclose(again[0], before[0], atol=1e-5)


def test_work_that_is_known_to_be_much_starts_it_at_once(
    weights: dict[str, str], cache: GraphCache, monkeypatch: Any
) -> None:
    started = []
    monkeypatch.setattr(engines.subprocess, "Popen", lambda words, **_: started.append(words))
    cache.clear()
    net = OptiSAR(weights["late"]).engine_network()
    assert net is not None
    net.expect(engines.MUCH - 1)
    assert not started
    net.expect(engines.MUCH)
    assert len(started) == 1


@pytest.mark.parametrize("fault", ["nothing installed", "failed before", "no process", "damaged for good"])
def test_auto_stays_in_pytorch_where_it_has_to(
    fault: str, weights: dict[str, str], cache: GraphCache, monkeypatch: Any, log: Any
) -> None:
    cache.clear()
    model = OptiSAR(weights["late"])
    if fault == "nothing installed":
        monkeypatch.setattr(engines, "installed", lambda: [])
        monkeypatch.setattr(engines.subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
    elif fault == "failed before":
        cache.note_failure(key_of(model.model), "differs")
        monkeypatch.setattr(engines.subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
    elif fault == "no process":

        def fail(*_: Any, **__: Any) -> None:
            raise OSError("no more processes")

        monkeypatch.setattr(engines.subprocess, "Popen", fail)
    else:
        cache.make(key_of(model.model), lambda folder: {"files": (folder / "net-encoder.onnx").write_bytes(b"?")})
        cache.add_trial(key_of(model.model), machine_of(torch.get_num_threads()), {"torch": 10.0, "onnx": 5.0})
    net = model.engine_network()
    assert net is not None
    net.expect(1000)
    alike(
        model.predict(images()[0], **ASK)[0].boxes.data, model.predict(images()[0], **ASK, engine="torch")[0].boxes.data
    )
    assert net.running == "torch"
    cache.clear()


def test_the_command_makes_shows_and_clears(weights: dict[str, str], cache: GraphCache, capsys: Any) -> None:
    cache.clear()
    assert cli(["cache", "make", f"model={weights['late']}", "imgsz=64", f"threads={torch.get_num_threads()}"]) == 0
    assert "torch" in capsys.readouterr().out
    times = cache.trials(cache.entries()[0].path.name)[machine_of(torch.get_num_threads())]
    assert set(times) == {"torch", *engines.installed()}
    assert cli(["cache", "show"]) == 0
    shown = capsys.readouterr().out
    assert "late.safetensors" in shown and "onnx" in shown and "ms" in shown
    assert cli(["cache", "clear"]) == 0 and "1 graphs removed" in capsys.readouterr().out
    assert not cache.entries()
    assert cli(["cache", "make", "model=nothing.pt"]) == 1


def test_two_threads_in_openvino(weights: dict[str, str]) -> None:
    pytest.importorskip("openvino")
    from concurrent.futures import ThreadPoolExecutor

    encoded = OptiSAR(weights["late"]).encode(images()[0], 96, "openvino")
    expected = [encoded.ground(t, conf=0.0).boxes.data for t in TEXTS]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            found = pool.map(lambda t: encoded.ground(t, conf=0.0).boxes.data, TEXTS)
            for one, other in zip(found, expected, strict=True):
                alike(one, other)


def test_copies_and_pickles_ground_too(weights: dict[str, str]) -> None:
    model = OptiSAR(weights["late"])
    encoded = model.encode(images()[0], 96, "onnx")
    expected = encoded.ground(TEXTS[0], conf=0.0).boxes.data
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        alike(other.encode(images()[0], 96).ground(TEXTS[0], conf=0.0).boxes.data, expected)
    for again in (copy.deepcopy(encoded), pickle.loads(pickle.dumps(encoded))):
        alike(again.ground(TEXTS[0], conf=0.0).boxes.data, expected)


DROPPED = """
import gc, signal, subprocess, sys, threading
from optisar_yolo import OptiSAR

signal.signal(signal.SIGCHLD, lambda *_: None)  # as PyTorch's DataLoader does
kept = [OptiSAR(sys.argv[1])]
kept[0].predict(sys.argv[2], text="the ship", imgsz=96, engine="openvino", conf=0, verbose=False)

def drop():
    kept.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)  # its end is a signal
print("alive")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_model_in_openvino_may_end_in_another_thread(weights: dict[str, str], tmp_path: Path) -> None:
    """OpenVINO's core unmaps the stack that the signals of another thread are handled on."""
    pytest.importorskip("openvino")
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), images()[0])
    done = subprocess.run([sys.executable, "-c", DROPPED, weights["late"], path], capture_output=True, text=True)
    assert done.returncode == 0 and "alive" in done.stdout, done.stderr[-1000:]
