"""From annotated pictures to training and validation samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from optisar_yolo import language
from optisar_yolo.data import augment
from optisar_yolo.data.geometry import letterbox, place, to_canvas
from optisar_yolo.data.pixels import read_image
from optisar_yolo.data.prompts import PromptList, PromptSampler
from optisar_yolo.data.records import Picture
from optisar_yolo.data.unchecked import UncheckedSampler

CACHE_LIMIT = 4 * 2**30  # bytes of decoded pictures that one process keeps


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, index) pairs: reproducible from (seed, epoch), whatever was drawn before.

    The epoch travels with the index so that the samples, too, depend on (seed, epoch, index) alone and not on the
    number of
    workers. Under DDP each rank takes its slice, padded so that all have the same length.

    Args:
        n: Number of samples.
        seed: Of the run.
        rank: Of this process, -1 without DDP.
        world: Number of processes.
        shuffle: In training.
    """

    def __init__(self, n: int, seed: int, rank: int = -1, world: int = 1, shuffle: bool = True) -> None:
        self.n, self.seed, self.shuffle = n, seed, shuffle
        self.rank, self.world = max(rank, 0), max(world, 1)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this rank."""
        return -(-self.n // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this rank's (epoch, index) pairs."""
        order = (
            np.random.default_rng([self.seed, self.epoch]).permutation(self.n) if self.shuffle else np.arange(self.n)
        )
        order = np.resize(order, len(self) * self.world)
        for i in order[self.rank :: self.world]:
            yield self.epoch, int(i)


class GroundingDataset(Dataset):
    """Pictures with objects and expressions as training samples.

    Args:
        pictures: Annotated pictures.
        names: Category names by index.
        args: Settings: imgsz, seed, fliplr, flipud, scale, hsv_v, prompts, neg_ratio, reword, describe.
        augmented: Draw augmentation (training).
    """

    def __init__(self, pictures: Sequence[Picture], names: Sequence[str], args: Any, augmented: bool = True) -> None:
        self.pictures, self.names, self.args, self.augmented = list(pictures), tuple(names), args, augmented
        pool = [c for p in self.pictures for texts in p.captions for c in texts]
        self.prompts: Callable[..., PromptList]
        if args.negatives == "proven":
            self.prompts = PromptSampler(pool, total=args.prompts, neg_ratio=args.neg_ratio, reword_share=args.reword)
        else:
            self.prompts = UncheckedSampler(pool, args.prompts, args.neg_ratio, args.negatives == "released")
        self.cache: dict[int, NDArray[np.uint8]] = {}
        self.cached = 0

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def load(self, index: int) -> NDArray[np.uint8]:
        """Read a picture, BGR [h, w, 3], its long side reduced to imgsz; small sets stay in memory."""
        if index in self.cache:
            return self.cache[index]
        img = read_image(self.pictures[index].path)
        r = self.args.imgsz / max(img.shape[:2])
        if r < 1:
            h, w = (max(round(s * r), 1) for s in img.shape[:2])
            img = cv2.resize(img, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        if self.cached + img.nbytes <= CACHE_LIMIT:
            self.cache[index] = img
            self.cached += img.nbytes
        return img

    def captions(
        self, picture: Picture, captions: tuple[tuple[str, ...], ...], boxes: NDArray[np.float32], rng: Any
    ) -> list[list[str]]:
        """What may be said of each object: its own expressions or, for a share of them, ones derived from boxes."""
        size = (picture.width, picture.height)
        names = [self.names[c] for c in picture.categories]
        scene = language.Scene(boxes, names, size)
        chosen: list[list[str]] = []
        for i, texts in enumerate(captions):
            options = list(texts)
            if rng.random() < self.args.describe:
                options = scene.describe(i, rng) or options
            chosen.append(options)
        return chosen

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Build the sample (epoch, index).

        Returns:
            img uint8 [3, H, W] RGB; extent [4]; bboxes [N, 4] xywh and cls [N], targets [N, T] (see the loss); texts (T
            sentences); guide (the sentence that guides the neck); im_file.
        """
        epoch, index = key
        a, picture = self.args, self.pictures[index]
        rng = np.random.default_rng([a.seed, epoch, index])
        img = self.load(index)
        boxes, captions = picture.boxes, picture.captions
        size = (picture.width, picture.height)
        if self.augmented:
            img, boxes, captions = augment.flip(
                img, boxes, captions, size, rng.random() < a.fliplr, rng.random() < a.flipud
            )
            img = augment.light(img, a.hsv_v, rng)
        names = [self.names[c] for c in picture.categories]
        prompts = self.prompts(self.captions(picture, captions, boxes, rng), boxes, names, size, rng)
        if self.augmented:
            drawn, at = augment.zoom(a.imgsz, img.shape[0], img.shape[1], a.scale, rng)
            canvas, extent = place(img, (a.imgsz, a.imgsz), drawn, at)
        else:
            canvas, extent = letterbox(img, a.imgsz, square=True)
        targets = prompts.targets
        own = (targets == 1).argmax(1)
        asked = np.flatnonzero((targets == 1).any(0))
        shares = to_canvas(boxes, size, extent)
        xywh = np.concatenate(((shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]), 1)
        return {
            "img": torch.from_numpy(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))),
            "extent": torch.from_numpy(extent),
            "bboxes": torch.from_numpy(xywh.astype(np.float32)).view(-1, 4),
            "cls": torch.from_numpy(own.astype(np.float32)).view(-1),
            "targets": torch.from_numpy(targets.astype(np.float32)),
            "texts": prompts.texts,
            "guide": self._guide(asked, len(prompts.texts), rng),
            "im_file": str(picture.path),
        }

    def _guide(self, asked: NDArray[np.intp], total: int, rng: np.random.Generator) -> int:
        """Draw the sentence that guides the neck, of the right ones ``asked`` or of all; -1 for all together."""
        if self.args.guide == "union":
            return -1
        if self.args.guide == "any" or not len(asked):
            return int(rng.integers(total))
        return int(asked[rng.integers(len(asked))])

    @staticmethod
    def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack samples; objects of all pictures are concatenated, ``batch_idx`` [N] telling whose they are."""
        batch: dict[str, Any] = {k: torch.stack([s[k] for s in samples]) for k in ("img", "extent")}
        batch |= {k: torch.cat([s[k] for s in samples]) for k in ("bboxes", "cls", "targets")}
        batch |= {k: [s[k] for s in samples] for k in ("texts", "im_file")}
        batch["guide"] = torch.tensor([s["guide"] for s in samples])
        counts = torch.tensor([len(s["cls"]) for s in samples])
        batch["batch_idx"] = torch.arange(len(samples)).repeat_interleave(counts).float()
        return batch


class EvaluationDataset(Dataset):
    """Pictures with every expression, as the validator asks them.

    Args:
        pictures: Annotated pictures.
        imgsz: Long side in the network.
    """

    def __init__(self, pictures: Sequence[Picture], imgsz: int) -> None:
        self.pictures, self.imgsz = list(pictures), imgsz

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[int, Tensor, Tensor]:
        """Picture number, canvas uint8 [3, H, W] RGB and extent [4]."""
        index = index if isinstance(index, int) else index[1]
        canvas, extent = letterbox(read_image(self.pictures[index].path), self.imgsz)
        return (
            index,
            torch.from_numpy(np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))),
            torch.from_numpy(extent),
        )

    @staticmethod
    def collate(samples: list[tuple[int, Tensor, Tensor]]) -> list[tuple[list[int], Tensor, Tensor]]:
        """Group by canvas size: a batch for each, and no picture's canvas depends on another picture."""
        groups: dict[torch.Size, list[tuple[int, Tensor, Tensor]]] = {}
        for s in samples:
            groups.setdefault(s[1].shape, []).append(s)
        return [
            ([s[0] for s in g], torch.stack([s[1] for s in g]), torch.stack([s[2] for s in g])) for g in groups.values()
        ]
