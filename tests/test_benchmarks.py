"""The speed benchmarks' own parts: who is called when, what peers answer, how records become tables."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("benchmarks are not part of this distribution", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import engines  # noqa: E402
import latency  # noqa: E402
import ours  # noqa: E402
import peers  # noqa: E402
import scaling  # noqa: E402
import speed_tables  # noqa: E402
import threads  # noqa: E402
import timing  # noqa: E402
from timing import Taken  # noqa: E402

from optisar_yolo import OptiSAR  # noqa: E402


def test_contestants_are_called_in_turn():
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    taken = timing.interleaved(calls, 3)
    assert "".join(order) == "abc" + "abcabcabc"  # once each to warm up
    assert {name: len(runs) for name, runs in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_slow_contestants_sit_out_some_rounds(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    cost = {"quick": 0.1, "slow": 4.0}

    def timed(call):
        call()
        return Taken(cost[order[-1]], 0.0)

    monkeypatch.setattr(timing, "timed", timed)
    taken = timing.interleaved({n: (lambda n=n: order.append(n)) for n in cost}, 9, seconds=1.0)
    assert len(taken["quick"]) == 9
    assert len(taken["slow"]) == timing.LEAST
    rounds = "".join(n[0] for n in order[order.index("slow") + 1 :])
    assert rounds == "qqqs" * 3  # spread evenly, not all at the end


def test_summary_is_median_and_quartiles():
    found = timing.summary([Taken(s, 2 * s) for s in (0.005, 0.001, 0.002, 0.004, 0.003)])
    assert found == {"ms": 3.0, "quartiles": [2.0, 4.0], "cpu_ms": 6.0, "calls": 5}


def test_record_grows_and_keeps_the_runs_that_count(tmp_path: Path):
    path = tmp_path / "record.json"
    first, second = ({"started": s, "command": s} for s in ("1", "2"))
    timing.add_to_record(path, first, {"a": {"ms": 1}, "b": {"ms": 1}})
    timing.add_to_record(path, second, {"b": {"ms": 2}})
    record = json.loads(path.read_text())
    assert record["cells"] == {"a": {"ms": 1, "run": "1"}, "b": {"ms": 2, "run": "2"}}
    assert set(record["runs"]) == {"1", "2"}
    timing.add_to_record(path, second, {"a": {"ms": 3}})
    assert set(json.loads(path.read_text())["runs"]) == {"2"}, "nothing is left of the first run"


@pytest.mark.parametrize("yaml", ["yoloe-11n.yaml", "yolov8s-worldv2.yaml"])
def test_stock_peers_answer_each_expression(yaml: str, tmp_path: Path):
    peer = peers.Stock(yaml, yaml[7], tmp_path, 1)
    for texts in (1, 3):
        boxes, conf = peer.in_pytorch(64, texts)()
        assert boxes.shape == (texts, 4)
        assert conf.shape == (texts,)
        assert torch.isfinite(boxes).all()
        assert ((conf >= 0) & (conf <= 1)).all()


def test_folding_the_classes_into_yoloe_changes_no_answer(tmp_path: Path):
    peer = peers.Stock("yoloe-11n.yaml", "n", tmp_path, 1)
    img = engines.image(64)
    with torch.inference_mode():
        plain = peer._told(3).model(img)[0]
        folded = peer.fused(3)(img)[0]
    assert torch.allclose(plain[:, :4], folded[:, :4], atol=0.05), "boxes in pixels"
    assert torch.allclose(plain[:, 4:], folded[:, 4:], atol=1e-3), "scores"


def test_owlv2_answers_each_query(monkeypatch: pytest.MonkeyPatch):
    transformers = pytest.importorskip("transformers")
    config = peers.owlv2_config(64)
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = 1  # small enough for a test
    net = transformers.Owlv2ForObjectDetection(config).eval()
    monkeypatch.setattr(peers, "owlv2", lambda imgsz: net)
    for texts in (1, 3):
        boxes, conf = peers.ask_owlv2(64, texts)()
        assert boxes.shape == (texts, 4)
        assert conf.shape == (texts,)


def test_grounding_dino_answers_each_caption(monkeypatch: pytest.MonkeyPatch):
    transformers = pytest.importorskip("transformers")
    config = peers.dino_config()
    config.encoder_layers = config.text_config.num_hidden_layers = 1  # small enough for a test
    config.decoder_layers = 2  # that share their box heads
    config.num_queries = 20  # an image of 64 pixels has too few cells for 900
    net = transformers.GroundingDinoForObjectDetection(config).eval()
    monkeypatch.setattr(peers, "grounding_dino", lambda: net)
    forwards: list[object] = []
    net.register_forward_hook(lambda *_: forwards.append(1))
    boxes, conf = peers.ask_grounding_dino(64, 3)()
    assert boxes.shape == (3, 4)
    assert conf.shape == (3,)
    assert len(forwards) == 3, "a caption is a forward"


@pytest.mark.parametrize("kind", ours.KINDS)
def test_encoding_once_and_a_forward_each_give_the_same(kind: str, tmp_path: Path):
    model = ours.Ours("n", kind, tmp_path, 1)
    once, each = model.in_pytorch(64, 3)(), model.one_by_one(64, 3)()
    assert once[0].shape == (3, 4)
    assert torch.allclose(once[1], each[1], atol=1e-4)


def test_plan_asks_one_by_one_networks_one_expression_at_their_own_size():
    whole = engines.Contestant("a", engines.PYTORCH, "m", lambda s, t: lambda: None)  # type: ignore[arg-type,return-value]
    single = engines.Contestant("b", engines.PYTORCH, "m", whole.prepare, sizes=(800,), one_by_one=True)
    found = [(c.name, size, t) for c, size, t in latency.plan([whole, single], 640, [1, 8])]
    assert found == [("a", 640, 1), ("a", 640, 8), ("b", 640, 1), ("b", 800, 1)]


def cell(name: str, engine: str, texts: int, ms: float, **more: object) -> dict[str, object]:
    return {
        "name": name, "scale": "m", "engine": engine, "imgsz": 640, "texts": texts, "exact": True, "one_by_one": False,
        "ms": ms, "quartiles": [ms - 1, ms + 1], "cpu_ms": ms, "calls": 3, "run": "now",
    } | more  # fmt: skip


def test_tables_of_latency(tmp_path: Path):
    cells = {
        "a1": cell("optisar++m", "PyTorch", 1, 200, gflops=70.0, parameters=32_160_000),
        "a8": cell("optisar++m", "PyTorch", 8, 400),
        "o1": cell("optisar++m", "OpenVINO", 1, 100),
        "b1": cell("optisar++m", "OpenVINO bf16", 1, 10, exact=False),
        "y1": cell("YOLOE-11m", "ONNX Runtime", 1, 125),
        "d1": cell("Grounding DINO-T", "PyTorch", 1, 1000, one_by_one=True),
        "f1": {k: v for k, v in cell("optisar++m", "ONNX Runtime", 1, 1).items() if k != "ms"} | {"failed": "why"},
        "memory | optisar++m | PyTorch | 640 | 1": cell("optisar++m", "PyTorch", 1, 0, peak_mb=512.4),
        "text | pocket | 1": {"encoder": "pocket", "texts": 1, "ms": 2.0, "quartiles": [1.0, 3.0]},
    }
    (tmp_path / "latency.json").write_text(json.dumps({"cells": cells}))
    found = speed_tables.tables(tmp_path)
    assert set(found) == {"latency", "fastest", "text"}
    rows = found["latency"].splitlines()
    assert rows[2] == "| optisar++m | PyTorch | 640 | 200 (199–201) | 400 (399–401) | 32.16 M | 70.0 | 512 |"
    assert "| OpenVINO bf16 * |" in rows[4]
    assert "| 8 × 1000 = 8000 |" in found["latency"], "a caption at a time is a forward each"
    assert "| fails |" in found["latency"]
    best = found["fastest"].splitlines()[2]
    assert best == "| optisar++m | 640 | 100 (OpenVINO) | 400, × 4.00 (PyTorch) | 0.80 |", (
        "inexact engines do not count"
    )
    assert "2.00 (1.00–3.00)" in found["text"]
    cells["y1"]["run"] = "another day"
    assert speed_tables.fastest(cells).splitlines()[2].endswith("| 400, × 4.00 (PyTorch) |  |"), "ratios are of one run"


def test_tables_are_put_between_their_marks():
    page = "a\n<!-- text -->\nold\n<!-- /text -->\nb\n<!-- asking -->\n<!-- /asking -->\n"
    put = speed_tables.put(page, {"text": "new \\1", "latency": "nowhere"})
    assert put == "a\n<!-- text -->\nnew \\1\n<!-- /text -->\nb\n<!-- asking -->\n<!-- /asking -->\n"


def test_curves_are_drawn(tmp_path: Path):
    cells = {
        f"{axis}{name}{x}": cell(name, "PyTorch", x if axis == "texts" else 1, 100 + x, axis=axis)
        | ({"imgsz": x} if axis == "sizes" else {})
        for name in ("optisar++m", "optisar++m-late", "YOLOE-11m")
        for axis, points in (("sizes", (320, 640)), ("texts", (1, 8)))
        for x in points
    }
    assert [p[:2] for p in scaling.curve(cells, "sizes", "YOLOE-11m", "m", "PyTorch")] == [(320, 420), (640, 740)]
    scaling.draw(cells, "m", "PyTorch", tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    table = speed_tables.scaling(cells)
    assert "| optisar++m | 420, × 1.00 | 740, × 1.00 |" in table
    assert "| YOLOE-11m | 101 | 108 |" in table


def test_a_scene_of_painted_objects_is_answered_rightly(optsar_real: Path, tmp_path: Path):
    """Tiling, merging, rules and coordinates from end to end: whatever is wrong here is not the network's fault."""
    pytest.importorskip("rasterio")
    pytest.importorskip("geopandas")
    for words in (
        ["make_scene.py", "--out", "scene.tif", "--side", "4000", "--paint"],
        ["scene.py", "--scene", "scene.tif", "--out", "record.json", "--with"],
    ):
        subprocess.run(
            [sys.executable, BENCHMARKS / words[0], *words[1:]], cwd=tmp_path, check=True, capture_output=True
        )
    (cell,) = json.loads((tmp_path / "record.json").read_text())["cells"].values()
    kinds = {k: v for k, v in cell.items() if isinstance(v, dict) and k != "objects"}
    assert set(kinds) == {"plain", "place", "extreme", "rank", "place and extreme"}
    for counted in kinds.values():
        assert counted["questions"] == counted["right"] == counted["covers the centre on the ground"] > 0
    assert all(kind["there"] == kind["found"] and not kind["false"] for kind in cell["objects"].values())


@pytest.mark.parametrize("way", threads.WAYS)
def test_threads_get_their_own_results(way: str):
    model, images = OptiSAR("optisar++n-pocket.safetensors"), threads.rendered(2, 64)
    assert threads.mixed(model, way, "torch", 64, 8, 2, images) | {"seconds": 0} == {
        "calls": 16, "mixed": 0, "seconds": 0
    }  # fmt: skip


def test_results_of_other_calls_are_told_apart():
    model, images = OptiSAR("optisar++n-pocket.safetensors"), threads.rendered(2, 64)
    expected = [threads.caller(model, "predict", "torch", 64, 0, images)(n) for n in range(2)]
    assert threads.same(expected[0], expected[0]) and not threads.same(expected[0], expected[1])


def test_stock_models_and_streams_beside_ours():
    model, images = OptiSAR("optisar++n-pocket.safetensors"), threads.rendered(2, 64)
    found = threads.leaks(model, 64, 10, images[0])
    assert found["stock_calls"] > 0 and not found["keys_in_configuration"] + found["keys_accepted"]
    assert threads.nested(model, 64, 6, images) == {"calls": 6, "mixed": 0, "waits": False}


def test_held_connections_are_opened_again():
    service_load = pytest.importorskip("service_load")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with service_load.Held(server.getsockname(), "127.0.0.1", 3, b"GET") as held:
            assert held.alive == 3
            for _ in range(3):
                server.accept()[0].close()
            until = time.monotonic() + 20
            while held.again < 3:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert held.alive == 3
    assert service_load.read(FakeSocket(b"HTTP/1.1 503 X\r\ncontent-type: text/plain\r\n\r\nbusy")) == ("503", "busy")
    assert service_load.read(FakeSocket(b"")) == ("none", {})


class FakeSocket:
    """A connection that says something and ends."""

    def __init__(self, said: bytes) -> None:
        self.said = [said, b""]

    def recv(self, _: int) -> bytes:
        return self.said.pop(0)
