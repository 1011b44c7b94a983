"""Writing a part of the network as ONNX, OpenVINO or TorchScript; nothing here asks whether the result is right."""

from __future__ import annotations

import inspect
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from optisar_yolo.export.graphs import Exportable
from optisar_yolo.export.runtimes import jit
from optisar_yolo.plugin import EXPORT_NOTE, MARK
from optisar_yolo.utils import need

OPSET = 17  # the first with LayerNormalization; any PyTorch that we support writes it


@contextmanager
def tracing() -> Iterator[None]:
    """Silence the warnings of a trace that are known to be false alarms."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based", category=DeprecationWarning)
        # Two comparisons of the number of anchors, with the one box wanted and with the number of candidates, may be
        # frozen: a canvas has fewer anchors than candidates only where it is a single cell of 32 x 32 pixels. The text
        # encoder takes the three parts of its attention, and their width, for what they are: constants.
        for module in (r"optisar_yolo\.nn\.head", r"optisar_yolo\.nn\.rerank", r"optisar_yolo\.text\.pocket"):
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=module)
        # true of negative indices; the constant ones of PatchConv are not
        warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
        yield


def _sample(net: Exportable) -> tuple[torch.Tensor, ...]:
    """Inputs for a trace: no size is 1, which it may take for a constant."""
    stride = int(net.model.stride.max())
    return net.example(2, 3, 3 * stride, 4 * stride)


def onnx_options() -> dict[str, Any]:
    """Choose the tracing exporter: it exists in every PyTorch we support, needs no package and keeps all axes free."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def write_onnx(net: Exportable, path: Path, meta: dict[str, Any], opset: int | None = None) -> None:
    """Write a part of the network as an ONNX file.

    Args:
        net: The part, in evaluation mode.
        path: The file.
        meta: Metadata.
        opset: Version of the ONNX operators.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    onnx = need("onnx")
    buffer = io.BytesIO()
    names = [*net.inputs, *net.outputs]
    with tracing():
        torch.onnx.export(
            net,
            _sample(net),
            buffer,  # type: ignore[arg-type]
            input_names=list(net.inputs),
            output_names=list(net.outputs),
            dynamic_axes={name: net.axes[name] for name in names if name in net.axes},
            opset_version=opset or OPSET,
            **onnx_options(),
        )
    graph = onnx.load_from_string(buffer.getvalue())
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = (net.inputs | net.outputs)[value.name]
    onnx.helper.set_model_props(graph, {MARK: json.dumps(meta)})
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString())


def write_torchscript(net: Exportable, path: Path, meta: dict[str, Any]) -> None:
    """Write a part of the network as a TorchScript file, the metadata in it as a file of their own."""
    note = json.dumps({MARK: {**meta, "inputs": net.inputs, "outputs": net.outputs}})
    with jit(), tracing():
        # PyTorch's own comparison is left out: `export` compares on other sizes than these.
        traced = torch.jit.trace(net, _sample(net), check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={EXPORT_NOTE: note})


def read_openvino(path: Path) -> Any:
    """Read an ONNX file as a model of OpenVINO, in which one's names and free axes are kept.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    # not `convert_model`, which reports its use over the network
    return need("openvino").Core().read_model(str(path))


def write_openvino(model: Any, folder: Path, meta: dict[str, Any]) -> None:
    """Write a model of OpenVINO as a folder: the graph, its weights and our metadata.

    Args:
        model: As of :func:`read_openvino`.
        folder: The folder, which is made.
        meta: Metadata.
    """
    folder.mkdir()
    name = folder.name.removesuffix("_openvino_model")
    need("openvino").save_model(model, str(folder / f"{name}.xml"), compress_to_fp16=False)
    (folder / EXPORT_NOTE).write_text(json.dumps({MARK: meta}, indent=1), encoding="utf-8")
