"""From annotated images to training and validation samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from optisar_yolo.data import augment, radiometry
from optisar_yolo.data.augment import View
from optisar_yolo.data.background import background
from optisar_yolo.data.config import MODALITIES
from optisar_yolo.data.copy_paste import copy_paste
from optisar_yolo.data.geometry import letterbox, place, to_canvas
from optisar_yolo.data.images import read_image
from optisar_yolo.data.mosaic import mosaic
from optisar_yolo.data.prompts import PromptList, PromptSampler
from optisar_yolo.data.records import ImageRecord
from optisar_yolo.data.sampler import by_modality
from optisar_yolo.data.unchecked import UncheckedSampler
from optisar_yolo.language import has_colour

CACHE_LIMIT = 4 * 2**30  # bytes of decoded images that one process keeps


class GroundingDataset(Dataset):
    """Images with objects and expressions as training samples.

    Args:
        images: Annotated images.
        names: Category names by index.
        args: Settings: imgsz, seed, epochs; background, mosaic, close_mosaic, crop, copy_paste, rot90, fliplr, flipud,
            scale; rewrite, hsv_h, hsv_s, hsv_v, speckle; prompts, neg_ratio, reword, describe, categories; negatives,
            swap_kinds, guide.
        augmented: Draw augmentation (training).
    """

    def __init__(self, images: Sequence[ImageRecord], names: Sequence[str], args: Any, augmented: bool = True) -> None:
        self.images, self.names, self.args, self.augmented = list(images), tuple(names), args, augmented
        pool = [c for p in self.images for texts in p.captions for c in texts]
        self.prompts: Callable[..., PromptList]
        if args.negatives == "proven":
            self.prompts = PromptSampler(
                pool,
                args.prompts,
                args.neg_ratio,
                reword_share=args.reword,
                kinds=args.swap_kinds,
                categories=args.categories,
            )
        else:
            self.prompts = UncheckedSampler(pool, args.prompts, args.neg_ratio, args.negatives == "released")
        self.by_modality = by_modality(self.images)
        self.cache: dict[int, NDArray[np.uint8]] = {}
        self.cached = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def load(self, index: int) -> NDArray[np.uint8]:
        """Read an image, BGR [h, w, 3], its long side reduced to imgsz; small sets stay in memory."""
        if index in self.cache:
            return self.cache[index]
        img = read_image(self.images[index].path)
        r = self.args.imgsz / max(img.shape[:2])
        if r < 1:
            h, w = (max(round(s * r), 1) for s in img.shape[:2])
            img = cv2.resize(img, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        if self.cached + img.nbytes <= CACHE_LIMIT:
            self.cache[index] = img
            self.cached += img.nbytes
        return img

    def view(self, index: int) -> View:
        """An image with its objects and captions as they are labelled."""
        image = self.images[index]
        return View(
            img=self.load(index),
            boxes=image.boxes,
            names=tuple(self.names[c] for c in image.categories),
            captions=image.captions,
            size=(image.width, image.height),
            modality=image.modality,
        )

    def augment(self, epoch: int, index: int, rng: np.random.Generator) -> View:
        """Draw the augmentation of an image, but for the zoom. What is off draws nothing from the source of chance."""
        a, alike = self.args, self.by_modality[self.images[index].modality]

        def another() -> View:
            return self.view(alike[int(rng.integers(len(alike)))])

        if a.background and rng.random() < a.background:
            view = background(another, a.imgsz, rng) or self.view(index)
        elif a.mosaic and epoch < a.epochs - a.close_mosaic and rng.random() < a.mosaic:
            others = [self.view(alike[i]) for i in rng.integers(len(alike), size=3)]
            view = mosaic([self.view(index), *others], a.imgsz, rng, a.rewrite)
        elif a.crop and rng.random() < a.crop:
            view = augment.crop(self.view(index), rng, a.rewrite)
        else:
            view = self.view(index)
        if a.copy_paste and len(view.boxes) and rng.random() < a.copy_paste:
            view = copy_paste(view, another, rng, a.rewrite)
        if a.rot90 and rng.random() < a.rot90:
            view = augment.turn(view, int(rng.integers(1, 4)), rng, a.rewrite)
        view = augment.mirror(view, rng.random() < a.fliplr, rng.random() < a.flipud, a.rewrite)
        img = radiometry.light(view.img, a.hsv_v, rng)
        if view.modality == "sar":
            img = radiometry.speckle(img, a.speckle, rng)
        elif not any(has_colour(c) for texts in view.captions for c in texts):
            img = radiometry.tint(img, a.hsv_h, a.hsv_s, rng)
        return replace(view, img=img)

    def captions(self, view: View, rng: np.random.Generator) -> list[list[str]]:
        """What may be said of each object: its own expressions or, for a share of them, ones derived from boxes."""
        if view.retold:
            return [list(texts) for texts in view.captions]
        chosen: list[list[str]] = []
        for i, texts in enumerate(view.captions):
            options = list(texts)
            if not view.remnant[i] and rng.random() < self.args.describe:
                options = view.scene.describe(i, rng) or options
            chosen.append(options)
        return chosen

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Build the sample (epoch, index).

        Returns:
            img uint8 [3, H, W] RGB; extent [4], the image's place on the canvas (all of it for a mosaic); bboxes
            [N, 4] xywh and cls [N], targets [N, T] (see the loss; a row without a 1 is an object that no expression
            asks for); texts (T expressions); guide (the expression that guides the neck); modality (index in
            MODALITIES); im_file.
        """
        epoch, index = key
        a = self.args
        rng = np.random.default_rng([a.seed, epoch, index])
        view = self.augment(epoch, index, rng) if self.augmented else self.view(index)
        prompts = self.prompts(self.captions(view, rng), view.boxes, view.names, view.size, rng)
        if self.augmented:
            scale = 0.0 if view.fills else a.scale
            drawn, at = augment.zoom(a.imgsz, view.img.shape[0], view.img.shape[1], scale, rng)
            canvas, extent = place(view.img, (a.imgsz, a.imgsz), drawn, at)
        else:
            canvas, extent = letterbox(view.img, a.imgsz, square=True)
        targets = augment.open_doubts(view, prompts.texts, prompts.targets)
        # An object that no expression asks for is still a box to find; an expression that may mean it finds its
        # anchors.
        own = np.where((targets == 1).any(1), (targets == 1).argmax(1), (targets != 0).argmax(1))
        asked = np.flatnonzero((targets == 1).any(0))
        shares = to_canvas(view.boxes, view.size, extent)
        xywh = np.concatenate(((shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]), 1)
        return {
            "img": torch.from_numpy(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))),
            "extent": torch.from_numpy(extent),
            "bboxes": torch.from_numpy(xywh.astype(np.float32)).view(-1, 4),
            "cls": torch.from_numpy(own.astype(np.float32)).view(-1),
            "targets": torch.from_numpy(targets.astype(np.float32)),
            "texts": prompts.texts,
            "guide": self._guide(asked, len(prompts.texts), rng),
            "modality": MODALITIES.index(view.modality),
            "im_file": str(self.images[index].path),
        }

    def _guide(self, asked: NDArray[np.intp], total: int, rng: np.random.Generator) -> int:
        """Draw the expression that guides the neck, of the right ones ``asked`` or of all; -1 for all together."""
        if self.args.guide == "union":
            return -1
        if self.args.guide == "any" or not len(asked):
            return int(rng.integers(total))
        return int(asked[rng.integers(len(asked))])

    @staticmethod
    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack samples; objects of all images are concatenated, ``batch_idx`` [N] telling whose they are."""
        batch: dict[str, Any] = {k: torch.stack([s[k] for s in samples]) for k in ("img", "extent")}
        batch |= {k: torch.cat([s[k] for s in samples]) for k in ("bboxes", "cls", "targets")}
        batch |= {k: [s[k] for s in samples] for k in ("texts", "im_file")}
        batch |= {k: torch.tensor([s[k] for s in samples]) for k in ("guide", "modality")}
        counts = torch.tensor([len(s["cls"]) for s in samples])
        batch["batch_idx"] = torch.arange(len(samples)).repeat_interleave(counts).float()
        return batch


class EvaluationDataset(Dataset):
    """Images with every expression, as the validator asks them.

    Args:
        images: Annotated images.
        imgsz: Long side in the network.
    """

    def __init__(self, images: Sequence[ImageRecord], imgsz: int) -> None:
        self.images, self.imgsz = list(images), imgsz

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[int, Tensor, Tensor]:
        """Image number, canvas uint8 [3, H, W] RGB and extent [4]."""
        index = index if isinstance(index, int) else index[1]
        canvas, extent = letterbox(read_image(self.images[index].path), self.imgsz)
        return (
            index,
            torch.from_numpy(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))),
            torch.from_numpy(extent),
        )

    @staticmethod
    def collate(samples: list[tuple[int, Tensor, Tensor]]) -> list[tuple[list[int], Tensor, Tensor]]:
        """Group by canvas size: a batch for each, and no image's canvas depends on another image."""
        groups: dict[torch.Size, list[tuple[int, Tensor, Tensor]]] = {}
        for s in samples:
            groups.setdefault(s[1].shape, []).append(s)
        return [
            ([s[0] for s in g], torch.stack([s[1] for s in g]), torch.stack([s[2] for s in g])) for g in groups.values()
        ]
