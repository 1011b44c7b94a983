"""Detection in tiles: a batch of tiles is encoded once, and all expressions are grounded in it in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.data import GREY, STRIDE
from optisar_yolo.engine import (
    ATTRIBUTE,
    OVERLAP,
    CanvasImages,
    NetworkRunner,
    calibration_of,
    default_conf,
    ground,
    model_vocabulary,
    text_features_for,
)
from optisar_yolo.nn import Encoded, GroundingModel, fused_copy
from optisar_yolo.utils import file_sha256, fingerprint

if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR

RARER = 2.0  # odds by which an object is rarer in a tile than in an image of the calibration
CANDIDATES = 50  # anchors per expression and tile; objects have several, so about a dozen objects of a kind


class Detector(Protocol):
    """Grounds expressions in images.

    Attributes:
        key: Part of the run's fingerprint; detectors with other results have another one.
        conf: Confidence threshold where the caller sets none.
    """

    key: str
    conf: float

    def __call__(
        self, images: NDArray[np.uint8], expressions: Sequence[str], floor: float
    ) -> list[NDArray[np.float32]]:
        """Ground expressions.

        Args:
            images: uint8 [B, 3, h, w], RGB.
            expressions: T expressions.
            floor: Boxes of a lower confidence may be left out.

        Returns:
            Per image [n, 6]: xyxy in its pixels, confidence, index of the expression.
        """
        ...


class ExpressionDetector:
    """A grounding model that returns several objects per expression.

    Args:
        model: The model.
        device: Where it runs; by default where it is.
        engine: What runs it on a CPU, as in :meth:`OptiSAR.predict`.

    Raises:
        ValueError: An export with one box per expression: of several ships in a tile it would find one.
    """

    def __init__(self, model: OptiSAR, device: str | None = None, engine: str | None = None) -> None:
        if not isinstance(model.model, GroundingModel) and getattr(model.model, "topk", 1) == 1:
            raise ValueError(
                f"{model.ckpt_path}: an exported model with one box finds one object per expression and tile, and a "
                f"raster needs all of them; use the .pt or .safetensors file, or an export with topk={CANDIDATES}"
            )
        self.bank = text_features_for(model.model, model.overrides.get("text_weights"), None)
        self.key = _key(model.model)
        self.vocabulary = model_vocabulary(model.model)
        self.channels = getattr(model.model, "channels", 3)
        self.calibration = calibration_of(model.model)
        self.conf = default_conf(model.model)
        if self.calibration is not None:
            self.conf = RARER * self.conf / (1 - self.conf + RARER * self.conf)
        chosen = model.engine_network(engine, device)
        self.network: GroundingModel | NetworkRunner
        if chosen is not None or not isinstance(model.model, GroundingModel):
            self.network, self.device = chosen or model.model, torch.device("cpu")
        else:
            network = fused_copy(model.model)
            if device:
                network = network.to(select_device(device, verbose=False))
            self.network, self.device = network, next(network.parameters()).device
        self._features: tuple[tuple[str, ...], Tensor] | None = None

    def expect(self, tiles: int) -> None:
        """Say how many tiles are ahead, so that a graph that pays is made from the start."""
        if isinstance(self.network, NetworkRunner):
            self.network.expect(tiles)

    @torch.inference_mode()
    def __call__(
        self, images: NDArray[np.uint8], expressions: Sequence[str], floor: float
    ) -> list[NDArray[np.float32]]:
        """Ground expressions in images (see `Detector`)."""
        if self._features is None or self._features[0] != tuple(expressions):
            self._features = tuple(expressions), self.bank(list(expressions)).to(self.device)
        x = torch.from_numpy(images).to(self.device)
        b, _, h, w = x.shape
        right, bottom = -w % STRIDE, -h % STRIDE
        x = torch.nn.functional.pad(x, (0, right, 0, bottom), value=GREY)  # the image is at the top left
        extent = torch.tensor([[0.0, 0.0, w / (w + right), h / (h + bottom)]], device=self.device).expand(b, 4)
        boxes, conf = self._best(self.network.encode(x.float() / 255, extent), self._features[1], b)
        limit = boxes.new_tensor([w, h, w, h])
        # Clipped first: boxes that differ only outside the image are the same.
        return self._suppress(boxes.clamp(min=0).minimum(limit), conf, floor)

    def _best(self, encoded: Encoded | CanvasImages, texts: Tensor, b: int) -> tuple[Tensor, Tensor]:
        """Return boxes [B, T, k, 4] and calibrated confidences [B, T, k]."""
        t = len(texts)
        if isinstance(self.network, NetworkRunner) or self.network.guided:  # a pyramid for each expression
            rows = torch.arange(b, device=texts.device).repeat_interleave(t)
            boxes, conf = ground(self.network, encoded, rows, texts.repeat(b, 1), CANDIDATES)
            boxes, conf = boxes.view(b, t, -1, 4), conf.view(b, t, -1)
        else:
            assert isinstance(encoded, Encoded)
            boxes, conf = self.network.head.decode(
                self.network.match_all(encoded, texts[None].expand(b, -1, -1)), CANDIDATES
            )
        boxes, conf = boxes.float().cpu(), conf.float().cpu()
        if self.calibration is not None:
            conf = torch.from_numpy(self.calibration(conf.numpy())).float()
        return boxes, conf

    @staticmethod
    def _suppress(boxes: Tensor, conf: Tensor, floor: float) -> list[NDArray[np.float32]]:
        """Suppress overlapping boxes [B, T, k, 4] of the same expression and image."""
        b, t, _ = conf.shape
        where = (conf >= floor).nonzero()  # [N, 3]: image, expression, candidate
        boxes, conf = boxes[tuple(where.T)], conf[tuple(where.T)]
        kept = batched_nms(boxes, conf, where[:, 0] * t + where[:, 1], OVERLAP)
        rows = torch.cat((boxes[kept], conf[kept, None], where[kept, 1:2].float()), 1)
        image = where[kept, 0]
        return [rows[image == i].numpy() for i in range(b)]


def _key(network: GroundingModel | NetworkRunner) -> str:
    """Return a hash of the weights, of the calibration and of the text encoder; the engine changes no result."""
    about = [str(getattr(network, ATTRIBUTE, None)), network.text_model, network.text_fingerprint]
    digest = hashlib.sha256(repr(about).encode())
    if isinstance(network, NetworkRunner):
        files = [network.path] if network.path.is_file() else sorted(f for f in network.path.iterdir() if f.is_file())
        return fingerprint(about, [file_sha256(file) for file in files])
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
