"""The engines that networks are measured in, and what all contestants of the latency benchmark have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timing
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ask = Callable[[], tuple[Tensor, Tensor]]  # image to boxes [T, 4] and confidences [T]
Graph = Callable[..., tuple[Tensor, ...]]  # tensors by input name to the outputs

PYTORCH, BF16 = "PyTorch", "PyTorch bf16"
ONNX = "ONNX Runtime"
OPENVINO, OPENVINO_BF16, OPENVINO_INT8 = "OpenVINO", "OpenVINO bf16", "OpenVINO int8"
INEXACT = {BF16, OPENVINO_BF16, OPENVINO_INT8}  # answers differ from those of 32 bits by more than rounding


@dataclass(frozen=True)
class Contestant:
    """A network in an engine.

    Attributes:
        name: Name of the network.
        engine: One of the engines above.
        scale: One of n, s, m, l and x; of a network without scales the one it is measured beside.
        prepare: (image size, number of expressions) to the call that answers them.
        own: What one call does, where it is not image to one box per expression in a single forward.
        sizes: Image sizes that it is measured at; those asked for where empty.
        one_by_one: Each expression is a forward of its own, so that only one is measured.
        network: (image size, number of expressions) to the PyTorch network, whose parameters are counted.
    """

    name: str
    engine: str
    scale: str
    prepare: Callable[[int, int], Ask]
    own: str = ""
    sizes: tuple[int, ...] = ()
    one_by_one: bool = False
    network: Callable[[int, int], nn.Module] | None = None

    @property
    def key(self) -> str:
        """Name and engine."""
        return f"{self.name} | {self.engine}"


def image(imgsz: int) -> Tensor:
    """A smooth random image [1, 3, imgsz, imgsz] in 0..1, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    return F.interpolate(coarse, size=(imgsz, imgsz), mode="bilinear", align_corners=False)


def expressions(texts: int, dim: int) -> Tensor:
    """Random text features [1, texts, dim], each of length 1, the same in every call."""
    generator = torch.Generator().manual_seed(texts)
    return F.normalize(torch.randn(1, texts, dim, generator=generator), dim=-1)


def settle(model: nn.Module, forward: Callable[[], object]) -> None:
    """Set the running statistics of batch normalisation as training would; the model is left in evaluation mode.

    With the statistics that a network is built with, activations may shrink to denormal numbers, which a processor
    computes many times slower: a random network would be measured wrongly.

    Args:
        model: The network.
        forward: Runs it on something.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        model.train()
        forward()
    for m, momentum in zip(norms, kept, strict=True):
        m.momentum = momentum
    model.eval()


def best_of(dense: Tensor) -> tuple[Tensor, Tensor]:
    """The top answer of each class without non-maximum suppression: ultralytics' output [1, 4 + T, A] to [T, 4], [T].

    With random weights suppression would find nothing to suppress, or everything; leaving it out favours the peer.
    """
    conf, best = dense[0, 4:].max(1)  # [T]
    x, y, w, h = dense[0, :4, best].unbind(0)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1), conf


def onnx_graph(path: Path, threads: int) -> Graph:
    """Load an ONNX file into ONNX Runtime.

    Args:
        path: The file.
        threads: Threads within an operator.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # its threads may spin while it works, but not on while the next contestant is measured
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.set_denormal_as_zero", str(int(timing.flush_denormals)))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}

    def run(**inputs: Tensor) -> tuple[Tensor, ...]:
        feed = {k: v.numpy() for k, v in inputs.items() if k in names}
        return tuple(map(torch.from_numpy, session.run(None, feed)))

    return run


def openvino_graph(path: Path, threads: int, precision: str = "f32") -> Graph:
    """Compile an ONNX or OpenVINO file with OpenVINO for the CPU.

    Args:
        path: ``.onnx`` or ``.xml``.
        threads: Threads of inference.
        precision: ``f32``, or ``bf16`` where the processor has it; an int8 file keeps its integers either way.
    """
    import openvino as ov

    network = ov.convert_model(path) if path.suffix == ".onnx" else ov.Core().read_model(path)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "CPU_DENORMALS_OPTIMIZATION": timing.flush_denormals,
    }
    request = ov.Core().compile_model(network, "CPU", settings).create_infer_request()
    ports = {name: port for port in network.inputs for name in port.get_names()}

    def run(**inputs: Tensor) -> tuple[Tensor, ...]:
        feed = {k: np.ascontiguousarray(v.numpy()) for k, v in inputs.items() if k in ports}
        found = request.infer(feed, share_inputs=True)
        return tuple(torch.from_numpy(np.array(x)) for x in found.values())

    return run
