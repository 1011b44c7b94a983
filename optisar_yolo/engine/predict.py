"""Prediction: expressions asked of images, one best box per expression, or an honest "nothing found"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.data import EvaluationDataset, letterbox, read_image, to_image
from optisar_yolo.engine.calibrate import calibration_of
from optisar_yolo.engine.grounding import CanvasImages, ExportedNetwork, KnownExpressions, checked_bank, ground
from optisar_yolo.engine.sources import ImageFiles, opened
from optisar_yolo.language import clean
from optisar_yolo.nn import Encoded, GroundingModel, mixed
from optisar_yolo.text import TextBank
from optisar_yolo.visualize import GroundingResults

CANDIDATES = 100  # anchors per expression that compete where several boxes are wanted
OVERLAP = 0.7  # IoU from which two of them are the same object


def checked_expressions(text: Any) -> list[str]:
    """Check and clean what was given as ``text``.

    Args:
        text: An expression or several.

    Returns:
        At least one expression.

    Raises:
        ValueError: No expression, or one that is blank or no string.
    """
    if text is None:
        raise ValueError('predict needs an expression: text="the ship in the upper left", or a list of expressions')
    if not isinstance(text, Iterable):
        raise ValueError(f"text must be an expression or a list of them, got {type(text).__name__}: {text!r}")
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("text is an empty list; give at least one expression")
    return [clean(t) for t in texts]


def canvas(image: np.ndarray, imgsz: int) -> tuple[Tensor, Tensor]:
    """Fit an image on the smallest canvas, whatever the other images are.

    Args:
        image: Image uint8 [h, w, 3] BGR.
        imgsz: Long side in the network.

    Returns:
        Image [3, H, W] RGB in 0..1 and extent [4].
    """
    placed, extent = letterbox(image, imgsz)
    rgb = np.ascontiguousarray(placed[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(rgb).float() / 255, torch.from_numpy(extent)


def answer(
    model: GroundingModel | ExportedNetwork,
    scene: Encoded | CanvasImages,
    texts: Tensor,
    canvas: tuple[int, int],
    sizes: list[tuple[int, int]],
    topk: int,
) -> list[np.ndarray]:
    """Best boxes of every expression in every image.

    Args:
        model: The network.
        scene: B encoded images.
        texts: [T, D] features of the expressions.
        canvas: Height and width of the canvas.
        sizes: Width and height of each image.
        topk: Boxes per expression.

    Returns:
        Per image [n, 6]: xyxy in pixels of the image, confidence (calibrated where the model has a calibration),
        index of the expression; best first for each expression.
    """
    calibration = calibration_of(model)
    b, t = len(sizes), len(texts)
    rows = torch.arange(b, device=texts.device).repeat_interleave(t)
    boxes, confs = ground(model, scene, rows, texts.repeat(b, 1), 1 if topk == 1 else CANDIDATES)
    out = []
    for i, size in enumerate(sizes):
        found = []
        for j in range(t):
            box, conf = boxes[i * t + j].float().cpu().numpy(), confs[i * t + j].float().cpu()
            if calibration is not None:
                conf = torch.from_numpy(calibration(conf.numpy())).float()
            xyxy = to_image(box, size, scene.extent[i].cpu().numpy(), canvas)
            # clipped first: boxes that differ outside the image alone are one answer, not two
            keep = nms(torch.from_numpy(xyxy), conf, OVERLAP)[:topk] if topk > 1 else torch.tensor([0])
            n = len(keep)
            found.append(
                np.concatenate((xyxy[keep.numpy()], conf[keep].numpy()[:, None], np.full((n, 1), j, np.float32)), 1)
            )
        out.append(np.concatenate(found))
    return out


def as_results(
    found: np.ndarray, image: np.ndarray, path: str, texts: list[str], conf: float, verbose: bool = True
) -> Results:
    """Keep confident boxes, and say which expressions got none.

    Args:
        found: [n, 6] of :func:`answer`.
        image: The image, BGR.
        path: Its name.
        texts: The expressions.
        conf: Least confidence.
        verbose: Log the expressions without a box.

    Returns:
        Ultralytics' results; ``cls`` is the index of the expression and ``names[cls]`` the expression.
    """
    kept = found[found[:, 4] >= conf]
    if verbose:
        for j, text in enumerate(texts):
            mine = found[found[:, 5] == j, 4]
            if not (mine >= conf).any():
                LOGGER.info(
                    f'nothing found for "{text}" in {path}: best confidence {mine.max():.3f}, below conf={conf:.3g}'
                )
    boxes = torch.from_numpy(kept.astype(np.float32))
    return GroundingResults(image, path=path, names=dict(enumerate(texts)), boxes=boxes)


class GroundingPredictor(DetectionPredictor):
    """Predictor of our model: arguments are those of ultralytics' predictor, and ``text`` and ``topk``."""

    model: Any  # ultralytics' backend around the network, or an export
    device: torch.device

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self.bank: TextBank | KnownExpressions | None = None
        self.groups: list[tuple[list[int], Tensor, Tensor]] = []

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Take an exported network as it is; ultralytics wraps the others."""
        if not isinstance(model, ExportedNetwork):
            precision = self.args.quantize
            self.args.quantize = None  # weights stay as they are: see `mixed`
            super().setup_model(model, verbose)
            self.args.quantize = precision
            self.model.prefetch = True  # read the next file meanwhile: large images take longer than answers
            return
        self.model = model.to(select_device(self.args.device, verbose=verbose))
        self.device = torch.device("cpu")  # where exports take and leave their arrays

    @property
    def network(self) -> GroundingModel | ExportedNetwork:
        """The network inside ultralytics' backend."""
        if isinstance(self.model, ExportedNetwork):
            return self.model
        return self.model.backend.model if hasattr(self.model, "backend") else self.model.model

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Open the source; Ultralytics' own reading would keep the high byte of 16-bit images only."""
        source, names = opened(source)
        super().setup_source(source, stride)
        if names:
            self.dataset.paths = names
        elif type(self.dataset) is LoadImagesAndVideos:
            self.dataset.__class__ = ImageFiles

    def preprocess(self, im: Tensor | list[np.ndarray]) -> Tensor:
        """Fit images on canvases, in groups of one size; tensors are taken as they are, [B, 3, H, W] RGB in 0..1."""
        if isinstance(im, Tensor):
            extent = im.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(im.shape[0], 4)
            self.groups = [(list(range(len(im))), im.to(self.device).float(), extent.to(self.device))]
        else:
            side = max(self.imgsz) if isinstance(self.imgsz, (list, tuple)) else self.imgsz
            placed = [(i, *canvas(read_image(p), side)) for i, p in enumerate(im)]
            groups = EvaluationDataset.collate(placed)
            self.groups = [(index, x.to(self.device), extent.to(self.device)) for index, x, extent in groups]
        return self.groups[0][1]  # ultralytics reads its size for the log

    def inference(
        self, im: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[list[str], Tensor, list[Encoded | CanvasImages]]:
        """Encode the expressions, and each group of images."""
        net = self.network
        if self.bank is None:
            self.bank = checked_bank(net, self.args.text_weights, None)
        texts = checked_expressions(self.args.text)
        with mixed(self.args.quantize == 16, self.device):
            return texts, self.bank(texts).to(self.device), [net.encode(x, extent) for _, x, extent in self.groups]

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Any, **kwargs: Any) -> list[Results]:
        """Ask, decode and wrap."""
        texts, features, scenes = preds
        if isinstance(orig_imgs, Tensor):
            orig_imgs = [(i.permute(1, 2, 0).flip(-1) * 255).round().byte().cpu().numpy() for i in orig_imgs]
        found: dict[int, np.ndarray] = {}
        for (index, x, _), scene in zip(self.groups, scenes, strict=True):
            sizes = [(orig_imgs[i].shape[1], orig_imgs[i].shape[0]) for i in index]
            with mixed(self.args.quantize == 16, self.device):
                answers = answer(self.network, scene, features, (x.shape[2], x.shape[3]), sizes, self.args.topk)
            found.update(zip(index, answers, strict=True))
        return [
            as_results(found[i], image, path, texts, self.args.conf, self.args.verbose)
            for i, (image, path) in enumerate(zip(orig_imgs, self.batch[0], strict=True))
        ]
