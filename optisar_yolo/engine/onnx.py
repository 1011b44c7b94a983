"""Exported networks: what an ONNX file of ours takes and gives, and how to run it with ONNX Runtime.

The file holds the network without its text encoder. One run answers T sentences about each of B pictures; pictures,
their sizes and the number of sentences may change from run to run:

* ``images`` [B, 3, H, W]: pictures, RGB in 0..1, H and W multiples of the stride, padding grey (114 / 255).
* ``text`` [B, T, D]: the text encoder's features, each of length 1. The metadata names the encoder.
* ``extent`` [B, 4]: left, top, right and bottom of the unpadded picture as shares of the canvas; 0, 0, 1, 1 where
  nothing is padded. "Upper left" means that of the picture, so the network has to know where it lies.
* ``boxes`` [B, T, 4]: the one best box of each sentence, x1, y1, x2, y2 in pixels of the canvas.
* ``conf`` [B, T]: its raw confidence, 0..1. Where the metadata hold a ``calibration`` with a, b and threshold, the
  probability that the box is right is sigmoid(a * log(conf / (1 - conf)) + b); below the threshold there is no answer.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from ultralytics.utils import LOGGER

from optisar_yolo.checkpoint import CheckpointError
from optisar_yolo.engine.calibrate import ATTRIBUTE, Calibration, CalibrationError, attach
from optisar_yolo.identify import MARK, is_ours

FORMAT = 1  # of the inputs, outputs and metadata; raised when a reader of the old one could not use the file
TEXT_BATCH = 16  # sentences in one run: bounds memory, not the answer
INPUTS = {
    "images": "pictures [batch, 3, height, width], RGB, 0..1, height and width multiples of stride, padding 114/255",
    "text": "sentences [batch, texts, text_dim], features of the text encoder text_model, each of length 1",
    "extent": "left, top, right, bottom [batch, 4] of the unpadded picture as shares of the canvas; 0,0,1,1 unpadded",
}
OUTPUTS = {
    "boxes": "best box of each sentence [batch, texts, 4], x1, y1, x2, y2 in pixels of the canvas",
    "conf": "confidence of that box [batch, texts], 0..1",
}


class MissingExtraError(ImportError, ValueError):
    """An optional dependency is not installed. Also a ``ValueError``, which commands report without a traceback."""


class Pictures(NamedTuple):
    """Pictures on their canvases, waiting for sentences (:class:`optisar_yolo.nn.model.Encoded` of a PyTorch model)."""

    images: Tensor  # [B, 3, H, W]
    extent: Tensor  # [B, 4]


def need(name: str) -> ModuleType:
    """Import an optional dependency of export.

    Args:
        name: ``"onnx"`` or ``"onnxruntime"``.

    Raises:
        MissingExtraError: It is not installed; the message says how to get it. Nothing is installed unasked.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # installed, but something that it needs is not
            raise
        raise MissingExtraError(
            f"ONNX files need the package {name}, which is not installed: pip install 'optisar-yolo[export]'"
        ) from error


class OnnxModel:
    """An exported network in ONNX Runtime, with the interface that prediction and validation use.

    A picture is not encoded once and for all as by a PyTorch model: each run of up to :data:`TEXT_BATCH` sentences
    encodes it anew.

    Args:
        path: File written by :func:`optisar_yolo.engine.export.export_onnx`.

    Attributes:
        names: Names of the classes, ``{0: "object"}``: sentences take their place.
        text_model: Name of the text encoder.
        text_fingerprint: Fingerprint of its weights.
        text_dim: Width D of its features.
        imgsz: Long side of pictures that the file was exported for; others work.
        stride: Height and width of canvases are multiples of it.
        version: Version of optisar-yolo that wrote the file.
        calibration: As a dictionary (see :class:`~optisar_yolo.engine.calibrate.Calibration`); None without one.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Damaged, not ours, or of a later format.
        MissingExtraError: ONNX Runtime is not installed.
    """

    format = "onnx"  # these three: what ultralytics' predictor asks its backends
    base_model = False
    dynamic = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        if not is_ours(self.path):
            raise CheckpointError(f"{path}: damaged, or not an ONNX file of optisar-yolo; export the model again")
        self.session = need("onnxruntime").InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        meta = read_metadata(self.session.get_modelmeta().custom_metadata_map, self.path)
        self.names = {int(k): str(v) for k, v in meta["names"].items()}
        self.text_model: str = meta["text_model"]
        self.text_fingerprint: str = meta["text_fingerprint"]
        self.text_dim: int = meta["text_dim"]
        self.imgsz: int = meta["imgsz"]
        self.stride: int = meta["stride"]
        self.version: str = meta["version"]
        self.calibration: dict[str, Any] | None = None
        try:
            attach(self, Calibration.from_dict(meta.get(ATTRIBUTE), self.path))
        except CalibrationError as error:
            raise CheckpointError(str(error)) from error

    def __repr__(self) -> str:
        return f"OnnxModel('{self.path}')"

    def to(self, device: torch.device) -> OnnxModel:
        """Run on a GPU where one is asked for and the installed ONNX Runtime can; results are on the CPU anyway."""
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" in need("onnxruntime").get_available_providers():
                providers = ["CUDAExecutionProvider", *providers]
            else:
                LOGGER.warning(f"{self.path}: the installed ONNX Runtime cannot use the GPU, running on the CPU")
        if providers != self.session.get_providers():
            self.session.set_providers(providers)
        return self

    def warmup(self, im: Tensor | None = None, **_: Any) -> None:
        """Nothing to warm up; ultralytics' predictor asks for it."""

    def encode(self, images: Tensor, extent: Tensor | None = None) -> Pictures:
        """Keep pictures for :meth:`ask`.

        Args:
            images: Pictures [B, 3, H, W] RGB in 0..1.
            extent: [B, 4] of the unpadded pictures in the canvas; all of it by default.
        """
        if extent is None:
            extent = images.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(images), 4)
        return Pictures(images, extent)

    def ask(self, scene: Pictures, rows: Tensor, texts: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ask sentences of pictures.

        Args:
            scene: Pictures of :meth:`encode`.
            rows: [N] picture of each sentence.
            texts: [N, D] features of the sentences.
            k: Boxes per sentence; only 1, the file gives no more.

        Returns:
            Boxes [N, 1, 4] xyxy on the canvas and confidences [N, 1].

        Raises:
            ValueError: More than one box is wanted.
        """
        if k != 1:
            raise ValueError(f"{self.path}: an exported model gives one box per sentence; use topk=1 or the .pt file")
        boxes, conf = texts.new_zeros(len(rows), 1, 4), texts.new_zeros(len(rows), 1)
        for row in rows.unique():
            for mine in (rows == row).nonzero()[:, 0].split(TEXT_BATCH):
                part = slice(int(row), int(row) + 1)
                boxes[mine, 0], conf[mine, 0] = self.run(scene.images[part], texts[mine][None], scene.extent[part])
        return boxes, conf

    def run(self, images: Tensor, text: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Run the graph once; shapes are those of the module's first lines."""
        given = {"images": images, "text": text, "extent": extent}
        feed = {name: value.float().cpu().contiguous().numpy() for name, value in given.items()}
        boxes, conf = self.session.run(list(OUTPUTS), feed)
        return torch.from_numpy(boxes), torch.from_numpy(conf)


def read_metadata(properties: dict[str, str], path: str | Path) -> dict[str, Any]:
    """Read our part of an ONNX file's metadata.

    Args:
        properties: The file's metadata.
        path: The file, for messages.

    Raises:
        CheckpointError: None there, or of a later format.
    """
    meta = json.loads(properties.get(MARK, "null"))
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = f"format {meta.get('format')} of version {meta.get('version')}" if isinstance(meta, dict) else "none"
        raise CheckpointError(
            f"{path}: metadata of format {FORMAT} expected, found {found}; update optisar-yolo or export again"
        )
    return meta
