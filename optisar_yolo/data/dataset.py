"""From annotated images to training and validation samples.

A training sample is made in these steps:

1. Read the image with its boxes and captions (`GroundingDataset.annotated`).
2. Augment image, boxes and captions together, so that every caption stays true (`GroundingDataset.augment`).
3. Choose captions: the object's own, or, for a share ``describe`` of the objects, expressions derived from the boxes.
   Of what is left, sets get one ("the two ships on the left") with that probability, which means all their objects.
4. Draw the prompt list: T = 20 expressions with a target for each object, of positives, adversarial variants of them,
   in-image negatives and global negatives (`optisar_yolo.data.prompts`).
5. Draw the image on a square canvas of imgsz, and convert its boxes to shares of the canvas.
6. Leave targets out of the loss that the boxes cannot decide (`optisar_yolo.data.annotated`), and choose the
   expression that guides the neck.

A sample depends on (seed, epoch, index) alone, not on the number of workers or on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from optisar_yolo.data import augment
from optisar_yolo.data.annotated import AnnotatedImage, mask_uncertain_targets, with_sets
from optisar_yolo.data.compose import background, copy_paste, mosaic
from optisar_yolo.data.config import MODALITIES
from optisar_yolo.data.geometry import draw_on_canvas, letterbox, resized, to_canvas
from optisar_yolo.data.image_cache import ImageCache, reduced
from optisar_yolo.data.images import read_image
from optisar_yolo.data.prompts import PromptList, PromptSampler
from optisar_yolo.data.records import ImageRecord
from optisar_yolo.data.sampler import by_modality
from optisar_yolo.data.stretch import ImageRendering
from optisar_yolo.data.tiff import say_once
from optisar_yolo.data.unchecked import UncheckedSampler
from optisar_yolo.language import BUILT_IN, MODALITY_WORD, Vocabulary, describe, has_colour, parse

MODALITY_SAMPLE = 1000  # captions of which the share that names the modality is taken
SHAPE = 0.02  # difference of width to height that rounding to whole pixels makes in images of 50 and more


class GroundingDataset(Dataset):
    """Images with objects and expressions as training samples.

    Args:
        images: Annotated images.
        names: Category names by index.
        args: Settings: imgsz, seed, epochs; background, mosaic, close_mosaic, crop, copy_paste, rot90, fliplr, flipud,
            scale; cache, workers; rewrite, hsv_h, hsv_s, hsv_v, speckle, degrade; prompts, neg_ratio, reword, describe,
            categories, exclusive; negatives, swap_kinds, guide.
        augmented: Augment the images (training).
        vocabulary: The nouns of the data set; those of `names` are added.
        modalities: Each modality to the built-in one that it is augmented as; further ones of `images` are optical.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord],
        names: Sequence[str],
        args: Any,
        augmented: bool = True,
        vocabulary: Vocabulary = BUILT_IN,
        modalities: Mapping[str, str] | None = None,
    ) -> None:
        self.images, self.names, self.args, self.augmented = list(images), tuple(names), args, augmented
        self.modalities = dict(modalities or {m: m for m in MODALITIES})
        self.modalities |= {p.modality: "optical" for p in self.images if p.modality not in self.modalities}
        self.vocabulary = vocabulary.including(self.names)
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
                exclusive=args.exclusive,
                vocabulary=self.vocabulary,
            )
        else:
            self.prompts = UncheckedSampler(pool, args.prompts, args.neg_ratio, args.negatives == "released")
        self.by_modality = by_modality(self.images)
        self.modality_word = modality_word(self.images, self.vocabulary)
        self.cache = ImageCache(self.images, args.imgsz, getattr(args, "cache", None), getattr(args, "workers", 0))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Make the sample (epoch, index).

        Returns:
            img uint8 [3, H, W] RGB; extent [4], the image's place on the canvas (all of it for a mosaic); bboxes
            [N, 4] xywh as shares of the canvas; cls [N], the column of each object in targets; targets [N, T], 1 the
            expression means the object, 0 it does not, -1 left out of the loss (a row without a 1 is an object that no
            expression means); texts (T expressions); guide (index of the expression that guides the neck, -1 for all);
            modality (index in `modalities`); im_file.
        """
        epoch, index = key
        a = self.args
        rng = np.random.default_rng([a.seed, epoch, index])
        image = self.augment(epoch, index, rng) if self.augmented else self.annotated(index)
        prompts = self.prompts(self.captions(image, rng), image.boxes, image.names, image.size, rng, image.unlisted)
        if self.augmented:
            scale = 0.0 if image.fills_canvas else a.scale
            drawn, at = augment.zoom(a.imgsz, image.img.shape[0], image.img.shape[1], scale, rng)
            canvas, extent = draw_on_canvas(image.img, (a.imgsz, a.imgsz), drawn, at)
        else:
            canvas, extent = letterbox(image.img, a.imgsz, square=True)
        targets = mask_uncertain_targets(image, prompts.texts, prompts.targets)
        # An object that no expression means is still a box to regress: an expression that may mean it assigns anchors.
        own = np.where((targets == 1).any(1), (targets == 1).argmax(1), (targets != 0).argmax(1))
        positives = np.flatnonzero((targets == 1).any(0))
        shares = to_canvas(image.boxes, image.size, extent)
        xywh = np.concatenate(((shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]), 1)
        return {
            "img": _to_tensor(canvas),
            "extent": torch.from_numpy(extent),
            "bboxes": torch.from_numpy(xywh.astype(np.float32)).view(-1, 4),
            "cls": torch.from_numpy(own.astype(np.float32)).view(-1),
            "targets": torch.from_numpy(targets.astype(np.float32)),
            "texts": prompts.texts,
            "guide": self._guide(positives, len(prompts.texts), rng),
            "modality": list(self.modalities).index(image.modality),
            "im_file": str(self.images[index].path),
        }

    def load(self, index: int) -> NDArray[np.uint8]:
        """Return an image, BGR [h, w, 3], its long side reduced to imgsz; kept as ``cache`` says."""

        def decode() -> NDArray[np.uint8]:
            img = read_recorded(self.images[index])
            h, w = reduced(img.shape[0], img.shape[1], self.args.imgsz)
            # A longer side is reduced; a copy of the same size would take time.
            return img if (h, w) == img.shape[:2] else resized(img, (w, h), cv2.INTER_AREA)

        return self.cache.read(index, decode)

    def annotated(self, index: int) -> AnnotatedImage:
        """Return an image with its objects and captions as they are labelled."""
        record = self.images[index]
        return AnnotatedImage(
            img=self.load(index),
            boxes=record.boxes,
            names=tuple(self.names[c] for c in record.categories),
            captions=record.captions,
            size=(record.width, record.height),
            modality=record.modality,
            vocabulary=self.vocabulary,
            unlisted=record.unlisted,
            modality_word=self.modality_word,
        )

    def augment(self, epoch: int, index: int, rng: np.random.Generator) -> AnnotatedImage:
        """Augment an image, except for the zoom. A step that is off draws no random numbers."""
        a, alike = self.args, self.by_modality[self.images[index].modality]

        def another() -> AnnotatedImage:
            return self.annotated(alike[int(rng.integers(len(alike)))])

        if a.background and rng.random() < a.background:
            image = background(another, a.imgsz, rng) or self.annotated(index)
        elif a.mosaic and epoch < a.epochs - a.close_mosaic and rng.random() < a.mosaic:
            others = [self.annotated(alike[i]) for i in rng.integers(len(alike), size=3)]
            image = mosaic([self.annotated(index), *others], a.imgsz, rng, a.rewrite)
        elif a.crop and rng.random() < a.crop:
            image = augment.crop(self.annotated(index), rng, a.rewrite)
        else:
            image = self.annotated(index)
        if a.copy_paste and len(image.boxes) and rng.random() < a.copy_paste:
            image = copy_paste(image, another, rng, a.rewrite)
        if a.rot90 and rng.random() < a.rot90:
            image = augment.rotate(image, int(rng.integers(1, 4)), rng, a.rewrite)
        image = augment.mirror(image, rng.random() < a.fliplr, rng.random() < a.flipud, a.rewrite)
        img = augment.jitter_tone(image.img, a.hsv_v, rng)
        if img.shape[2] != 3:  # colours, haze and JPEG are of three bands
            return replace(image, img=img)
        like = self.modalities[image.modality]
        if like == "sar":
            img = augment.add_speckle(img, a.speckle, rng)
        elif not any(has_colour(c) for texts in image.captions for c in texts):
            img = augment.jitter_colour(img, a.hsv_h, a.hsv_s, rng)
        return replace(image, img=augment.degrade(img, a.degrade, rng, haze=like == "optical"))

    def captions(self, image: AnnotatedImage, rng: np.random.Generator) -> list[list[str]]:
        """Return the captions of each object: its own or, for a share of the objects, ones derived from the boxes."""
        if image.revalidated:
            return [list(texts) for texts in image.captions]
        chosen: list[list[str]] = []
        for i, texts in enumerate(image.captions):
            options = list(texts)
            if not image.remnant[i] and rng.random() < self.args.describe:
                options = describe(image.objects, i, rng, image.modality_word) or options
            chosen.append(options)
        if self.args.describe and rng.random() < self.args.describe:
            return [list(texts) for texts in with_sets(image, chosen, rng)]
        return chosen

    def _guide(self, positives: NDArray[np.intp], total: int, rng: np.random.Generator) -> int:
        """Draw the expression that guides the neck, of the positives or of all; -1 for all together."""
        if self.args.guide == "union":
            return -1
        if self.args.guide == "any" or not len(positives):
            return int(rng.integers(total))
        return int(positives[rng.integers(len(positives))])

    @staticmethod
    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack samples; objects of all images are concatenated, and ``batch_idx`` [N] is the image of each."""
        batch: dict[str, Any] = {k: torch.stack([s[k] for s in samples]) for k in ("img", "extent")}
        batch |= {k: torch.cat([s[k] for s in samples]) for k in ("bboxes", "cls", "targets")}
        batch |= {k: [s[k] for s in samples] for k in ("texts", "im_file")}
        batch |= {k: torch.tensor([s[k] for s in samples]) for k in ("guide", "modality")}
        counts = torch.tensor([len(s["cls"]) for s in samples])
        batch["batch_idx"] = torch.arange(len(samples)).repeat_interleave(counts).float()
        return batch


class EvaluationDataset(Dataset):
    """Images for the validator, which takes the expressions from the records.

    Args:
        images: Annotated images.
        imgsz: Long side in the network.
    """

    def __init__(self, images: Sequence[ImageRecord], imgsz: int) -> None:
        self.images, self.imgsz = list(images), imgsz

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[int, Tensor, Tensor]:
        """Return image number, canvas uint8 [3, H, W] RGB and extent [4]; an epoch before the index is ignored."""
        index = index if isinstance(index, int) else index[1]
        canvas, extent = letterbox(read_recorded(self.images[index]), self.imgsz)
        return index, _to_tensor(canvas), torch.from_numpy(extent)

    @staticmethod
    def collate(samples: list[tuple[int, Tensor, Tensor]]) -> list[tuple[list[int], Tensor, Tensor]]:
        """Group samples by canvas size into one batch each, so that no image's canvas depends on another image."""
        groups: dict[torch.Size, list[tuple[int, Tensor, Tensor]]] = {}
        for s in samples:
            groups.setdefault(s[1].shape, []).append(s)
        return [
            ([s[0] for s in g], torch.stack([s[1] for s in g]), torch.stack([s[2] for s in g])) for g in groups.values()
        ]


def read_recorded(record: ImageRecord) -> NDArray[np.uint8]:
    """Read the image of a record, [H, W, 3] BGR; one of another shape than its annotation says is named once."""
    img = read_image(record.path, ImageRendering(channels=record.channels))
    h, w = img.shape[:2]
    one, other = w * record.height, h * record.width
    if abs(one - other) > SHAPE * max(one, other):
        say_once(
            "images of another shape than their annotations say; boxes are stretched by it, and are wrong where the "
            "image was turned or cut",
            f"{record.path} is {w} x {h}, and not {record.width:.6g} x {record.height:.6g}",
        )
    return img


def modality_word(images: Sequence[ImageRecord], vocabulary: Vocabulary) -> float:
    """Return the share of the derived expressions that name the modality, as those of the data set do.

    It is that of the released expressions where the images are of two modalities. With one modality the word tells
    nothing apart, and only the data set's own captions are a reason for it.
    """
    if len({image.modality for image in images}) > 1:
        return MODALITY_WORD
    texts = [text for image in images for captions in image.captions for text in captions[:1]]
    texts = texts[:: len(texts) // MODALITY_SAMPLE + 1]
    return sum(parse(text, vocabulary).modality is not None for text in texts) / max(len(texts), 1)


def _to_tensor(canvas: NDArray[np.uint8]) -> Tensor:
    """Turn [H, W, 3] BGR into [3, H, W] RGB; other numbers of bands keep their order."""
    bands = cv2.split(canvas)  # several times faster than a copy of the transposed array
    return torch.from_numpy(np.stack(bands[::-1] if len(bands) == 3 else bands))
