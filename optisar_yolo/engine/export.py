"""Export: the network as one ONNX graph; its inputs and outputs are those of :mod:`optisar_yolo.engine.onnx`.

As in :meth:`~optisar_yolo.nn.model.GroundingModel.predict`, each sentence has its own row of the text-guided neck, so
that N sentences in one run get the answers of N runs. Only the best anchor of a sentence is decoded, inside the graph.
"""

from __future__ import annotations

import copy
import inspect
import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from optisar_yolo import __version__
from optisar_yolo.checkpoint import BUNDLED
from optisar_yolo.engine.calibrate import ATTRIBUTE, calibration_of
from optisar_yolo.engine.onnx import FORMAT, INPUTS, OUTPUTS, OnnxModel, need
from optisar_yolo.files import write_atomic
from optisar_yolo.identify import MARK
from optisar_yolo.nn.model import GroundingModel

OPSET = 17  # the first with LayerNormalization; any PyTorch that we support writes it
AXES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "text": {0: "batch", 1: "texts"},
    "extent": {0: "batch"},
    "boxes": {0: "batch", 1: "texts"},
    "conf": {0: "batch", 1: "texts"},
}
TOLERANCE = 1e-3  # of a confidence, between the file and PyTorch; rounding alone stays far below


class ExportError(RuntimeError):
    """The written graph does not give what the network gives."""


class Answers(nn.Module):
    """What is exported: pictures and sentences in, one box and confidence per sentence out.

    Args:
        model: The network, in evaluation mode.
    """

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, text: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W], text [B, T, D] and extent [B, 4] to boxes [B, T, 4] and conf [B, T]."""
        b, t, d = text.shape
        scene = self.model.encode(images, extent)
        if not self.model.guided:
            boxes, conf = self.model.head.decode(self.model.query_all(scene, text))
            return boxes[:, :, 0], conf[:, :, 0]
        # not `repeat_interleave`: a number of repeats that is known only at run time has no ONNX counterpart
        index = torch.arange(b, device=images.device)[:, None].expand(b, t).reshape(-1)
        boxes, conf = self.model.head.decode(self.model.query(scene.rows(index), text.reshape(-1, d)))
        return boxes.reshape(b, t, 4), conf.reshape(b, t)


def check_options(args: Any) -> None:
    """Refuse what an export cannot do, before any work is done.

    Args:
        args: Ultralytics' configuration of an export.

    Raises:
        ValueError: Another format than onnx, or a precision other than 32 bits, or non-maximum suppression.
    """
    if str(args.format).lower() != "onnx":
        raise ValueError(
            f"format={args.format} is not supported: the network takes sentences as a second input, for which only "
            "format=onnx is written and checked; most runtimes (OpenVINO, TensorRT, CoreML) convert an ONNX file"
        )
    if args.quantize not in (None, 32, "32", "fp32"):
        raise ValueError(f"quantize={args.quantize} is not supported: an export has 32 bits; leave both out")
    if args.nms:
        raise ValueError("nms=True is not supported: an export gives one box per sentence, so leave nms out")


def target_of(model: GroundingModel, source: str | None) -> Path:
    """Where an export goes: beside the weights, or into the working folder for packaged or new ones.

    Args:
        model: The network.
        source: The file that it was loaded from.
    """
    if not source:
        return Path(model.yaml.get("yaml_file", "optisar++.yaml")).with_suffix(".onnx")
    path = Path(source).with_suffix(".onnx")
    return Path(path.name) if path.parent == BUNDLED else path


def export_onnx(model: GroundingModel, path: str | Path, imgsz: Any = 640, opset: int | None = None) -> Path:
    """Write the network as ONNX and compare it with PyTorch on another number of pictures, sentences and pixels.

    Args:
        model: The network; it is left as it is.
        path: The file to write. It is replaced as a whole or, on any error, stays as it was.
        imgsz: Long side, in pixels, that a program should use unless told otherwise; kept in the metadata.
        opset: Version of the ONNX operators.

    Returns:
        The path.

    Raises:
        MissingExtraError: The packages of the extra ``export`` are not installed.
        ExportError: The graph does not reproduce the network; nothing is written.
        OSError: The folder cannot be written.
    """
    onnx, ort = need("onnx"), need("onnxruntime")
    net = Answers(copy.deepcopy(model).cpu().float()).eval()  # all of it: PyTorch's exporter restores the mode
    stride = int(model.stride.max())
    long_side = check_imgsz(imgsz, stride=stride, min_dim=1)
    graph = onnx.load_from_string(_trace(net, stride, opset or OPSET))
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = (INPUTS | OUTPUTS)[value.name]
    calibration = calibration_of(model)
    meta = {
        "format": FORMAT,
        "version": __version__,
        "names": {str(k): v for k, v in model.names.items()},
        "text_model": model.text_model or "pocket",  # what an untrained network is asked with too
        "text_fingerprint": model.text_fingerprint,
        "text_dim": model.text_dim,
        "imgsz": long_side if isinstance(long_side, int) else max(long_side),
        "stride": stride,
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        **({ATTRIBUTE: calibration.to_dict()} if calibration else {}),
    }
    onnx.helper.set_model_props(graph, {MARK: json.dumps(meta)})
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    _compare(net, ort.InferenceSession(content, providers=["CPUExecutionProvider"]), stride)
    return write_atomic(path, content)


def _example(net: Answers, b: int, t: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random inputs of b pictures and t sentences, the same in every call; the pictures are padded above and below."""
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(b, t, net.model.text_dim, generator=generator), dim=-1)
    extent = torch.tensor([0.0, 0.125, 1.0, 0.875]).repeat(b, 1)
    return torch.rand(b, 3, height, width, generator=generator), text, extent


def _trace(net: Answers, stride: int, opset: int) -> bytes:
    """The graph as PyTorch writes it."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        # The tracing exporter exists in every supported PyTorch, needs no further package and keeps all axes free.
        options["dynamo"] = False
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based", category=DeprecationWarning)
        # `decode` compares the number of anchors with k, which is 1 here: the comparison may be frozen
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=r"optisar_yolo\.nn\.head")
        # true of negative indices; the constant ones of PatchConv are not
        warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
        torch.onnx.export(
            net,
            _example(net, 2, 3, 3 * stride, 4 * stride),  # no size is 1, which a trace may take for a constant
            buffer,  # type: ignore[arg-type]
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=AXES,
            opset_version=opset,
            **options,
        )
    return buffer.getvalue()


def _compare(net: Answers, session: Any, stride: int) -> None:
    """Check the graph against the network on sizes that the trace has not seen.

    Raises:
        ExportError: A confidence differs by more than rounding.
    """
    worst = 0.0
    for b, t, height, width in ((1, 1, 7, 5), (3, 2, 4, 8)):
        inputs = _example(net, b, t, height * stride, width * stride)
        with torch.inference_mode():
            expected = net(*inputs)[1]
        found = session.run(["conf"], {k: v.numpy() for k, v in zip(INPUTS, inputs, strict=True)})[0]
        worst = max(worst, float((expected - torch.from_numpy(found)).abs().max()))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the exported graph gives other confidences than the network (by {worst:.2g}), so no file was written; "
            f"try opset={OPSET} or another version of torch or onnxruntime"
        )
    LOGGER.info(f"ONNX graph agrees with PyTorch: confidences differ by at most {worst:.1g}")


def run_export(model: GroundingModel, args: Any, source: str | None) -> str:
    """Do what ``optisar export`` asks for.

    Args:
        model: The network.
        args: Ultralytics' configuration: ``format``, ``imgsz`` and ``opset`` count, ``simplify``, ``batch``,
            ``dynamic`` and ``device`` change nothing: sizes and counts are always free.
        source: File that the network was loaded from.

    Returns:
        Path of the file, as ultralytics' export gives it.

    Raises:
        ValueError: An option that cannot be met.
    """
    check_options(args)
    path = export_onnx(model, target_of(model, source), args.imgsz, args.opset)
    # read back as a user will: a file that the package itself would refuse is never reported as done
    written = OnnxModel(path)
    LOGGER.info(
        f"Exported to {path} ({path.stat().st_size / 1e6:.1f} MB), inputs {', '.join(INPUTS)}; text features from the "
        f"encoder {written.text_model}, {written.text_dim} wide"
    )
    return str(path)
