"""What exports refuse, how OpenVINO's folders and 8 bits behave, and what is left when something goes wrong."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lively_net import lively
from ultralytics.engine.exporter import export_formats

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import ImageRecord, load_split
from optisar_yolo.engine.checkpoint import CheckpointError, save_shared
from optisar_yolo.export import export
from optisar_yolo.export.export import ENDING, check_format
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.export.graphs import Encoder, flatten, rebuild
from optisar_yolo.export.quantise import calibration_images
from optisar_yolo.plugin import identify

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OptiSAR:
    return OptiSAR(save_shared(lively(), tmp_path_factory.mktemp("weights") / "best.safetensors"))


@pytest.fixture(scope="module")
def parts(opened: OptiSAR) -> Path:
    return Path(opened.export(format="torchscript", parts=True, imgsz=96))


def options(**given: Any) -> SimpleNamespace:
    plain = {"opset": None, "format": "onnx", "nms": None, "quantize": None, "data": None, "parts": False, "text": None}
    return SimpleNamespace(**(plain | given))


# options


def test_every_other_format_of_ultralytics_is_refused() -> None:
    names = set(export_formats()["Argument"]) - {"-"}
    assert set(ENDING) < names
    for name in names - set(ENDING):
        with pytest.raises(ValueError, match=f"format={name} is not supported; formats here are onnx, openvino, tor"):
            check_format(options(format=name))
    assert [check_format(options(format=name)) for name in ENDING] == list(ENDING)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"quantize": 8, "data": "x.yaml"}, "format=openvino alone"),
        ({"quantize": 8, "format": "openvino"}, "int8 needs data=<dataset config>"),
        ({"quantize": 8, "format": "openvino", "data": "x.yaml", "parts": True}, "leave one of them out"),
        ({"quantize": 16, "format": "openvino"}, "32 bits"),
        ({"text": "a ship", "parts": True}, "leave one out"),
    ],
)
def test_options_that_cannot_be_met(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_format(options(**given))


def test_missing_openvino_is_named_not_installed(
    opened: OptiSAR, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'optisar-yolo\[openvino\]'"):
        export.export(opened.model, tmp_path / "x_openvino_model", export.ExportSettings("openvino", 96))
    assert not list(tmp_path.iterdir())


# tensors of two parts


@pytest.mark.parametrize("kind", ["", "-late"])
def test_encoded_images_come_apart_and_together_again(kind: str) -> None:
    model = lively(kind)
    encoded = model.encode(torch.rand(2, 3, 64, 96))
    tensors = flatten(encoded)
    assert len({id(t) for t in tensors.values()}) == len(tensors)
    same = rebuild(encoded, tensors)
    assert type(same) is type(encoded) and list(flatten(same)) == list(tensors)
    assert all(a is b for a, b in zip(flatten(same).values(), tensors.values(), strict=True))
    doubled = rebuild(encoded, {k: 2 * v for k, v in tensors.items()})
    assert torch.equal(doubled.first, 2 * encoded.first)
    assert "extent" not in Encoder(model).outputs


def test_parts_belong_together(parts: Path, opened: OptiSAR, tmp_path: Path) -> None:
    alone = tmp_path / parts.name
    shutil.copy(parts, alone)
    with pytest.raises(CheckpointError, match="one of two parts"):
        ExportedModel(alone)
    query = parts.with_name(parts.name.replace("-encoder", "-query"))
    shutil.copy(query, tmp_path / query.name)
    assert ExportedModel(alone).query is not None
    opened.export(format="torchscript", parts=True, imgsz=96)
    shutil.copy(query, tmp_path / query.name)
    with pytest.raises(CheckpointError, match="different exports"):
        ExportedModel(alone)
    with pytest.raises(CheckpointError, match="names that the export gave"):
        ExportedModel(alone.rename(tmp_path / "renamed.torchscript"))


def test_a_damaged_file_is_named(parts: Path, tmp_path: Path) -> None:
    cut = tmp_path / parts.name
    cut.write_bytes(parts.read_bytes()[:5000])
    assert not identify.is_ours(cut)
    with pytest.raises(CheckpointError, match=r"best-encoder\.torchscript: damaged"):
        OptiSAR(cut)


def test_nothing_is_left_of_an_export_that_differs(
    opened: OptiSAR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "best.torchscript"
    target.write_bytes(b"before")
    right = export.WholeNetwork.forward
    monkeypatch.setattr(export.WholeNetwork, "forward", lambda *a: tuple(0.5 * v for v in right(*a)))
    with pytest.raises(export.ExportError, match="no file was written"):
        export.export(opened.model, target, export.ExportSettings("torchscript", 96))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(target.name, b"before")]


# OpenVINO


@pytest.fixture(scope="module")
def folder(opened: OptiSAR) -> Path:
    pytest.importorskip("openvino")
    return Path(opened.export(format="openvino", imgsz=96))


def test_a_folder_of_openvino(folder: Path, opened: OptiSAR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["best.bin", "best.xml", "optisar.json"]
    assert identify.is_ours(folder) and not identify.is_ours(tmp_path)
    note = json.loads((folder / "optisar.json").read_text(encoding="utf-8"))["optisar"]
    assert note["imgsz"] == 96 and note["text_fingerprint"] == opened.model.text_fingerprint
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    graph: Any = ExportedModel(folder).graph
    assert graph.compiled.get_property("INFERENCE_NUM_THREADS") == 1  # as PyTorch's
    assert graph.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    (copy / "best.bin").unlink()
    with pytest.raises(CheckpointError, match=r"needs one \.xml with its \.bin"):
        OptiSAR(copy)
    (copy / "optisar.json").unlink()
    with pytest.raises(CheckpointError, match="damaged, or not an export"):
        OptiSAR(copy)
    with pytest.raises(FileNotFoundError):
        OptiSAR(tmp_path / "optisar-none_openvino_model")


def test_an_older_folder_is_replaced_as_a_whole(folder: Path, opened: OptiSAR) -> None:
    (folder / "left.txt").touch()
    assert Path(opened.export(format="openvino", imgsz=64)) == folder
    assert sorted(p.name for p in folder.iterdir()) == ["best.bin", "best.xml", "optisar.json"]
    assert ExportedModel(folder).imgsz == 64
    assert not list(folder.parent.glob(".optisar-export*"))


def test_eight_bits(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    model = lively("-late")
    own = OptiSAR(save_shared(model, tmp_path / "best.safetensors"))
    path = own.export(format="openvino", int8=True, data=str(tiny), imgsz=64, fraction=2)
    graph = (Path(path) / "best.xml").read_text(encoding="utf-8")
    layers = [line for line in graph.splitlines() if 'type="FakeQuantize"' in line or 'element_type="i8"' in line]
    assert layers
    assert graph.count('type="Swish"') > 10 * graph.count('type="Sigmoid"')  # else 8 bits stand within each SiLU: slow
    # how much each chosen expert counts may be rounded on its way out of the gate, but not what chooses it
    layers = [line for line in layers if "/gate/ScatterElements/fq_output" not in line]
    assert not [line for line in layers if "/cv4." in line or "/reranker/" in line or "/gate/" in line]
    g = torch.Generator().manual_seed(0)
    case = {"images": torch.rand(1, 3, 64, 96, generator=g), "extent": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}
    case["text"] = torch.nn.functional.normalize(torch.randn(1, 4, own.model.text_dim, generator=g), dim=-1)
    exact = own.model.head.decode(own.model.match_all(own.model.encode(case["images"], case["extent"]), case["text"]))
    found = ExportedModel(path)
    assert found.meta["quantize"] == 8
    np.testing.assert_allclose(found.graph(case)["conf"], exact[1][:, :, 0].detach(), atol=0.2)  # coarse, not other
    with pytest.raises(ValueError, match="at least 96"):
        found.encode(torch.rand(1, 3, 64, 64))


def test_images_for_eight_bits(tiny: Path) -> None:
    images = load_split(load_dataset_config(tiny), "val")

    def chosen(fraction: float) -> list[ImageRecord]:
        return calibration_images(SimpleNamespace(data=tiny, fraction=fraction, seed=0))

    assert [p.path for p in chosen(1.0)] == [p.path for p in images]
    assert len(chosen(0.5)) == 2  # a share of each modality, one at least
    assert len(chosen(50)) == len(images)  # a number, and no more


@pytest.mark.parametrize("damage", ["cut", "no outputs", "no JSON"])
def test_damaged_onnx_files_are_named(tmp_path: Path, damage: str) -> None:
    import onnx

    made = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 32, 32])
    node = onnx.helper.make_node("Relu", ["images"], ["boxes"])
    end = onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1, 3, 32, 32])
    graph = onnx.helper.make_graph([node], "g", [made], [] if damage == "no outputs" else [end])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {"optisar": "{" if damage == "no JSON" else '{"format": 2}'})
    content = model.SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content[:20] + content[25:] if damage == "cut" else content)
    with pytest.raises(CheckpointError, match=r"a\.onnx: .*damaged.*export the model again"):
        ExportedModel(tmp_path / "a.onnx")
