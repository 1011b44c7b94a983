"""Runs exported graphs: ONNX Runtime, OpenVINO or TorchScript behind one interface."""

from __future__ import annotations

import json
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import LOGGER

from optisar_yolo.engine import CheckpointError
from optisar_yolo.plugin import EXPORT_NOTE, MARK
from optisar_yolo.utils import need


@contextmanager
def without_jit_advice() -> Iterator[None]:
    """Silence PyTorch's advice to leave TorchScript, which is what the user asked for."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=kind)
        yield


@cache
def openvino_core() -> Any:
    """Return OpenVINO's core, one for all graphs, which lives as long as the process.

    Its plugin for CPUs gives the thread that loads it a stack for signals, and unmaps this stack where the core ends.
    If that is another thread, the next signal that Python handles (Ctrl-C, the end of a process of a DataLoader) ends
    the process with a segmentation fault (seen with OpenVINO 2026.4).

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    return need("openvino").Core()


class Graph(ABC):
    """An opened graph.

    Attributes:
        format: As ultralytics calls it.
        path: The file or folder.
        metadata: Its metadata as strings, ours under the key :data:`optisar_yolo.plugin.MARK`.
        inputs: Names of the inputs.
        outputs: Names of the outputs.
    """

    format: str
    path: Path
    metadata: dict[str, str]
    inputs: list[str]
    outputs: list[str]

    @abstractmethod
    def __init__(self, path: Path) -> None: ...

    def __call__(self, feed: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run it once. Tensors that are no inputs are left out; results are on the CPU."""
        feed = {name: feed[name].detach().cpu().contiguous() for name in self.inputs}
        feed = {name: value.float() if value.is_floating_point() else value for name, value in feed.items()}
        return dict(zip(self.outputs, self._run(feed), strict=True))

    @abstractmethod
    def _run(self, feed: dict[str, Tensor]) -> list[Tensor]:
        """Run it once on tensors on the CPU, float32 or whole numbers, named and in the order of `inputs`."""

    def to(self, device: torch.device) -> None:
        """Run on a device, where the runtime supports it."""
        if device.type != "cpu":
            LOGGER.warning(f"{self.path}: {self.format} runs on the CPU here, not on {device}")


class OnnxGraph(Graph):
    """A graph in ONNX Runtime, on as many threads as PyTorch uses."""

    format = "onnx"
    spinning = True  # threads wait for the next run without sleeping

    def __init__(self, path: Path) -> None:
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        if not self.spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.path = path
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class of its own for each kind of damage
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path}: damaged or incomplete ({reason}); export the model again") from error
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.inputs = [v.name for v in self.session.get_inputs()]
        self.outputs = [v.name for v in self.session.get_outputs()]
        if not self.outputs:
            raise CheckpointError(f"{path}: damaged: its graph has no outputs; export the model again")

    def _run(self, feed: dict[str, Tensor]) -> list[Tensor]:
        return [torch.from_numpy(v) for v in self.session.run(self.outputs, {k: v.numpy() for k, v in feed.items()})]

    def to(self, device: torch.device) -> None:
        """Run on a device, where the installed ONNX Runtime supports it."""
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" in need("onnxruntime").get_available_providers():
                providers = ["CUDAExecutionProvider", *providers]
            else:
                LOGGER.warning(f"{self.path}: the installed ONNX Runtime cannot use the GPU, running on the CPU")
        if providers != self.session.get_providers():
            self.session.set_providers(providers)


class OpenVinoGraph(Graph):
    """A graph in OpenVINO, on as many threads as PyTorch uses."""

    format = "openvino"

    def __init__(self, path: Path) -> None:
        core = openvino_core()
        self.path, self._lock = path, threading.Lock()
        meta, file = self._content(path)
        self.metadata = {MARK: json.dumps(meta)}
        # On processors with bfloat16 units OpenVINO would round everything to 8 bits of mantissa, also the layers of an
        # 8-bit graph that stay in 32 bits: results must not depend on the machine.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        try:
            self.compiled = core.compile_model(str(file), "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{path}: damaged or incomplete ({reason}); export the model again") from error
        # a value may have several names, one of them that of the export
        self.inputs = [next(n for n in v.names if n in meta["inputs"]) for v in self.compiled.inputs]
        self.outputs = [next(n for n in v.names if n in meta["outputs"]) for v in self.compiled.outputs]

    def _run(self, feed: dict[str, Tensor]) -> list[Tensor]:
        with self._lock:  # before OpenVINO 2025 a compiled model had one request, for one thread at a time
            found = self.compiled({k: v.numpy() for k, v in feed.items()})
            return [torch.from_numpy(found[i].copy()) for i in range(len(self.outputs))]  # their memory is used again

    @staticmethod
    def _content(path: Path) -> tuple[dict[str, Any], Path]:
        """Return our metadata, and the file that OpenVINO reads.

        Raises:
            CheckpointError: A folder without its files.
        """
        files = sorted(path.glob("*.xml"))
        if len(files) != 1 or not files[0].with_suffix(".bin").is_file():
            raise CheckpointError(f"{path}: needs one .xml with its .bin beside it; export the model again")
        return json.loads((path / EXPORT_NOTE).read_text(encoding="utf-8")).get(MARK), files[0]


class SleepingOnnxGraph(OnnxGraph):
    """A graph in ONNX Runtime beside PyTorch: threads that spin after a run would slow the other of the two."""

    spinning = False


class OnnxInOpenVino(OpenVinoGraph):
    """An ONNX file in OpenVINO, with its metadata in a JSON file beside it."""

    @staticmethod
    def _content(path: Path) -> tuple[dict[str, Any], Path]:
        return json.loads(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))[MARK]), path


class TorchScriptGraph(Graph):
    """A traced graph in PyTorch; only on the CPU, as a trace keeps the device of every constant it makes."""

    format = "torchscript"

    def __init__(self, path: Path) -> None:
        extra = {EXPORT_NOTE: ""}
        try:
            with without_jit_advice():
                self.module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{path}: damaged or incomplete ({reason}); export the model again") from error
        meta = json.loads(extra[EXPORT_NOTE] or "{}").get(MARK)
        self.path, self.metadata = path, {MARK: json.dumps(meta)}
        self.inputs, self.outputs = (list(meta[k]) for k in ("inputs", "outputs"))

    def _run(self, feed: dict[str, Tensor]) -> list[Tensor]:
        # Unoptimised: PyTorch would compile the graph anew for every new size (0.5 s instead of 0.1 s for the first run
        # at a size of 96 x 128 pixels), and later runs are no faster for it.
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return list(self.module(*feed.values()))


ENDINGS: dict[str, type[Graph]] = {
    ".onnx": OnnxGraph,
    "_openvino_model": OpenVinoGraph,
    ".torchscript": TorchScriptGraph,
}
"""Endings of the names of exports, and the runtime of each."""


CACHED: dict[str, type[Graph]] = {"onnx": SleepingOnnxGraph, "openvino": OnnxInOpenVino}
"""What runs the ONNX files of the graph cache."""


def is_export(path: str | Path) -> bool:
    """Tell by its name whether a file or folder is an export."""
    return str(path).lower().rstrip("/\\").endswith(tuple(ENDINGS))


def open_graph(path: Path, runtime: str | None = None) -> Graph:
    """Open a graph in the runtime of its kind.

    Args:
        path: The file or folder.
        runtime: A key of `CACHED`, for a file of the graph cache.

    Raises:
        CheckpointError: Damaged, or no kind of export.
        MissingExtraError: The runtime is not installed.
    """
    if runtime is not None:
        return CACHED[runtime](path)
    for ending, kind in ENDINGS.items():
        if path.name.lower().endswith(ending):
            return kind(path)
    raise CheckpointError(f"{path}: not an export; their names end with {', '.join(ENDINGS)}")
