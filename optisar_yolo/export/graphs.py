"""What is exported: a network, or a part of it, as a module of tensors in and tensors out; and how it is written.

Each expression has its own row in the text-guided neck, as in :meth:`~optisar_yolo.nn.model.GroundingModel.predict`, so
that N expressions in one run give the same boxes as N runs. Only the best anchors of an expression are decoded, inside
the graph; duplicates among several are removed outside. Nothing here compares a written graph with the network;
:mod:`optisar_yolo.export.export` does.
"""

from __future__ import annotations

import inspect
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optisar_yolo.engine import ROUTING, SIZES
from optisar_yolo.export.exported import COUNT, INPUTS, OUTPUTS, SEVERAL
from optisar_yolo.export.runtimes import without_jit_advice
from optisar_yolo.nn import Encoded, GroundingModel, MoEBlock, named_parts
from optisar_yolo.plugin import EXPORT_NOTE, MARK
from optisar_yolo.utils import need

LOWEST_OPSET = 13  # the first that repeats a tensor of any size (repeat_interleave)
SAMPLED = 5  # boxes per expression in a trace where their number is an input
OPSET = 17  # the first with LayerNormalization; any PyTorch that we support writes it
FREE = {  # axes whose length may change from run to run; those of an encoder's maps are numbered by `Encoder`
    "images": {0: "batch", 2: "height", 3: "width"},
    "text": {0: "batch", 1: "texts"},
    "extent": {0: "batch"},
    "boxes": {0: "batch", 1: "texts"},
    "conf": {0: "batch", 1: "texts"},
}


class Exportable(nn.Module):
    """A traceable part of a network.

    Args:
        model: The network, in evaluation mode.
        topk: Boxes per expression; None makes their number an input.

    Attributes:
        inputs: Name and description of each input.
        outputs: Name and description of each output.
        axes: Names of the free axes of each.
    """

    def __init__(self, model: GroundingModel, topk: int | None = 1) -> None:
        super().__init__()
        self.model, self.topk = model, topk
        self.inputs, self.outputs = dict(INPUTS), dict(OUTPUTS)
        self.axes: dict[str, dict[int, str]] = dict(FREE)
        if topk != 1:
            self.outputs = dict(SEVERAL)
            self.axes |= {name: {**FREE[name], 2: "boxes_per_text"} for name in SEVERAL}
        if topk is None:
            self.inputs |= COUNT

    def example(self, b: int, t: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return inputs of b images and t expressions, the same in every call."""
        given = example(b, t, height, width, self.model.text_dim, self.model.channels)
        return tuple(given[name] for name in self.inputs)

    def best(self, encoded: Encoded, text: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return boxes and confidences of text [B, T, D], as many as the graph gives or `count` says."""
        return best_per_expression(self.model, encoded, text, self.topk if count is None else count)  # type: ignore[arg-type]


class WholeNetwork(Exportable):
    """Images and expressions in, one box and confidence per expression out, or several."""

    def forward(
        self, images: Tensor, text: Tensor, extent: Tensor, count: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W], text [B, T, D] and extent [B, 4] to boxes and confidences."""
        return self.best(self.model.encode(images, extent), text, count)


class FixedExpressions(Exportable):
    """The network with fixed expressions.

    Args:
        model: The network, in evaluation mode.
        text: Features of the expressions [T, D].
        topk: Boxes per expression.
    """

    def __init__(self, model: GroundingModel, text: Tensor, topk: int = 1) -> None:
        super().__init__(model, topk)
        del self.inputs["text"]
        self.text: Tensor
        self.register_buffer("text", text[None].clone())

    def forward(self, images: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W] and extent [B, 4] to boxes and confidences."""
        return self.best(self.model.encode(images, extent), self.text.expand(images.shape[0], -1, -1), None)


class Encoder(Exportable):
    """The first of two graphs: images to features that depend on no expression, named by their place in `Encoded`.

    Args:
        model: The network, in evaluation mode.
        routing: Also give the routing of each PL-MoE block, which no expression needs: its gates ``routing_moe8``
            [B, E, rows, columns], and as ``routing_moe8_sizes`` [B, 3] the height and width of the map that its patches
            cover, and the height of the block's map.

    Attributes:
        features: Those of the outputs that the query graph takes.
    """

    def __init__(self, model: GroundingModel, routing: bool = False) -> None:
        super().__init__(model)
        self.gates: dict[str, Tensor] = {}  # of the last run
        if routing:
            self._record_routing()
        del self.inputs["text"]
        with torch.inference_mode():
            small, large = (
                flatten(needed(model.encode(*self.example(2, 1, *size)), model.guided))
                for size in ((128, 96), (192, 160))
            )
        self.outputs = {}
        for name, value in small.items():
            if name == "extent":  # an input of both graphs
                continue
            self.outputs[name] = "part of the encoded images, for the query graph [batch, ...]"
            free = [i for i, n in enumerate(value.shape) if n != large[name].shape[i]]
            self.axes[name] = {0: "batch"} | {i: f"{name}_{i}" for i in free}
        self.features = list(self.outputs)
        for name, value in self.gates.items():
            self.outputs[name] = "routing of the experts, which no expression needs [batch, ...]"
            self.axes[name] = {0: "batch"} | {i: f"{name}_{i}" for i in range(2, value.ndim)}

    def _record_routing(self) -> None:
        """Keep the gates of each PL-MoE block, and the sizes that tell where its patches lie, in every run."""
        for part, block in named_parts(self.model, MoEBlock, "moe").items():

            def size(_: nn.Module, args: tuple[Tensor, ...], name: str = f"{ROUTING}{part}") -> None:
                self.gates[name + SIZES] = torch._shape_as_tensor(args[0])[2:3]  # stays open in a trace

            def keep(_: nn.Module, args: tuple[Any, ...], name: str = f"{ROUTING}{part}") -> None:
                x, gates, rows = args[0], args[1], self.gates.pop(name + SIZES)
                sizes = torch.cat((torch._shape_as_tensor(x)[2:], rows))
                self.gates[name] = gates
                self.gates[name + SIZES] = sizes.expand(gates.shape[0], -1)

            block.register_forward_pre_hook(size)
            block.experts.register_forward_pre_hook(keep)

    def forward(self, images: Tensor, extent: Tensor) -> tuple[Tensor, ...]:
        """Map images [B, 3, H, W] and extent [B, 4] to the tensors that `outputs` names."""
        made = flatten(needed(self.model.encode(images, extent), self.model.guided)) | self.gates
        return tuple(made[name] for name in self.outputs)


class Query(Exportable):
    """The second of two graphs: encoded images and expressions to boxes and confidences.

    Args:
        encoder: The first.
        topk: Boxes per expression; None makes their number an input.
    """

    def __init__(self, encoder: Encoder, topk: int | None = 1) -> None:
        super().__init__(encoder.model, topk)
        self.encoder = [encoder]  # in a list: not a part of this module
        self.inputs = {name: encoder.outputs[name] for name in encoder.features}
        self.inputs |= {name: INPUTS[name] for name in ("text", "extent")}
        if topk is None:
            self.inputs |= COUNT
        self.axes = {**encoder.axes, **{name: self.axes[name] for name in self.outputs}}
        with torch.inference_mode():
            self.encoded = needed(encoder.model.encode(*encoder.example(2, 1, 128, 96)), encoder.model.guided)

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Map the encoder's tensors, text [B, T, D] and extent [B, 4] to boxes and confidences."""
        tensors = dict(zip(self.inputs, given, strict=True))
        text, count = tensors.pop("text"), tensors.pop("topk", None)
        return self.best(rebuild(self.encoded, tensors), text, count)

    def example(self, b: int, t: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return inputs as of the whole network, the images encoded."""
        encoder = self.encoder[0]
        given = example(b, t, height, width, self.model.text_dim, self.model.channels)
        with torch.inference_mode():
            made = encoder(given["images"], given["extent"])[: len(encoder.features)]
        # cloned: a trace keeps its inputs, which tensors of the inference mode do not allow
        return (*(v.clone() for v in made), *(v for k, v in given.items() if k != "images" and k in self.inputs))


def best_per_expression(
    model: GroundingModel, encoded: Encoded, text: Tensor, k: int | Tensor = 1
) -> tuple[Tensor, Tensor]:
    """Ground expressions in B encoded images.

    Args:
        model: The network.
        encoded: The images.
        text: Features of the expressions [B, T, D].
        k: Boxes per expression.

    Returns:
        The best boxes [B, T, k, 4] and their confidences [B, T, k]; for the number 1 [B, T, 4] and [B, T].
    """
    b, t, d = text.shape
    one = isinstance(k, int) and k == 1
    if not model.guided:
        boxes, conf = model.head.decode(model.match_all(encoded, text), k)
        return (boxes[:, :, 0], conf[:, :, 0]) if one else (boxes, conf)
    # not `repeat_interleave`: a number of repeats that is known only at run time has no ONNX counterpart
    index = torch.arange(b, device=text.device)[:, None].expand(b, t).reshape(-1)
    boxes, conf = model.head.decode(model.match(encoded.rows(index), text.reshape(-1, d)), k)
    if one:
        return boxes.reshape(b, t, 4), conf.reshape(b, t)
    return boxes.reshape(b, t, -1, 4), conf.reshape(b, t, -1)


def example(b: int, t: int, height: int, width: int, dim: int, channels: int) -> dict[str, Tensor]:
    """Return random inputs of the whole network by name, the same in every call; images are padded above and below."""
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(b, t, dim, generator=generator), dim=-1)
    extent = torch.tensor([0.0, 0.125, 1.0, 0.875]).repeat(b, 1)
    images = torch.rand(b, channels, height, width, generator=generator)
    return {"images": images, "text": text, "extent": extent, "topk": torch.tensor(SAMPLED)}


def needed(encoded: Encoded, guided: object) -> Encoded:
    """Leave out what no expression needs: of a pyramid without text all but the head's features.

    The head uses only the sizes of its input maps, and its own cells have the same.
    """
    if guided or encoded.head is None or encoded.head.boxes is None:
        return encoded
    return encoded._replace(maps={}, first=encoded.head.boxes, head=encoded.head._replace(feats=encoded.head.cells))


def flatten(value: Any) -> dict[str, Tensor]:
    """Return the tensors of nested tuples, lists and dictionaries by their place (``head_cells_0``), each once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in _leaves(value, ""):
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def rebuild(like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put tensors in the places that :func:`flatten` took them from; `like` has the structure and is not changed."""
    first: dict[int, str] = {}
    for name, tensor in _leaves(like, ""):
        first.setdefault(id(tensor), name)

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tensors[first[id(value)]]
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if hasattr(value, "_fields"):
            return type(value)(*(put(v) for v in value))
        return type(value)(put(v) for v in value) if isinstance(value, (list, tuple)) else value

    return put(like)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors and their places."""
    if isinstance(value, Tensor):
        yield name, value
        return
    if isinstance(value, dict):
        parts = [(str(k), v) for k, v in value.items()]
    elif hasattr(value, "_fields"):
        parts = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (list, tuple)):
        parts = [(str(i), v) for i, v in enumerate(value)]
    else:
        return
    for key, part in parts:
        yield from _leaves(part, f"{name}_{key}" if name else key)


# writing


def _sample(net: Exportable) -> tuple[Tensor, ...]:
    """Return inputs for a trace: no size is 1, which it may take for a constant."""
    stride = int(net.model.stride.max())
    return net.example(2, 3, 3 * stride, 4 * stride)


def onnx_of(
    net: nn.Module,
    sample: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
    meta: dict[str, Any],
    opset: int | None = None,
) -> Any:
    """Trace a module into an ONNX model, with metadata under our key.

    Args:
        net: The module, in evaluation mode.
        sample: Its inputs.
        inputs: Their names.
        outputs: Names of its outputs.
        axes: Names of the free axes.
        meta: Metadata.
        opset: Version of the ONNX operators.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    onnx = need("onnx")
    buffer = io.BytesIO()
    # The tracing exporter exists in every PyTorch we support, needs no package and keeps all axes free.
    tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with _without_false_alarms():
        torch.onnx.export(
            net,
            sample,
            buffer,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: axes[name] for name in (*inputs, *outputs) if name in axes},
            opset_version=opset or OPSET,
            **tracing,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(graph, {MARK: json.dumps(meta)})
    onnx.checker.check_model(graph)
    return graph


def highest_opset() -> int:
    """Return the latest version of the ONNX operators that this torch writes from a traced graph."""
    from torch.onnx import _constants

    return int(getattr(_constants, "ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET", None) or _constants.ONNX_MAX_OPSET)


def write_onnx(net: Exportable, path: Path, meta: dict[str, Any], opset: int | None = None) -> None:
    """Write a part of the network as an ONNX file, with a description of each input and output.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    graph = onnx_of(net, _sample(net), list(net.inputs), list(net.outputs), net.axes, meta, opset)
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = (net.inputs | net.outputs)[value.name]
    path.write_bytes(graph.SerializeToString())


def write_torchscript(net: Exportable, path: Path, meta: dict[str, Any]) -> None:
    """Write a part of the network as a TorchScript file, the metadata in it as a file of their own."""
    note = json.dumps({MARK: {**meta, "inputs": net.inputs, "outputs": net.outputs}})
    with without_jit_advice(), _without_false_alarms():
        # without PyTorch's own check: `export` compares on other sizes than these
        traced = torch.jit.trace(net, _sample(net), check_trace=False)
        buffer = io.BytesIO()  # torch ends the process where it cannot write a file to its end
        torch.jit.save(traced, buffer, _extra_files={EXPORT_NOTE: note})
    path.write_bytes(buffer.getvalue())


def write_openvino(model: Any, folder: Path, meta: dict[str, Any]) -> None:
    """Write a model of OpenVINO as a new folder: the graph, its weights in 32 bits and our metadata."""
    folder.mkdir()
    name = folder.name.removesuffix("_openvino_model")
    need("openvino").save_model(model, str(folder / f"{name}.xml"), compress_to_fp16=False)
    (folder / EXPORT_NOTE).write_text(json.dumps({MARK: meta}, indent=1), encoding="utf-8")


@contextmanager
def _without_false_alarms() -> Iterator[None]:
    """Silence the warnings of a trace that are known to be false alarms."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based", category=DeprecationWarning)
        # Two comparisons of the number of anchors, with the one box wanted and with the number of candidates, may be
        # frozen: a canvas has fewer anchors than candidates only where it is a single cell of 32 x 32 pixels. The text
        # encoder takes the three parts of its attention, and their width, for what they are: constants.
        for module in (r"optisar_yolo\.nn\.head", r"optisar_yolo\.nn\.rerank", r"optisar_yolo\.text\.pocket"):
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=module)
        # true of negative indices; the constant ones of PatchConv are not negative
        warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
        # slices with a step are computed when the graph runs, which is as right
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1", category=UserWarning)
        yield
