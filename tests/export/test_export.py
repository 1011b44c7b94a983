"""Export to ONNX: the file gives the boxes of the network, alone and through the package."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from lively_net import lively
from ultralytics import YOLO

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main as cli
from optisar_yolo.engine.checkpoint import BUNDLED, CheckpointError, save_shared
from optisar_yolo.export import export, exported as runtime
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.plugin import identify
from optisar_yolo.text import load_text_encoder

REPOSITORY = Path(__file__).resolve().parents[2]

TEXTS = ["The SAR ship in the upper left corner of the image", "the airplane at the bottom", "the small ship"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small graphs lose more to threads that wait for each other than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(one_thread) -> GroundingModel:
    return lively()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The same network as shared weights (half precision, so loaded back) and as their export."""
    folder = tmp_path_factory.mktemp("export")
    weights = save_shared(model, folder / "optisar-small.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # a branch or size frozen into the graph
        path = OptiSAR(weights).export(imgsz=320)
    return weights, path


@pytest.fixture(scope="module")
def eager(files) -> GroundingModel:
    return OptiSAR(files[0]).model


@pytest.fixture(scope="module")
def session(files):
    return onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "port.png"
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (12, 25, 3), np.uint8), (250, 120), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), image)
    return path


def inputs(b, t, height, width, dim, seed=0, extent=(0.0, 0.1, 1.0, 0.8)):
    g = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(b, t, dim, generator=g), dim=-1)
    return torch.rand(b, 3, height, width, generator=g), text, torch.tensor([extent]).repeat(b, 1)


def run(session, images, text, extent):
    return session.run(["boxes", "conf"], {"images": images.numpy(), "text": text.numpy(), "extent": extent.numpy()})


@pytest.mark.parametrize(
    ("b", "t", "height", "width"), [(1, 1, 256, 256), (2, 3, 192, 320), (3, 2, 224, 160), (1, 7, 160, 96)]
)
def test_equals_the_network(eager, session, b, t, height, width):
    x = inputs(b, t, height, width, eager.text_dim)
    with torch.inference_mode():
        preds = eager.predict(x[0], x[1], x[2])
        boxes, conf = eager.head.decode(preds)
    assert preds["scores"].std() > 0.1  # something to tell apart
    found_boxes, found_conf = run(session, *x)
    assert found_boxes.shape == (b, t, 4) and found_conf.shape == (b, t)
    np.testing.assert_allclose(found_conf.reshape(-1), conf[:, 0, 0], rtol=1e-4)
    np.testing.assert_allclose(found_boxes.reshape(-1, 4), boxes[:, 0, 0], atol=1e-2)


def test_inputs_matter_and_expressions_do_not_disturb_each_other(eager, session):
    images, text, extent = inputs(2, 4, 160, 224, eager.text_dim)
    boxes, conf = run(session, images, text, extent)
    assert len(np.unique(conf)) == conf.size
    for i in range(2):
        for j in range(4):
            one = run(session, images[i : i + 1], text[i : i + 1, j : j + 1], extent[i : i + 1])
            np.testing.assert_allclose(one[0][0, 0], boxes[i, j], atol=1e-2)
            np.testing.assert_allclose(one[1][0, 0], conf[i, j], rtol=1e-4)
    moved = run(session, images, text, torch.tensor([[0.2, 0.0, 0.9, 1.0]]).repeat(2, 1))
    assert np.abs(moved[1] - conf).max() > 1e-3


def test_the_file_says_what_it_is(files, session, eager):
    graph = onnx.load(files[1])
    onnx.checker.check_model(graph)
    meta = json.loads(session.get_modelmeta().custom_metadata_map["optisar"])
    assert meta["imgsz"] == 320 and meta["stride"] == 32 and meta["text_dim"] == eager.text_dim
    assert meta["text_model"] == eager.text_model and meta["text_fingerprint"] == eager.text_fingerprint
    assert meta["names"] == {"0": "object"} and meta["version"]
    shapes = {v.name: v.shape for v in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "images": ["batch", 3, "height", "width"],
        "text": ["batch", "texts", eager.text_dim],
        "extent": ["batch", 4],
        "boxes": ["batch", "texts", 4],
        "conf": ["batch", "texts"],
    }
    assert [v.doc_string for v in graph.graph.input] == list(runtime.INPUTS.values())
    assert identify.is_ours(files[1])


def test_predict_as_the_network_does(files, image):
    ground = {"text": TEXTS, "conf": 0.0, "verbose": False, "device": "cpu"}
    expected = OptiSAR(files[0]).predict(image, **ground)[0]
    opened = YOLO(files[1])  # handed over
    assert type(opened) is OptiSAR
    found = opened.predict(image, **ground)[0]
    assert found.names == expected.names and len(found.boxes) == len(TEXTS)
    assert found.boxes.xyxy.numpy() == pytest.approx(expected.boxes.xyxy.numpy(), abs=2e-2)
    assert found.boxes.conf.numpy() == pytest.approx(expected.boxes.conf.numpy(), rel=1e-4)
    many = opened.predict([cv2.imread(str(image)), np.zeros((90, 60, 3), np.uint8)], **ground)
    assert [len(r.boxes) for r in many] == [len(TEXTS)] * 2
    with pytest.raises(ValueError, match="topk=1"):
        opened.predict(image, topk=3, **ground)
    with pytest.raises(TypeError, match="PyTorch"):
        opened.export()


def test_more_expressions_than_one_run_takes(files, session, eager):
    images, text, extent = inputs(2, 5, 96, 96, eager.text_dim)
    boxes, conf = run(session, images, text, extent)
    opened = runtime.ExportedModel(files[1])
    opened.batch = 2
    rows = torch.tensor([1, 0] * 5)  # any order
    order = [(int(r), n // 2) for n, r in enumerate(rows)]
    features = torch.stack([text[i, j] for i, j in order])
    b, c = opened.ground(opened.encode(images, extent), rows, features)
    assert b[:, 0].numpy() == pytest.approx(np.stack([boxes[i, j] for i, j in order]), abs=1e-2)
    assert c[:, 0].numpy() == pytest.approx(np.array([conf[i, j] for i, j in order]), rel=1e-4)


def test_val_as_the_network_does(files, tiny, tmp_path):
    options = {
        "data": str(tiny),
        "split": "test",
        "imgsz": 96,
        "device": "cpu",
        "plots": False,
        "project": str(tmp_path),
    }
    expected, found = (OptiSAR(f).val(**options, batch=2).results_dict for f in files)
    assert any(expected.values()) and found == pytest.approx(expected, abs=1e-3)


def test_example_without_pytorch(files, image, tmp_path):
    assert len((REPOSITORY / "examples" / "onnx_only.py").read_text(encoding="utf-8").splitlines()) <= 40
    np.save(tmp_path / "text.npy", load_text_encoder("pocket").encode(TEXTS).numpy())
    code = (
        "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, REPOSITORY / "examples" / "onnx_only.py", files[1], image]
    done = subprocess.run([*command, tmp_path / "text.npy"], capture_output=True, text=True, check=True)
    rows = np.array([[float(v) for v in line.split()] for line in done.stdout.splitlines()])
    expected = OptiSAR(files[0]).predict(image, text=TEXTS, conf=0.0, verbose=False, device="cpu")[0].boxes
    assert rows[:, :4] == pytest.approx(expected.xyxy.numpy(), abs=3e-2)
    assert rows[:, 4] == pytest.approx(expected.conf.numpy(), abs=1e-4)


# what it refuses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "engine"}, "format=engine is not supported; formats here are onnx, openvino, torchscript"),
        ({"half": True}, "32 bits"),
        ({"quantize": 8}, "format=openvino alone"),
        ({"int8": True, "format": "openvino"}, "int8 needs data="),
        ({"text": ["a ship"], "parts": True}, "leave one out"),
        ({"nms": True}, "the best box of an expression"),
    ],
)
def test_refusals(files, options, words):
    with pytest.raises(ValueError, match=words):
        OptiSAR(files[0]).export(**options)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_packages_are_named_not_installed(model, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'optisar-yolo\[export\]'") as error:
        export.export(model, tmp_path / "x.onnx", export.ExportSettings())
    assert isinstance(error.value, ValueError)  # what `optisar` reports in one line
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_written(model, tmp_path, monkeypatch):
    (tmp_path / "x.onnx").write_bytes(b"before")
    right = export.WholeNetwork.forward
    in_trace = torch.onnx.is_in_onnx_export
    wrong = lambda *a: [v * (0.5 if in_trace() else 1.0) for v in right(*a)]  # noqa: E731
    monkeypatch.setattr(export.WholeNetwork, "forward", wrong)
    with pytest.raises(export.ExportError, match="no file was written"):
        export.export(model, tmp_path / "x.onnx", export.ExportSettings())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.onnx", b"before")]


def test_files_that_are_not_exports(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        OptiSAR(tmp_path / "optisar-none.onnx")
    content = open(files[1], "rb").read()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        OptiSAR(tmp_path / "cut.onnx")
    graph = onnx.load(files[1])
    onnx.helper.set_model_props(graph, {"optisar": json.dumps({"format": 99, "version": "9.0"})})
    onnx.save(graph, tmp_path / "later.onnx")
    with pytest.raises(CheckpointError, match="update optisar-yolo"):
        OptiSAR(tmp_path / "later.onnx")


def test_command_line(files, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "best.safetensors"
    copy.write_bytes(files[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    assert cli(["export", f"model={copy}", "imgsz=128"]) == 0  # onnx where no format is given
    assert runtime.ExportedModel(copy.with_suffix(".onnx")).imgsz == 128
    assert cli(["export", "imgsz=128"]) == 0 and Path("optisar++n-pocket.onnx").is_file()  # the package's own weights
    assert cli(["export", f"model={copy}", "format=ncnn"]) == 1
    assert "use format=onnx" in capsys.readouterr().err


def test_where_the_file_goes(model, tmp_path):
    assert export.target_of(model, str(tmp_path / "best.pt")) == tmp_path / "best.onnx"
    assert export.target_of(model, str(BUNDLED / "optisar++n-pocket.safetensors")) == Path("optisar++n-pocket.onnx")
    assert export.target_of(model, None) == Path("optisar++n.onnx")
