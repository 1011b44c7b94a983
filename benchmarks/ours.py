"""Our networks with random weights as contestants of the speed benchmarks: learning changes answers, not their cost."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

import torch
from engines import (
    BF16,
    ONNX,
    OPENVINO,
    OPENVINO_BF16,
    OPENVINO_INT8,
    PYTORCH,
    Ask,
    Contestant,
    Graph,
    expressions,
    image,
    onnx_graph,
    openvino_graph,
    settle,
)

from optisar_yolo.engine.grounding import ground
from optisar_yolo.export.export import ExportSettings, export
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.yaml import load_model_yaml

KINDS = ("", "-late")  # the expression guides the pyramid; the expression meets the image in the head alone
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])  # the image fills the canvas


class Ours:
    """One of our networks in all engines.

    Args:
        scale: One of n, s, m, l and x.
        kind: Of :data:`KINDS`.
        folder: Where exports are written; those found there are used as they are.
        threads: Threads of every engine.
        int8: Folder of the network as OpenVINO int8, where there is one.
    """

    def __init__(self, scale: str, kind: str, folder: Path, threads: int, int8: Path | None = None) -> None:
        self.name, self.scale = f"optisar++{scale}{kind}", scale
        self.folder, self.threads, self.int8 = folder, threads, int8
        self.text_dim = int(load_model_yaml(f"{self.name}.yaml")["text_dim"])
        self.graph = cache(self._graph)

    def build(self) -> GroundingModel:
        """The network in evaluation mode, with the same weights in every call."""
        torch.manual_seed(0)
        model = GroundingModel(f"{self.name}.yaml", verbose=False)
        images, text = torch.rand(2, 3, 128, 128), expressions(2, self.text_dim)[0][:, None]
        settle(model, lambda: model.predict(images, text))
        return model

    @cached_property
    def fused(self) -> GroundingModel:
        """The network as it is loaded for prediction."""
        model = self.build()
        model.fuse(verbose=False)
        return model

    def _graph(self, engine: str) -> Graph:
        """The exported network in an engine, whatever the size of images and the number of expressions."""
        if engine == OPENVINO_INT8:
            assert self.int8 is not None
            return openvino_graph(next(self.int8.glob("*.xml")), self.threads)
        path = self.folder / f"{self.name}.onnx"
        if not path.exists():
            export(self.build(), path, ExportSettings())
        if engine == ONNX:
            return onnx_graph(path, self.threads)
        return openvino_graph(path, self.threads, "bf16" if engine == OPENVINO_BF16 else "f32")

    def in_pytorch(self, imgsz: int, texts: int, bf16: bool = False) -> Ask:
        """Encode the image once and ask all expressions of it."""
        img, rows, text = image(imgsz), torch.zeros(texts, dtype=torch.long), expressions(texts, self.text_dim)[0]
        model = self.fused

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                boxes, conf = ground(model, model.encode(img), rows, text)
            return boxes[:, 0], conf[:, 0]

        return call

    def one_by_one(self, imgsz: int, texts: int) -> Ask:
        """A full forward for every expression: what asking costs where the image is not encoded once."""
        alone, text = self.fused, expressions(texts, self.text_dim)[0]
        img, row = image(imgsz), torch.zeros(1, dtype=torch.long)

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.inference_mode():
                found = [ground(alone, alone.encode(img), row, t[None]) for t in text]
            return torch.cat([b[:, 0] for b, _ in found]), torch.cat([c[:, 0] for _, c in found])

        return call

    def exported(self, engine: str, imgsz: int, texts: int) -> Ask:
        """Ask all expressions in one run of the exported network."""
        run, inputs = self.graph(engine), {"images": image(imgsz), "text": expressions(texts, self.text_dim)}

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            boxes, conf = run(**inputs, extent=WHOLE)
            return boxes[0], conf[0]

        return call

    def contestants(self) -> list[Contestant]:
        """The network in every engine."""
        found = [
            Contestant(self.name, PYTORCH, self.scale, self.in_pytorch, network=lambda *_: self.fused),
            Contestant(self.name, BF16, self.scale, lambda s, t: self.in_pytorch(s, t, bf16=True)),
        ]
        for engine in (ONNX, OPENVINO, OPENVINO_BF16, *([OPENVINO_INT8] if self.int8 else [])):
            found.append(
                Contestant(self.name, engine, self.scale, lambda s, t, engine=engine: self.exported(engine, s, t))
            )
        return found
