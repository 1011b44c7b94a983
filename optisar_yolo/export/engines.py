"""What runs a network on a CPU: PyTorch, ONNX Runtime or OpenVINO, whichever is fastest on this machine.

1. ``engine="auto"`` starts in PyTorch, so that the first results come no later than without it. Where the cache
   (:mod:`optisar_yolo.export.graph_cache`) holds a graph of the very weights, and a trial on this machine found that it
   is faster, it is used from the first image on.
2. When much work is ahead or done (`MUCH` images), another process makes the graph in the background, at the lowest
   priority (``optisar cache make``), compares it with PyTorch, and tries the engines. The running program changes over
   between two images as soon as it is there. Nothing is installed, and nothing is written beside the weights.
3. ``engine="onnx"`` and ``"openvino"`` make the graph at once where it is missing.

A graph has two parts, so that an image is encoded once for any number of expressions, and the number of boxes is an
input. Boxes agree with PyTorch's to 0.05 pixels, confidences to 1e-5.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.engine import (
    CanvasImages,
    CheckpointError,
    NetworkRunner,
    attach_all,
    calibrations,
    facts_of,
    ground,
    model_vocabulary,
)
from optisar_yolo.export.export import ExportError, ExportSettings, export, windows_pay
from optisar_yolo.export.exported import ENCODER, ExportedModel
from optisar_yolo.export.graph_cache import GraphCache
from optisar_yolo.export.graphs import example, needed, rebuild
from optisar_yolo.nn import Encoded, GroundingModel, fused_copy
from optisar_yolo.plugin import SETTINGS
from optisar_yolo.utils import fingerprint, need
from optisar_yolo.version import __version__

PACKAGE = {"onnx": "onnxruntime", "openvino": "openvino"}
TITLE = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
GRAPH = 3  # raised when the same weights come to give other graphs
MUCH = 100  # images from which on making a graph (about 10 s at scale n) pays
LOOK = 20  # images between two looks whether the graph is there
# Share of the time of the engine that starts sooner that another one has to stay below. To the first box PyTorch takes
# 0.4 s, ONNX Runtime 0.6 and OpenVINO 1.8, graph there (benchmarks/cold_start.py).
CLEARLY = 0.9
ROUNDS = 5  # of a trial, each engine once in turn
GRAPH_SETTINGS = ExportSettings("onnx", parts=True, topk=None, routing=True)
_children: list[subprocess.Popen[bytes]] = []  # kept, so that Python does not warn of those that still run


def installed() -> list[str]:
    """Return the engines beside PyTorch whose packages, and that for writing graphs, are installed."""
    if importlib.util.find_spec("onnx") is None:
        return []
    return [engine for engine, package in PACKAGE.items() if importlib.util.find_spec(package) is not None]


def key_of(model: GroundingModel) -> str:
    """Return the fingerprint of the graph of a network: its tensors and layers, and the versions that write it."""
    versions = [GRAPH, __version__, torch.__version__]
    digest = hashlib.sha256(json.dumps([versions, model.yaml, repr(model)], default=str, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def machine_of(threads: int) -> str:
    """Return what a trial's result holds for: this machine, a number of threads, and the engines' versions."""
    versions = [packages.version(p) for e, p in PACKAGE.items() if e in installed()]
    return fingerprint(platform.node(), platform.machine(), os.cpu_count(), threads, *versions, digits=16)


def needs_torch(model: GroundingModel) -> str:
    """Return why a network can run in PyTorch alone; "" where it can run elsewhere."""
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"the layer {name or 'model'} has hooks, which no graph calls"
        if "forward" in vars(module):
            return f"the layer {name or 'model'} has a forward function of its own"
    if any(t.device.type != "cpu" for t in model.parameters()):
        return "the weights are not on the CPU"
    if model.is_fused():
        return "the weights are fused already"
    return ""


def can_leave_torch(model: Any, engine: str, device: Any = None, reason: str = "") -> bool:
    """Tell whether an engine may take PyTorch's place.

    Args:
        model: The network or an export.
        engine: ``torch``, ``onnx``, ``openvino`` or ``auto``.
        device: Where the network shall run, as in Ultralytics; None: where it is.
        reason: What else keeps the network in PyTorch.

    Raises:
        ValueError: An unknown engine, or one that is asked for and cannot run the network; the message says why.
    """
    SETTINGS["engine"].check(engine)
    if isinstance(model, ExportedModel):
        if engine not in ("auto", model.format):
            raise ValueError(
                f"engine={engine}: {model.path} is an export that runs in {model.format}; leave engine out"
            )
        return False
    if engine == "torch":
        return False
    reason = reason or needs_torch(model)
    if not reason and device is not None and select_device(device, verbose=False).type != "cpu":
        reason = f"device={device} is not a CPU"
    if reason and engine != "auto":
        raise ValueError(f"engine={engine} cannot be used: {reason}; use engine=torch")
    return not reason


def make_graph(model: GroundingModel, key: str, cache: GraphCache, name: str = "", imgsz: int = 640) -> Path:
    """Return the cached graph of a network, and make it where it is missing.

    Args:
        model: The network.
        key: Of :func:`key_of`.
        cache: Where the graph is kept.
        name: Of the weights, for ``optisar cache``.
        imgsz: Long side of images in the trial.

    Raises:
        ExportError: The graph gives other results than PyTorch.
        OSError: The cache cannot be written.
        MissingExtraError: The package onnx is not installed.
    """

    def write(folder: Path) -> dict[str, Any]:
        first = export(model, folder / "net.onnx", replace(GRAPH_SETTINGS, imgsz=imgsz))
        for file in (first, folder / "net-query.onnx"):
            # OpenVINO reads the file, but not the metadata in it
            session = need("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
            file.with_suffix(".json").write_text(json.dumps(session.get_modelmeta().custom_metadata_map))
        return {"weights": name, "version": __version__, "torch": torch.__version__, "imgsz": imgsz}

    try:
        return cache.make(key, write)
    except ExportError as error:
        cache.note_failure(key, str(error))
        raise


def open_graph_in(folder: Path, engine: str) -> ExportedModel:
    """Open a cached graph in an engine."""
    return ExportedModel(folder / f"net{ENCODER}.onnx", runtime=engine)


def try_engines(model: GroundingModel, key: str, cache: GraphCache, imgsz: int, threads: int) -> dict[str, float]:
    """Measure one image with one expression in every engine, in turn, and keep the result.

    Returns:
        Milliseconds by engine.
    """
    folder = cache.find(key)
    if folder is None:
        return {}
    nets: dict[str, Any] = {"torch": fused_copy(model).eval()}
    nets |= {engine: open_graph_in(folder, engine) for engine in installed()}
    given = example(1, 1, imgsz, imgsz, model.text_dim, model.channels)
    spent: dict[str, list[float]] = {engine: [] for engine in nets}
    rows = torch.zeros(1, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for engine, net in nets.items():
                start = time.perf_counter()
                ground(net, net.encode(given["images"], given["extent"]), rows, given["text"][0])
                spent[engine].append(time.perf_counter() - start)
    times = {engine: round(1e3 * statistics.median(seconds[1:]), 2) for engine, seconds in spent.items()}
    cache.add_trial(key, machine_of(threads), times)
    return times


def fastest(times: dict[str, float]) -> str:
    """Return the engine to use: PyTorch, ONNX Runtime where it takes clearly less time, and so OpenVINO."""
    best = "torch"
    for engine in ("onnx", "openvino"):
        if engine in installed() and engine in times and times[engine] <= CLEARLY * times.get(best, 0):
            best = engine
    return best


def _versions(model: GroundingModel) -> int:
    """Return a number that changes when a tensor of a network is changed in place."""
    return sum(t._version for t in (*model.parameters(), *model.buffers()))


class EngineNetwork(NetworkRunner):
    """A network on the CPU that runs in an engine, or in PyTorch until that is ready; safe from several threads.

    Args:
        model: The network.
        engine: ``auto``, ``onnx`` or ``openvino``.
        weights: The file it was loaded from, which a background process can open; None for none.
        imgsz: Long side of images in the trial.
        cache: Where graphs are kept.

    Raises:
        MissingExtraError: The engine that is asked for is not installed.
        ExportError: Its graph gives other results than PyTorch.
        OSError: Its graph cannot be written.
    """

    # attributes that Ultralytics' predictor reads of its backends
    base_model = True
    end2end = False
    dynamic = True
    prefetch = True
    batches = True

    def __init__(
        self,
        model: GroundingModel,
        engine: str = "auto",
        weights: str | None = None,
        imgsz: int = 640,
        cache: GraphCache | None = None,
    ) -> None:
        self.channels = model.channels
        self.names, self.stride, self.texts = model.names, int(model.stride.max()), []
        self.text_model, self.text_fingerprint, self.text_dim = (
            model.text_model, model.text_fingerprint, model.text_dim
        )  # fmt: skip
        self.wordings, self.facts = getattr(model, "wordings", None), facts_of(model)
        attach_all(self, calibrations(model), weights or "model")
        self.nouns = model_vocabulary(model).to_dict()
        self.path, self.engine, self.imgsz = Path(weights or "model"), engine, imgsz
        self.cache = cache or GraphCache()
        self.key = ""  # of `key_of`, which takes time for large networks: found when it is needed
        self._model, self._versions = model, _versions(model)
        self._lock = threading.Lock()
        self._fast: ExportedModel | None = None
        self._torch: GroundingModel | None = None
        self._like: Encoded | None = None
        self._settled = False  # nothing will change any more
        self._images = self._looked = 0  # images so far or ahead; at the last look
        self._asked = False  # for a graph in the background
        if engine == "auto":
            self._look()
        else:
            need(PACKAGE[engine])
            self.key = key_of(model)
            if not self.cache.has(self.key):
                LOGGER.info(f"engine={engine}: making the graph of {self.path.name}, once ({self.cache.root})")
            self._use(open_graph_in(make_graph(model, self.key, self.cache, self.path.name, imgsz), engine))
        if self._fast is None:
            self._torch = fused_copy(model).eval()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.path}', {self.running})"

    def __deepcopy__(self, memo: dict[int, Any]) -> EngineNetwork:
        return self  # its network never changes, and engines cannot be copied

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model, self.engine, str(self.path), self.imgsz)

    @property
    def running(self) -> str:
        """The engine that takes the next image."""
        return "torch" if self._fast is None else self._fast.format

    @property
    def format(self) -> str:
        """The same, as Ultralytics calls it."""
        return "pt" if self._fast is None else self._fast.format

    def to(self, device: torch.device) -> EngineNetwork:
        """Stay on the CPU: what runs elsewhere is no `EngineNetwork`."""
        return self

    def warmup(self, im: Tensor | None = None, **_: Any) -> None:
        """Do nothing; Ultralytics' predictor calls it."""

    def expect(self, images: int) -> None:
        """Say how many images are ahead, so that a graph that pays is made from the start."""
        if self._fast is None and not self._settled:
            self._images += images
            self._look()

    def encode(self, images: Tensor, extent: Tensor | None = None) -> Any:
        """Encode images [B, 3, H, W] in 0..1, with extents [B, 4], in the engine of the moment."""
        if self._fast is None and not self._settled:
            self._images += len(images)
            if self._images - self._looked >= LOOK:
                self._look()
        fast = self._fast
        if fast is not None:
            return fast.encode(images, extent)
        assert self._torch is not None
        return self._torch.encode(images, extent)

    def ground(self, encoded: Encoded | CanvasImages, rows: Tensor, texts: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ground expressions in the engine that encoded the images: boxes [N, k, 4] and raw confidences [N, k]."""
        if isinstance(encoded, Encoded):
            assert self._torch is not None
            return ground(self._torch, encoded, rows, texts, k)
        if self._fast is None:  # encoded before this network went to another process
            assert self._torch is not None
            return ground(self._torch, self._torch.encode(encoded.images, encoded.extent), rows, texts, k)
        return self._fast.ground(encoded, rows, texts, k)

    def torch_copy(self) -> GroundingModel | None:
        """Return the network as PyTorch runs it, fused; None where its weights have changed since."""
        with self._lock:
            if self._torch is None and _versions(self._model) == self._versions:
                self._torch = fused_copy(self._model).eval()
            return self._torch

    def in_torch(self, encoded: Encoded | CanvasImages) -> tuple[GroundingModel, Encoded] | None:
        """Return the network in PyTorch and the images as it encodes them; an image is not encoded again for it."""
        net = self.torch_copy()
        if net is None:
            return None
        if isinstance(encoded, Encoded):
            return net, encoded
        if not encoded.made:
            return net, net.encode(encoded.images, encoded.extent)
        if self._like is None:  # the structure of what the graph gives
            plain = fused_copy(self._model)
            plain.head.windows = windows_pay(plain, GRAPH_SETTINGS)
            given = example(1, 1, 64, 64, plain.text_dim, plain.channels)
            with torch.inference_mode():
                self._like = needed(plain.encode(given["images"], given["extent"]), plain.guided)
        return net, rebuild(self._like, {**encoded.made, "extent": encoded.extent})

    def _look(self) -> None:
        """Change over where the graph is there and faster; have it made where it is missing and pays."""
        with self._lock:
            if self._fast is not None or self._settled:
                return
            self._looked = self._images
            threads = torch.get_num_threads()
            if self._images < MUCH and self.cache.empty:
                return
            if not self.key and _versions(self._model) == self._versions:
                self.key = key_of(self._model)
            if not self.key or not installed() or self.cache.failure(self.key):
                self._settled = True  # "": the weights have changed, and this network has not
                return
            times = self.cache.trials(self.key).get(machine_of(threads), {}) if self.cache.has(self.key) else {}
            if not times:
                self._have_made(threads)
                return
            engine = fastest(times)
            folder = self.cache.find(self.key) if engine != "torch" else None
            if engine == "torch":
                self._settled = True
            elif folder is not None:
                try:
                    self._use(open_graph_in(folder, engine))
                except (OSError, CheckpointError, RuntimeError) as error:  # PyTorch can do it
                    LOGGER.warning(f"{folder}: cannot be opened, staying in PyTorch ({str(error).splitlines()[0]})")
                    self._settled = True

    def _have_made(self, threads: int) -> None:
        """Start the process that makes and tries the graph, where that pays and can work."""
        if self._asked or self._images < MUCH or not self.path.is_file():
            return
        self._asked = True
        words = ["cache", "make", f"model={self.path}", f"imgsz={self.imgsz}", f"threads={threads}", "background=True"]
        LOGGER.info(f"{self.path.name}: a faster graph is made in the background (engine=torch switches this off)")
        try:
            quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            _children.append(subprocess.Popen([sys.executable, "-m", "optisar_yolo", *words], **quiet))
        except OSError as error:
            LOGGER.warning(f"{self.path.name}: no graph can be made in the background ({error}); staying in PyTorch")
            self._settled = True

    def _use(self, opened: ExportedModel) -> None:
        """Run in an engine from now on."""
        self._fast = opened
        LOGGER.info(f"{self.path.name}: running in {TITLE[opened.format]} on the CPU (engine={self.engine})")
        self._settled = True
