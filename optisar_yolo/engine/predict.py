"""Prediction: Ultralytics' predictor with expressions.

1. :class:`ImageFiles` and :func:`read_sources` read images of any depth and channel count, as in training.
2. ``preprocess`` fits them on canvases and groups those of one canvas size.
3. ``inference`` encodes the expressions once and each group of images once.
4. ``postprocess`` finds the boxes of each expression (:func:`~optisar_yolo.engine.reasoning.match`) and wraps those
   above the confidence threshold as Ultralytics' results.

:class:`PredictorPool` gives each call that is running a predictor of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.data import DataError, EvaluationDataset, ImageRendering, letterbox, read_image
from optisar_yolo.engine.augment import grounded_views
from optisar_yolo.engine.grounding import (
    CanvasImages,
    Detections,
    KnownExpressions,
    NetworkRunner,
    notes_of,
    text_features_for,
)
from optisar_yolo.engine.reasoning import ALL, QueryPlan, match, plan_of, queries_in, thresholds
from optisar_yolo.engine.sizes import shrink_note, side_for
from optisar_yolo.engine.tracking import split_trackers
from optisar_yolo.language import ObjectQuery, clean
from optisar_yolo.nn import Encoded, GroundingModel, mixed
from optisar_yolo.text import TextFeatureCache
from optisar_yolo.utils import short, write_atomic


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
    if not isinstance(text, Iterable) or isinstance(text, (Mapping, AbstractSet, bytes)):
        hint = "; its values are list(text.values())" if isinstance(text, Mapping) else ""
        raise ValueError(
            f"text must be an expression or a list of them, got {type(text).__name__}: {short(text)}{hint}"
        )
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("text is an empty list; give at least one expression")
    if nested := [t for t in texts if isinstance(t, (list, tuple))]:
        raise ValueError(
            f"text holds the list {short(nested[0])}: all images of a call get the same expressions; call predict for "
            "each image, or use model.encode(image).ground(text)"
        )
    return [clean(t) for t in texts]


def as_colours(image: np.ndarray) -> np.ndarray:
    """Return the first bands of an image [h, w, C] as BGR to draw on; one of three bands as it is."""
    if image.shape[2] == 3:
        return image
    return np.ascontiguousarray(image[..., [2, 1, 0]] if image.shape[2] > 3 else image[..., [0, 0, 0]])


def canvas(image: np.ndarray, imgsz: int) -> tuple[Tensor, Tensor]:
    """Fit an image on its smallest canvas, which does not depend on other images.

    Args:
        image: Image uint8 [h, w, 3] BGR.
        imgsz: Long side in the network.

    Returns:
        Image [3, H, W] RGB in 0..1 and extent [4].
    """
    placed, extent = letterbox(image, imgsz)
    rgb = np.ascontiguousarray((placed[..., ::-1] if placed.shape[2] == 3 else placed).transpose(2, 0, 1))
    return torch.from_numpy(rgb).float() / 255, torch.from_numpy(extent)


def check_classes(args: Any) -> None:
    """Check that ``classes`` are expressions of a call.

    Args:
        args: The configuration of the call.

    Raises:
        ValueError: They are none.
    """
    classes = [args.classes] if isinstance(args.classes, int) else list(args.classes or [])
    count = len(checked_expressions(args.text))
    if wrong := [c for c in classes if not isinstance(c, int) or not 0 <= c < count]:
        raise ValueError(f"classes={wrong[0]!r}: classes are indices of the expressions in text=, 0 to {count - 1}")


class ImageFiles(LoadImagesAndVideos):
    """Ultralytics' loader of files, but images are read as in training, at any depth and channel count.

    A file that cannot be read is skipped with a warning. It is an error where none of the files can be read.

    Attributes:
        rendering: Bands and stretch; chosen by the files by default.
    """

    rendering = ImageRendering()

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Read the next batch: paths, images uint8 [h, w, 3] BGR and log lines.

        Raises:
            DataError: None of the files is an image.
        """
        paths: list[str] = []
        images: list[np.ndarray] = []
        lines: list[str] = []
        self.mode = "image"
        while self.count < self.ni and len(images) < self.bs:
            path = self.files[self.count]
            self.count += 1
            try:
                images.append(read_image(path, self.rendering))
            except DataError as error:
                self.unread = getattr(self, "unread", 0) + 1
                if self.unread == self.nf:
                    raise
                LOGGER.warning(f"skipped: {error}")
                continue
            paths.append(path)
            lines.append(f"image {self.count}/{self.nf} {path}: ")
        return (paths, images, lines) if images else super().__next__()  # videos, or the end


def read_sources(source: Any, rendering: ImageRendering | None = None) -> tuple[Any, list[str]]:
    """Read images that are given as arrays or in a list, and leave other sources to Ultralytics.

    Args:
        source: As given to ``predict``.
        rendering: Bands and stretch.

    Returns:
        A list of images uint8 [h, w, 3] BGR and their names, or the source itself and no names.

    Raises:
        DataError: One of them is not an image.
    """
    rendering = rendering or ImageRendering()
    single = isinstance(source, (np.ndarray, Image.Image))
    if not single and not isinstance(source, (list, tuple)):
        return source, []
    images, names = [], []
    for i, item in enumerate([source] if single else source):
        is_file = isinstance(item, (str, Path)) and "://" not in str(item)
        own = is_file or isinstance(item, (np.ndarray, Image.Image))
        images.append(read_image(item, rendering) if own else item)
        names.append(str(item) if isinstance(item, (str, Path)) else getattr(item, "filename", "") or f"image{i}.jpg")
    return images, names


class GroundingPredictor(DetectionPredictor):
    """Predictor of grounding models: takes the arguments of Ultralytics' predictor, ``text`` and ``topk``."""

    model: Any  # ultralytics' backend around the network, or an export
    device: torch.device
    plotted_img: np.ndarray

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict[str, Any] | None = None,
        choose: Callable[[Any], NetworkRunner | None] | None = None,
    ) -> None:
        super().__init__(cfg, overrides, _callbacks)
        self.choose = choose  # from the arguments to what takes PyTorch's place, or None
        self.text_features: TextFeatureCache | KnownExpressions | None = None
        self.track_start: float | None = None  # confidence at which tracks start
        self.shrink_said = False
        self.frame_sizes: dict[Path, tuple[int, ...]] = {}  # height and width of the first drawing of each video
        self.fits_size = False  # each image at a side of its own, as the caller set none
        self.groups: list[tuple[list[int], Tensor, Tensor]] = []  # indices, images [B, 3, H, W], extents [B, 4]

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Use an exported network, or what takes PyTorch's place, as it is; Ultralytics wraps the others."""
        if isinstance(model, GroundingModel) and self.choose is not None:
            model = self.choose(self.args) or model
        if not isinstance(model, NetworkRunner):
            precision = self.args.quantize
            self.args.quantize = None  # weights stay as they are: see `mixed`
            super().setup_model(model, verbose)
            self.args.quantize = precision
            self.model.prefetch = (
                True  # read the next file during inference: large files take longer to read than to ground
            )
            return
        self.model = model.to(select_device(self.args.device, verbose=verbose))
        self.device = torch.device("cpu")  # where exports take and leave their arrays

    @property
    def network(self) -> GroundingModel | NetworkRunner:
        """The network inside ultralytics' backend."""
        if isinstance(self.model, NetworkRunner):
            return self.model
        return self.model.backend.model if hasattr(self.model, "backend") else self.model.model

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Open the source; Ultralytics' own reader keeps only the high byte of 16-bit images."""
        check_classes(self.args)
        if self.args.augment and self.args.topk == ALL:
            LOGGER.warning("'augment=True' has no effect with topk=all: all objects are found in the image as it is")
        self.shrink_said = False
        bands = self.network.channels
        rendering = ImageRendering(getattr(self.args, "bands", None), getattr(self.args, "stretch", "auto"), bands)
        source, names = read_sources(source, rendering)
        super().setup_source(source, stride)
        if names:
            self.dataset.paths = names
        elif type(self.dataset) is LoadImagesAndVideos:
            self.dataset.__class__ = ImageFiles
            self.dataset.rendering = rendering
        elif rendering != ImageRendering(channels=bands):
            LOGGER.warning("'bands=' and 'stretch=' have no effect: they are for files of images and for arrays")

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks; of Ultralytics' trackers each expression gets its own."""
        super().run_callbacks(event)
        if event == "on_predict_start" and self.args.mode == "track":
            split_trackers(self)

    @property
    def _reasons(self) -> bool:
        """Whether boxes are chosen among the objects found; mirrored views are grounded by the network alone."""
        return bool(self.args.reason) and (not self.args.augment or self.args.topk == ALL)

    def preprocess(self, im: Tensor | list[np.ndarray]) -> Tensor:
        """Fit images on canvases, in groups of one size. Tensors are used as they are, [B, 3, H, W] RGB in 0..1."""
        if isinstance(im, Tensor):
            extent = im.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(im.shape[0], 4)
            self.groups = [(list(range(len(im))), im.to(self.device).float(), extent.to(self.device))]
        else:
            side = max(self.imgsz) if isinstance(self.imgsz, (list, tuple)) else self.imgsz
            bands = self.network.channels
            images = [read_image(p) if bands == 3 else read_image(p, ImageRendering(channels=bands)) for p in im]
            placed = [(i, *canvas(image, self._side(image, side, i))) for i, image in enumerate(images)]
            groups = EvaluationDataset.collate(placed)
            self.groups = [(index, x.to(self.device), extent.to(self.device)) for index, x, extent in groups]
        return self.groups[0][1]  # Ultralytics reads its size for the log

    def _side(self, image: np.ndarray, side: int, i: int) -> int:
        """Return the long side of an image in the network, and say where it is much smaller than the image."""
        size = (image.shape[0], image.shape[1])
        side = side_for(self.network, size, side) if self.fits_size else side
        if (note := shrink_note(size, side)) and not self.shrink_said:
            self.shrink_said = True
            LOGGER.warning(f"{self.batch[0][i]}: {note}; this is said of the first such image alone")
        return side

    def inference(
        self, im: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[QueryPlan, Tensor, list[Encoded | CanvasImages]]:
        """Read and encode the expressions, and encode each group of images."""
        net = self.network
        if self.text_features is None:
            self.text_features = text_features_for(net, self.args.text_weights)
        plan = plan_of(net, checked_expressions(self.args.text), self._reasons)
        with mixed(self.args.quantize == 16, self.device):
            features = self.text_features(plan.searched).to(self.device)
            return plan, features, [net.encode(x, extent) for _, x, extent in self.groups]

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Any, **kwargs: Any) -> list[Results]:
        """Find the boxes, and wrap those that are wanted as results in the order of the images."""
        results = self._find(preds, orig_imgs)
        for result in results:
            result.boxes = self._wanted(result.boxes)
        return results

    def save_predicted_images(self, save_path: Path, frame: int | None = 0) -> None:
        """Save an image with its boxes, or a video's frame; unlike OpenCV's writer, a full disk is an error."""
        if self.dataset.mode in ("stream", "video"):
            self.plotted_img = self._as_first_frame(save_path, self.plotted_img)
            super().save_predicted_images(save_path, frame)
            return
        write_atomic(save_path.with_suffix(".jpg"), bytes(cv2.imencode(".jpg", self.plotted_img)[1]), sync=False)

    def _as_first_frame(self, save_path: Path, drawn: np.ndarray) -> np.ndarray:
        """Return a drawing in the size of a video's first one: OpenCV drops frames of another size without a word.

        Legends differ in height, as their lines depend on what is found.
        """
        if save_path not in self.vid_writer:
            self.frame_sizes[save_path] = drawn.shape[:2]
        height, width = self.frame_sizes.get(save_path, drawn.shape[:2])
        out = np.zeros((height, width, 3), np.uint8)
        out[: drawn.shape[0], : drawn.shape[1]] = drawn[:height, :width]
        return out

    def _find(self, preds: Any, orig_imgs: Any) -> list[Results]:
        """Find the boxes, and wrap those above the threshold as results."""
        plan, features, encoded = preds
        assert self.text_features is not None  # opened by `inference`
        texts, topk, overlap = plan.texts, self.args.topk, float(self.args.iou)
        if isinstance(orig_imgs, Tensor):
            orig_imgs = [(i.permute(1, 2, 0).flip(-1) * 255).round().byte().cpu().numpy() for i in orig_imgs]
        found: dict[int, Detections] = {}
        read: dict[int, list[ObjectQuery]] = {}
        for (index, x, extent), group in zip(self.groups, encoded, strict=True):
            sizes = [(orig_imgs[i].shape[1], orig_imgs[i].shape[0]) for i in index]
            with mixed(self.args.quantize == 16, self.device):
                canvas_size = (x.shape[2], x.shape[3])
                if self.args.augment and topk != ALL:
                    boxes = grounded_views(
                        self.network, x, extent, group, texts, self.text_features, sizes, int(topk), overlap
                    )
                else:
                    boxes = match(
                        self.network, group, plan, features, canvas_size, sizes, topk, overlap, self.args.conf, images=x
                    )
            found.update(zip(index, boxes, strict=True))
            read.update(zip(index, queries_in(plan.queries, x, extent), strict=True))
        notes = notes_of(self.network, texts, topk, self._reasons)
        least = thresholds(self.network, plan, topk, self.args.conf)
        return [
            found[i].results(image, path, texts, self.args.conf, self.args.verbose, notes, read[i], least)
            for i, (image, path) in enumerate(zip(map(as_colours, orig_imgs), self.batch[0], strict=True))
        ]

    def _wanted(self, boxes: Any) -> Any:
        """Keep what ``classes`` (indices of expressions) and ``max_det`` (boxes per image, the best) leave."""
        classes, most = self.args.classes, self.args.max_det
        if classes is not None:
            chosen = torch.tensor([classes] if isinstance(classes, int) else list(classes), device=boxes.cls.device)
            boxes = boxes[torch.isin(boxes.cls, chosen.to(boxes.cls.dtype))]
        if most != DEFAULT_CFG.max_det and len(boxes) > most:  # by default every expression gets its boxes
            boxes = boxes[boxes.conf.argsort(descending=True, stable=True)[:most].sort().values]
        return boxes


class PredictorPool:
    """The predictors of one model: each call that is running has its own, and all share one fused network.

    A predictor of Ultralytics holds the state of a call (arguments, source, batch, results) and can serve one call at a
    time. Therefore:

    1. A call takes the predictor of its thread's last call, otherwise the one used last of those that no call uses.
    2. Where all of them are in use, it takes a new one with the same network, device and text features.
    3. It gives the predictor back when its last image is done, or when its generator is closed or thrown away.

    Calls one after the other thus use one predictor, as in Ultralytics; there are never more than calls at once. A copy
    of a pool is empty.

    Attributes:
        lock: Held while a call is set up, so that two first calls do not both make a fused network.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._all: list[Any] = []  # the one used last at the end
        self._taken: dict[object, Any] = {}  # by ticket: the predictors of running calls
        self._here = threading.local()  # .predictor: that of this thread's last call

    def __reduce__(self) -> tuple[type[PredictorPool], tuple[()]]:
        return PredictorPool, ()

    @property
    def current(self) -> Any:
        """The predictor of this thread's last call; of any thread's last call where this one made none; or None."""
        own = getattr(self._here, "predictor", None)
        return own if own is not None or not self._all else self._all[-1]

    @current.setter
    def current(self, predictor: Any) -> None:
        with self.lock:
            if predictor is None:  # the network has changed; calls that are running keep the former one
                self._all, self._here = [], threading.local()
                return
            replaced = getattr(self._here, "predictor", None)
            self._all = [p for p in self._all if p is not replaced and p is not predictor] + [predictor]
            self._here.predictor = predictor

    def choose(self) -> None:
        """Make a predictor that no call uses the current one; None where there is none yet. The lock is held."""
        taken = list(self._taken.values())
        free = [p for p in self._all if not any(p is other for other in taken)]
        own = getattr(self._here, "predictor", None)
        if any(p is own for p in free):
            return
        if free:
            self._here.predictor = free[-1]
        elif self._all:
            self._here.predictor = _twin(self._all[-1])
            self._all.append(self._here.predictor)
        else:
            self._here.predictor = None

    def take(self, predictor: Any) -> object:
        """Reserve a predictor for a call, and return the ticket to give it back with. The lock is held."""
        ticket = object()
        self._taken[ticket] = predictor
        return ticket

    def give_back(self, ticket: object) -> None:
        """Let other calls use a predictor again; a second time has no effect."""
        with self.lock:
            predictor = self._taken.pop(ticket, None)
            if any(p is predictor for p in self._all):
                self._all = [p for p in self._all if p is not predictor] + [predictor]


def _twin(predictor: Any) -> Any:
    """Return a predictor with the same network and arguments, and with a state of its own."""
    made = type(predictor)(overrides=dict(vars(predictor.args)), _callbacks=predictor.callbacks)
    for name in ("model", "device", "done_warmup", "save_dir", "text_features"):
        if hasattr(predictor, name):
            setattr(made, name, getattr(predictor, name))
    return made
