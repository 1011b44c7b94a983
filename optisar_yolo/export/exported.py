"""Exported networks: inputs and outputs of their graphs, and the interface that prediction and validation use.

A graph holds the network without its text encoder. One run grounds T expressions in each of B images; the number of
images, their sizes and the number of expressions may change from run to run:

* ``images`` [B, 3, H, W]: images, RGB in 0..1, H and W multiples of the stride, padding grey (114 / 255).
* ``text`` [B, T, D]: the text encoder's features, each of length 1. The metadata name the encoder. A graph with fixed
  expressions has no such input: its T expressions are those in the metadata.
* ``extent`` [B, 4]: left, top, right and bottom of the unpadded image as shares of the canvas; 0, 0, 1, 1 where
  nothing is padded. "Upper left" means that of the image, so the network has to know where it lies.
* ``boxes`` [B, T, 4]: the one best box of each expression, x1, y1, x2, y2 in pixels of the canvas.
* ``conf`` [B, T]: its raw confidence, 0..1. Where the metadata hold a ``calibration`` with a, b and threshold, the
  probability that the box is right is sigmoid(a * log(conf / (1 - conf)) + b); below the threshold no box is given.

An export of K boxes per expression (``topk``) has ``boxes`` [B, T, K, 4] and ``conf`` [B, T, K] instead: the K cells
with the highest scores, best first, each with its own confidence; fewer where a canvas has fewer cells. Several may be
of one object: non-maximum suppression is left to the program. The graphs that :mod:`optisar_yolo.export.engines` makes
for itself have K as an input ``topk``, a whole number.

An export in two parts has a graph ``…-encoder`` from ``images`` and ``extent`` to the tensors that its metadata list,
and a graph ``…-query`` from these, ``text`` and ``extent`` to ``boxes`` and ``conf``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import LOGGER

from optisar_yolo.engine import (
    CalibrationError,
    CanvasImages,
    CheckpointError,
    ExportedNetwork,
    attach_all,
)
from optisar_yolo.export.runtimes import Graph, open_graph
from optisar_yolo.plugin import MARK, is_ours

FORMAT = 2  # of the inputs, outputs and metadata; raised when a reader of the old one could not use a file
SEVERAL_FORMAT = 3  # the same of files with several boxes per expression
READABLE = (1, 2, 3)  # 1: only one graph with expressions as input
TEXT_BATCH = 16  # expressions in one run through text-guided rows: bounds memory, does not change results
SCORE_BATCH = 256  # expressions in one run of a network whose pyramid is without text
EIGHT_BITS_SIDE = 96  # pixels: OpenVINO 2026.4 crashes in its 8-bit convolutions on maps of 2 x 2 and smaller
ENCODER, QUERY = "-encoder", "-query"  # before the ending of the names of an export in two parts
INPUTS = {
    "images": "images [batch, 3, height, width], RGB, 0..1, height and width multiples of stride, padding 114/255",
    "text": "expressions [batch, texts, text_dim], features of the text encoder text_model, each of length 1",
    "extent": "left, top, right, bottom [batch, 4] of the unpadded image as shares of the canvas; 0,0,1,1 unpadded",
}
OUTPUTS = {
    "boxes": "best box of each expression [batch, texts, 4], x1, y1, x2, y2 in pixels of the canvas",
    "conf": "confidence of that box [batch, texts], 0..1",
}
SEVERAL = {  # outputs of a graph with several boxes per expression
    "boxes": "best boxes of each expression [batch, texts, topk, 4], x1, y1, x2, y2 in pixels of the canvas",
    "conf": "confidence of each box [batch, texts, topk], 0..1",
}
COUNT = {"topk": "boxes per expression, a whole number without axes"}  # input of a graph that leaves their number open


class ExportedModel(ExportedNetwork):
    """An exported network.

    An export in two parts encodes an image once, as a PyTorch model does. Any other export encodes it again in each run
    of up to 16 expressions (256 without text-guided rows).

    Args:
        path: What :func:`optisar_yolo.export.export.export` wrote: a file or, of OpenVINO, a folder; of an export in
            two parts either part, which opens both.
        runtime: What runs an ONNX file of the graph cache: ``onnx`` or ``openvino``; by default what the name says.

    Attributes:
        names: Names of the classes: the fixed expressions, or ``{0: "object"}``, which expressions replace.
        texts: Fixed expressions; empty where the export takes any expression.
        text_model: Name of the text encoder.
        text_fingerprint: Fingerprint of its weights.
        text_dim: Width D of its features.
        imgsz: Long side of images that the export suggests; others work.
        stride: Height and width of canvases are multiples of it.
        topk: Boxes per expression; None where their number is an input.
        version: Version of optisar-yolo that wrote the file.
        calibration: As a dictionary (see :class:`~optisar_yolo.engine.calibrate.Calibration`); None without one.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Damaged, not ours, of a later format, or a part without the other.
        MissingExtraError: The runtime is not installed.
    """

    # attributes that Ultralytics' predictor reads of its backends
    base_model = False
    dynamic = True
    format: str
    prefetch = True  # the next file is read meanwhile

    def __init__(self, path: str | Path, runtime: str | None = None) -> None:
        self.path, self._runtime = Path(path), runtime
        self.graph = self._open(self.path)
        self.meta = meta = read_metadata(self.graph.metadata, self.path)
        self.format = self.graph.format
        self.query: Graph | None = None
        if meta.get("part"):
            first, second = (self._part(name) for name in (ENCODER, QUERY))
            self.graph, self.query = self._open(first), self._open(second)
            own = [read_metadata(g.metadata, p).get("pair") for g, p in ((self.graph, first), (self.query, second))]
            if own[0] != own[1]:
                raise CheckpointError(f"{first} and {second.name} are of different exports; export the model again")
        self.texts: list[str] = list(meta.get("texts") or [])
        self.names = {int(k): str(v) for k, v in meta["names"].items()}
        self.text_model: str = meta["text_model"]
        self.text_fingerprint: str = meta["text_fingerprint"]
        self.text_dim: int = meta["text_dim"]
        self.wordings: tuple[str, ...] | None = tuple(meta["wordings"]) if "wordings" in meta else None
        self.facts: dict[str, Any] | None = meta.get("facts")
        self.nouns: dict[str, Any] | None = meta.get("nouns")
        self.imgsz: int = meta["imgsz"]
        self.stride: int = meta["stride"]
        self.channels: int = int(meta.get("channels", 3))
        self.version: str = meta["version"]
        self.topk: int | None = None if "topk" in (self.query or self.graph).inputs else int(meta.get("topk") or 1)
        self._said_fewer = False
        self.batch = TEXT_BATCH if meta.get("guided", True) else SCORE_BATCH
        self.calibration: dict[str, Any] | None = None
        self.match_calibration: dict[str, Any] | None = None
        try:
            attach_all(self, meta, self.path)
        except CalibrationError as error:
            raise CheckpointError(str(error)) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.path}')"

    def _open(self, path: Path) -> Graph:
        """Open one graph."""
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        if not is_ours(path):
            raise CheckpointError(f"{path}: damaged, or not an export of optisar-yolo; export the model again")
        return open_graph(path, self._runtime)

    def _part(self, name: str) -> Path:
        """Path of one of the two parts."""
        before, found, ending = self.path.name.rpartition({"encoder": ENCODER, "query": QUERY}[self.meta["part"]])
        other = self.path.with_name(before + name + ending)
        if not found or not other.exists():
            raise CheckpointError(
                f"{self.path}: one of two parts, …{ENCODER} and …{QUERY}; put both beside each other under the names "
                "that the export gave them"
            )
        return other

    def to(self, device: torch.device) -> ExportedModel:
        """Run on a device, where the runtime supports it; results are on the CPU anyway."""
        for graph in (self.graph, self.query):
            if graph is not None:
                graph.to(device)
        return self

    def warmup(self, im: Tensor | None = None, **_: Any) -> None:
        """Do nothing; Ultralytics' predictor calls it."""

    def encode(self, images: Tensor, extent: Tensor | None = None) -> CanvasImages:
        """Return images for :meth:`ground`, encoded where the export has an encoder graph.

        Args:
            images: Images [B, 3, H, W] RGB in 0..1.
            extent: [B, 4] of the unpadded images in the canvas; all of it by default.

        Raises:
            ValueError: An export of 8 bits, and a canvas that is too small for it.
        """
        if self.meta.get("quantize") == 8 and max(images.shape[2:]) < EIGHT_BITS_SIDE:
            raise ValueError(
                f"imgsz={max(images.shape[2:])} is too small for an export of 8 bits: at least {EIGHT_BITS_SIDE}"
            )
        if images.shape[1] != self.channels:
            raise ValueError(f"{self.path}: images of {images.shape[1]} bands, and the export takes {self.channels}")
        if extent is None:
            extent = images.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(images), 4)
        made = self.graph({"images": images, "extent": extent}) if self.query is not None else {}
        return CanvasImages(images, extent, made)

    def ground(self, encoded: CanvasImages, rows: Tensor, texts: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ground expressions in images.

        Args:
            encoded: Images of :meth:`encode`.
            rows: [N] image of each expression.
            texts: [N, D] features of the expressions; [N, 1] indices of fixed ones.
            k: Boxes per expression, at most as many as the export gives.

        Returns:
            Boxes [N, K, 4] xyxy on the canvas and confidences [N, K]; K is k, or fewer where the export gives fewer or
            the canvas has fewer cells.

        Raises:
            ValueError: `k` is more than 1, and the export gives one box.
        """
        if self.topk == 1 < k:
            raise ValueError(
                f"{self.path}: this export gives one box per expression; use topk=1, the .pt file or an export with "
                "topk=100"
            )
        if self.topk is not None and k > self.topk and not self._said_fewer:
            self._said_fewer = True
            LOGGER.warning(
                f"{self.path}: gives {self.topk} boxes per expression, duplicates among them, where PyTorch compares "
                f"{k}: objects may be missing; export with topk={k}"
            )
        found = [(mine, *self._run(encoded, part, text, k)) for mine, part, text in self._runs(rows, texts)]
        most = found[0][1].shape[1] if found else k
        boxes, conf = texts.new_zeros(len(rows), most, 4), texts.new_zeros(len(rows), most)
        for mine, own_boxes, own_conf in found:
            boxes[mine], conf[mine] = own_boxes, own_conf
        return boxes, conf

    def _runs(self, rows: Tensor, texts: Tensor) -> Iterator[tuple[Tensor, slice, Tensor]]:
        """Yield what one run of the graph takes: numbers [n] of expressions, their images, and texts [b, n / b, D]."""
        images, counts = torch.unique_consecutive(rows, return_counts=True)
        each = int(counts[0]) if len(counts) else 0
        several = self.topk is None and len(images) > 1 and 2 * each <= self.batch
        if several and bool((counts == each).all()) and images.tolist() == list(range(len(images))):
            step = self.batch // each  # images with all their expressions
            for first in range(0, len(images), step):
                part = slice(first, min(first + step, len(images)))
                mine = torch.arange(part.start * each, part.stop * each)
                yield mine, part, texts[mine].view(part.stop - part.start, each, -1)
            return
        for row in rows.unique().tolist():
            mine = (rows == row).nonzero()[:, 0]
            for few in (mine,) if self.texts else mine.split(self.batch):
                yield few, slice(row, row + 1), texts[few][None]

    def _run(self, encoded: CanvasImages, part: slice, text: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Run the graph: images [b] of `part` and their texts [b, t, D] to boxes [b * t, K, 4] and conf [b * t, K]."""
        feed = {"text": text, "extent": encoded.extent[part], "topk": torch.tensor(k)}
        if self.query is not None:
            found = self.query({**{name: v[part] for name, v in encoded.made.items()}, **feed})
        else:
            found = self.graph({"images": encoded.images[part], **feed})
        boxes, conf = found["boxes"], found["conf"]
        if self.topk == 1:
            boxes, conf = boxes[:, :, None], conf[:, :, None]
        if self.texts:
            index = text[0, :, 0].long()
            boxes, conf = boxes[:, index], conf[:, index]
        return boxes.flatten(0, 1)[:, :k], conf.flatten(0, 1)[:, :k]


def read_metadata(properties: dict[str, str], path: str | Path) -> dict[str, Any]:
    """Read our part of an export's metadata.

    Args:
        properties: The export's metadata.
        path: The export, for messages.

    Raises:
        CheckpointError: None there, of a later format, or of a text encoder.
    """
    try:
        meta = json.loads(properties.get(MARK, "null"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: its metadata is no JSON; export the model again") from error
    if not isinstance(meta, dict) or meta.get("format") not in READABLE:
        found = f"format {meta.get('format')} of version {meta.get('version')}" if isinstance(meta, dict) else "none"
        raise CheckpointError(
            f"{path}: metadata of format {FORMAT} expected, found {found}; update optisar-yolo or export again"
        )
    if meta.get("part") == "text":
        raise CheckpointError(f"{path}: the text encoder's graph; open the network's, which it belongs to")
    return meta
