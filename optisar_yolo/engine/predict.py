"""Prediction: sentences asked of pictures, one best box per sentence, or an honest "nothing found"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import nms
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.data.cards import DataError
from optisar_yolo.data.geometry import letterbox, to_picture
from optisar_yolo.data.pixels import read_image
from optisar_yolo.data.textbank import TextBank
from optisar_yolo.engine.draw import GroundingResults
from optisar_yolo.engine.onnx import OnnxModel, Pictures
from optisar_yolo.engine.val import ask, checked_bank
from optisar_yolo.language import clean
from optisar_yolo.nn.model import Encoded, GroundingModel

CANDIDATES = 100  # anchors per sentence that compete where several boxes are wanted
OVERLAP = 0.7  # IoU from which two of them are the same object


def sentences(text: Any) -> list[str]:
    """Check and clean what was given as ``text``.

    Args:
        text: A sentence or several.

    Returns:
        At least one sentence.

    Raises:
        ValueError: No sentence, or one that is blank or no string.
    """
    if text is None:
        raise ValueError('predict needs a sentence: text="the ship in the upper left", or a list of sentences')
    if not isinstance(text, Iterable):
        raise ValueError(f"text must be a sentence or a list of them, got {type(text).__name__}: {text!r}")
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("text is an empty list; give at least one sentence")
    return [clean(t) for t in texts]


def canvases(images: list[np.ndarray], imgsz: int) -> tuple[Tensor, Tensor]:
    """Fit BGR pictures on canvases of one size.

    Args:
        images: Pictures uint8 [h, w, 3].
        imgsz: Long side in the network.

    Returns:
        Pictures [B, 3, H, W] RGB in 0..1 and extents [B, 4]. Pictures of different shapes share a square canvas.
    """
    square = len({i.shape for i in images}) > 1
    placed = [letterbox(i, imgsz, square) for i in images]
    batch = np.stack([c[..., ::-1].transpose(2, 0, 1) for c, _ in placed])
    return torch.from_numpy(np.ascontiguousarray(batch)).float() / 255, torch.from_numpy(
        np.stack([e for _, e in placed])
    )


def answer(
    model: GroundingModel | OnnxModel,
    scene: Encoded | Pictures,
    texts: Tensor,
    canvas: tuple[int, int],
    sizes: list[tuple[int, int]],
    topk: int,
) -> list[np.ndarray]:
    """Best boxes of every sentence in every picture.

    Args:
        model: The network.
        scene: B encoded pictures.
        texts: [T, D] features of the sentences.
        canvas: Height and width of the canvas.
        sizes: Width and height of each picture.
        topk: Boxes per sentence.

    Returns:
        Per picture [n, 6]: xyxy in pixels of the picture, confidence, index of the sentence; best first for each
        sentence.
    """
    b, t = len(sizes), len(texts)
    rows = torch.arange(b, device=texts.device).repeat_interleave(t)
    boxes, confs = ask(model, scene, rows, texts.repeat(b, 1), 1 if topk == 1 else CANDIDATES)
    out = []
    for i, size in enumerate(sizes):
        found = []
        for j in range(t):
            box, conf = boxes[i * t + j].float().cpu().numpy(), confs[i * t + j].float().cpu()
            xyxy = to_picture(box, size, scene.extent[i].cpu().numpy(), canvas)
            # clipped first: boxes that differ outside the picture alone are one answer, not two
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
    """Keep confident boxes, and say which sentences got none.

    Args:
        found: [n, 6] of :func:`answer`.
        image: The picture, BGR.
        path: Its name.
        texts: The sentences.
        conf: Least confidence.
        verbose: Log the sentences without a box.

    Returns:
        Ultralytics' results; ``cls`` is the index of the sentence and ``names[cls]`` the sentence.
    """
    kept = found[found[:, 4] >= conf]
    if verbose:
        for j, text in enumerate(texts):
            mine = found[found[:, 5] == j, 4]
            if not (mine >= conf).any():
                LOGGER.info(
                    f'nothing found for "{text}" in {path}: best confidence {mine.max():.3f}, below conf={conf:g}'
                )
    boxes = torch.from_numpy(kept.astype(np.float32))
    return GroundingResults(image, path=path, names=dict(enumerate(texts)), boxes=boxes)


class PictureFiles(LoadImagesAndVideos):
    """Ultralytics' loader of files, but pictures are read as in training, at any depth and channel count.

    A file that cannot be read is skipped and named, one of many; where nothing at all can be read, that is an error.
    """

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Read the next batch: paths, pictures uint8 [h, w, 3] BGR and log lines.

        Raises:
            DataError: None of the files is a picture.
        """
        paths: list[str] = []
        images: list[np.ndarray] = []
        lines: list[str] = []
        self.mode = "image"
        while self.count < self.ni and len(images) < self.bs:
            path = self.files[self.count]
            self.count += 1
            try:
                images.append(read_image(path))
            except DataError as error:
                self.unread = getattr(self, "unread", 0) + 1
                if self.unread == self.nf:
                    raise
                LOGGER.warning(f"skipped: {error}")
                continue
            paths.append(path)
            lines.append(f"image {self.count}/{self.nf} {path}: ")
        return (paths, images, lines) if images else super().__next__()  # videos, or the end


def opened(source: Any) -> tuple[Any, list[str]]:
    """Read what is given as pictures or as a list, and leave other sources to Ultralytics.

    Args:
        source: As given to ``predict``.

    Returns:
        A list of pictures uint8 [h, w, 3] BGR and their names, or the source itself and no names.

    Raises:
        DataError: One of them is no picture.
    """
    single = isinstance(source, (np.ndarray, Image.Image))
    if not single and not isinstance(source, (list, tuple)):
        return source, []
    images, names = [], []
    for i, item in enumerate([source] if single else source):
        is_file = isinstance(item, (str, Path)) and "://" not in str(item)
        images.append(read_image(item) if is_file or isinstance(item, (np.ndarray, Image.Image)) else item)
        names.append(str(item) if isinstance(item, (str, Path)) else getattr(item, "filename", "") or f"image{i}.jpg")
    return images, names


class GroundingPredictor(DetectionPredictor):
    """Predictor of our model: arguments are those of ultralytics' predictor, and ``text`` and ``topk``."""

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self.bank: TextBank | None = None
        self.extent = torch.zeros(0, 4)

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Take an exported network as it is; ultralytics wraps the others."""
        if not isinstance(model, OnnxModel):
            super().setup_model(model, verbose)
            return
        self.model = model.to(select_device(self.args.device, verbose=verbose))
        self.device = torch.device("cpu")  # where ONNX Runtime takes and leaves its arrays

    @property
    def network(self) -> GroundingModel | OnnxModel:
        """The network inside ultralytics' backend."""
        if isinstance(self.model, OnnxModel):
            return self.model
        return self.model.backend.model if hasattr(self.model, "backend") else self.model.model

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Open the source; Ultralytics' own reading would keep the high byte of 16-bit pictures only."""
        source, names = opened(source)
        super().setup_source(source, stride)
        if names:
            self.dataset.paths = names
        elif type(self.dataset) is LoadImagesAndVideos:
            self.dataset.__class__ = PictureFiles

    def preprocess(self, im: Tensor | list[np.ndarray]) -> Tensor:
        """Fit pictures on canvases; tensors are taken as they are, [B, 3, H, W] RGB in 0..1."""
        if isinstance(im, Tensor):
            self.extent = im.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(im.shape[0], 4).to(self.device)
            return im.to(self.device).float()
        side = max(self.imgsz) if isinstance(self.imgsz, (list, tuple)) else self.imgsz
        x, extent = canvases([read_image(i) for i in im], side)
        self.extent = extent.to(self.device)
        return x.to(self.device)

    def inference(self, im: Tensor, *args: Any, **kwargs: Any) -> tuple[list[str], Encoded | Pictures, Tensor]:
        """Encode the pictures and the sentences."""
        net = self.network
        if self.bank is None:
            self.bank = checked_bank(net, self.args.text_weights, None)
        texts = sentences(self.args.text)
        return texts, net.encode(im, self.extent), self.bank(texts).to(self.device)

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Any, **kwargs: Any) -> list[Results]:
        """Ask, decode and wrap."""
        texts, scene, features = preds
        if isinstance(orig_imgs, Tensor):
            orig_imgs = [(i.permute(1, 2, 0).flip(-1) * 255).round().byte().cpu().numpy() for i in orig_imgs]
        sizes = [(i.shape[1], i.shape[0]) for i in orig_imgs]
        found = answer(self.network, scene, features, (img.shape[2], img.shape[3]), sizes, self.args.topk)
        return [
            as_results(f, i, p, texts, self.args.conf, self.args.verbose)
            for f, i, p in zip(found, orig_imgs, self.batch[0], strict=True)
        ]
