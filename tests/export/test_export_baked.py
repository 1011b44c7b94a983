"""Exports with fixed expressions, and the text encoder as a graph of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lively_net import lively

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import CheckpointError, save_shared
from optisar_yolo.export.export import export_text
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.export.runtimes import OnnxGraph
from optisar_yolo.text import load_text_encoder
from optisar_yolo.text.encoder import TextEncoder

REPOSITORY = Path(__file__).resolve().parents[2]

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

TEXTS = ["The SAR ship in the upper left corner of the image", "the  airplane at the bottom ", "the small ship"]
NAMES = [" ".join(t.split()) for t in TEXTS]
LONG = "the ship " * 60  # more tokens than the encoder takes


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OptiSAR:
    return OptiSAR(save_shared(lively("-late"), tmp_path_factory.mktemp("weights") / "best.safetensors"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "port.png"
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (6, 12, 3), np.uint8), (130, 60), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture(scope="module")
def plain(opened: OptiSAR) -> str:
    """An export with the text encoder's graph beside it."""
    return opened.export(imgsz=128, text_graph=True)


@pytest.fixture(scope="module", params=["onnx", "torchscript"])
def baked(opened: OptiSAR, plain: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    before = Path(plain).read_bytes()
    path = Path(
        opened.export(format=request.param, imgsz=128, text=[*TEXTS, TEXTS[0]])
    )  # an expression twice counts once
    moved = path.rename(tmp_path_factory.mktemp("baked") / path.name)
    Path(plain).write_bytes(before)
    return str(moved)


def test_fixed_expressions_need_no_text(baked: str, opened: OptiSAR, image: Path) -> None:
    model = OptiSAR(baked)
    ground = {"conf": 0.0, "verbose": False, "device": "cpu", "imgsz": 128}
    expected = opened.predict([image, image], text=TEXTS, **ground)
    found = model.predict([image, image], **ground)
    for one, other in zip(found, expected, strict=True):
        assert one.names == other.names == dict(enumerate(NAMES))
        np.testing.assert_allclose(one.boxes.xyxy, other.boxes.xyxy, atol=0.05)
        np.testing.assert_allclose(one.boxes.conf, other.boxes.conf, atol=1e-5)
    some = model.predict(image, text=[NAMES[2], NAMES[0]], **ground)[0]  # any of them, in any order
    assert some.boxes.conf.tolist() == found[0].boxes.conf[[2, 0]].tolist()
    assert model.encode(image).ground(NAMES[1], conf=0.0).boxes.conf[0] == found[0].boxes.conf[1]


def test_other_expressions_are_refused(baked: str, image: Path, tiny: Path, tmp_path: Path) -> None:
    model = OptiSAR(baked)
    assert model.names == dict(enumerate(NAMES))
    with pytest.raises(ValueError, match='"the harbor" is none of them; it knows The SAR ship'):
        model.predict(image, text="the harbor")
    with pytest.raises(ValueError, match="Export without text="):
        model.val(data=str(tiny), split="val", imgsz=64, device="cpu", plots=False, project=str(tmp_path))


def test_a_graph_with_fixed_expressions_takes_images_alone(baked: str, opened: OptiSAR) -> None:
    graph = ExportedModel(baked).graph
    assert graph.inputs == ["images", "extent"]
    for b, height in ((1, 64), (3, 96)):
        out = graph({"images": torch.rand(b, 3, height, 128), "extent": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * b)})
        assert out["boxes"].shape == (b, 3, 4) and out["conf"].shape == (b, 3)


def test_the_text_graph_encodes_as_the_encoder(plain: str) -> None:
    encoder = load_text_encoder("pocket")
    graph = OnnxGraph(Path(plain.replace(".onnx", "-text.onnx")))
    meta = json.loads(graph.metadata["optisar"])
    assert meta["text_fingerprint"] == encoder.fingerprint == ExportedModel(plain).text_fingerprint
    assert Path(plain).with_name(meta["tokenizer"]).is_file()
    for texts in ([NAMES[0]], NAMES):
        tokens = [encoder._tokens([t])[0] for t in texts]
        ids = torch.full((len(tokens), max(map(len, tokens))), meta["pad"])
        for row, own in zip(ids, tokens, strict=True):
            row[: len(own)] = torch.tensor(own)
        np.testing.assert_allclose(graph({"ids": ids})["features"], encoder.encode(texts), atol=1e-5)
    with pytest.raises(CheckpointError, match="text encoder's graph"):
        OptiSAR(plain.replace(".onnx", "-text.onnx"))


def test_the_example_needs_neither_pytorch_nor_this_package(plain: str, opened: OptiSAR, image: Path) -> None:
    example = REPOSITORY / "examples" / "onnx_text.py"
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 40
    code = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['optisar_yolo'] = None; del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, example, plain, image, *TEXTS, LONG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = np.array([[float(v) for v in line.split()] for line in done.stdout.splitlines()])
    ground = {"text": [*TEXTS, LONG], "conf": 0.0, "verbose": False, "device": "cpu", "imgsz": 128}
    expected = opened.predict(image, **ground)[0].boxes
    np.testing.assert_allclose(rows[:, :4], expected.xyxy, atol=0.06)
    np.testing.assert_allclose(rows[:, 4], expected.conf, atol=1e-4)


def test_only_the_pocket_encoder_has_a_graph(tmp_path: Path) -> None:
    class Other(TextEncoder):
        name = "sbert:other"

        def _tokens(self, texts: list[str]) -> list[list[int]]:
            return []

        def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return ids

    with pytest.raises(ValueError, match="pocket alone, and this model's is sbert:other"):
        export_text(Other(), tmp_path / "best")
    assert not list(tmp_path.iterdir())
