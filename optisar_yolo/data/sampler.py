"""Which images an epoch draws, and in which order: a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import MODALITIES
from optisar_yolo.data.records import ImageRecord


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, index) pairs: reproducible from (seed, epoch), whatever was drawn before.

    The epoch travels with the index so that the samples, too, depend on (seed, epoch, index) alone and not on the
    number of workers. Under DDP each rank takes its slice: in training padded, so that all have the same length, and
    without shuffling a stretch of the order, so that no sample is drawn twice and the ranks' stretches make the whole.

    With ``sides`` the images of the sides alternate, so that an epoch, each rank's slice of it and each batch hold
    as many of one as of the other (one more where the number is odd). An epoch stays as long as the set, and costs
    the same: a side smaller than its share is repeated, a larger one shows a new part of itself every epoch. Each
    image of a side is drawn equally often, give or take once.

    Args:
        n: Number of samples.
        seed: Of the run.
        rank: Of this process, -1 without DDP.
        world: Number of processes.
        shuffle: In training.
        sides: Indices of each side, to be drawn equally often; without them all samples are drawn once.

    Raises:
        ValueError: A side is empty, or sides are given without shuffling.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        rank: int = -1,
        world: int = 1,
        shuffle: bool = True,
        sides: Sequence[Sequence[int]] = (),
    ) -> None:
        if sides and not (shuffle and all(len(side) for side in sides)):
            raise ValueError("EpochSampler: sides are drawn in training only, and none of them may be empty")
        self.n, self.seed, self.shuffle = n, seed, shuffle
        self.sides = [np.asarray(side, dtype=np.int64) for side in sides]
        self.rank, self.world = max(rank, 0), max(world, 1)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this rank."""
        return -(-self.n // self.world) if self.shuffle else len(self._stretch())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this rank's (epoch, index) pairs."""
        if not self.shuffle:
            for i in self._stretch():
                yield self.epoch, i
            return
        total = len(self) * self.world
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.sides:
            # Contiguous slices: of an alternating order, every second sample may be of one side only.
            mine = self._alternating(total, rng)[self.rank * len(self) : (self.rank + 1) * len(self)]
        else:
            mine = np.resize(rng.permutation(self.n), total)[self.rank :: self.world]
        for i in mine:
            yield self.epoch, int(i)

    def _stretch(self) -> range:
        """This rank's part of the samples in order; parts differ by one sample at most."""
        return range(self.n * self.rank // self.world, self.n * (self.rank + 1) // self.world)

    def _alternating(self, total: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the sides in turn, [total]; the side that comes first, and may get one more, changes every epoch."""
        order = np.empty(total, dtype=np.int64)
        for place in range(len(self.sides)):
            side = self.sides[(place + self.epoch) % len(self.sides)]
            slots = len(range(place, total, len(self.sides)))
            # Whole shuffled rounds, then a part of one: no image is drawn twice more often than another.
            rounds = [rng.permutation(side) for _ in range(-(-slots // len(side)))]
            order[place :: len(self.sides)] = np.concatenate(rounds or [side])[:slots]
        return order


def by_modality(images: Sequence[ImageRecord]) -> dict[str, list[int]]:
    """Indices of the optical and of the SAR images."""
    return {m: [i for i, p in enumerate(images) if p.modality == m] for m in MODALITIES}


def modality_sides(images: Sequence[ImageRecord]) -> list[list[int]]:
    """Indices of the optical and of the SAR images, for :class:`EpochSampler`.

    Args:
        images: Of the training split.

    Returns:
        One list per modality; none at all, with a warning, where the images are of one modality only.
    """
    sides = list(by_modality(images).values())
    if all(sides):
        return sides
    LOGGER.warning("balance=True: all training images are of one modality; they are shuffled as without it")
    return []
