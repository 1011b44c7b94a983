"""Which images an epoch draws, and in which order: a function of (seed, epoch) alone; and the loader of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import MODALITIES
from optisar_yolo.data.records import ImageRecord


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, index) pairs that depend on (seed, epoch) alone, whatever was drawn before.

    The epoch is passed on with the index, so that the samples, too, depend on (seed, epoch, index) and not on the
    number of workers. Under DDP each rank takes its part: with shuffling padded to the same length, without shuffling
    a contiguous part of the order, so that no sample is drawn twice.

    With ``groups`` the samples of the groups alternate, so that an epoch, each rank's part and each batch hold as many
    of one as of the other (one more where the number is odd). An epoch stays as long as the data set: a group smaller
    than its share is repeated, and of a larger one each epoch draws another part. Within a group the numbers of draws
    differ by one at most.

    Args:
        n: Number of samples.
        seed: Of the run.
        rank: Of this process, -1 without DDP.
        world: Number of processes.
        shuffle: In training.
        groups: Indices of each group, to be drawn equally often; without them all samples are drawn once.

    Raises:
        ValueError: A group is empty, or groups are given without shuffling.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        rank: int = -1,
        world: int = 1,
        shuffle: bool = True,
        groups: Sequence[Sequence[int]] = (),
    ) -> None:
        if groups and not (shuffle and all(len(group) for group in groups)):
            raise ValueError("EpochSampler: groups need shuffle=True, and none of them may be empty")
        self.n, self.seed, self.shuffle = n, seed, shuffle
        self.groups = [np.asarray(group, dtype=np.int64) for group in groups]
        self.rank, self.world = max(rank, 0), max(world, 1)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return -(-self.n // self.world) if self.shuffle else len(self._part())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this rank's (epoch, index) pairs."""
        if not self.shuffle:
            for i in self._part():
                yield self.epoch, i
            return
        total = len(self) * self.world
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.groups:
            # Contiguous parts: every second sample of an alternating order may be of one group only.
            mine = self._alternating(total, rng)[self.rank * len(self) : (self.rank + 1) * len(self)]
        else:
            mine = np.resize(rng.permutation(self.n), total)[self.rank :: self.world]
        for i in mine:
            yield self.epoch, int(i)

    def _part(self) -> range:
        """Return this rank's part of the samples in order; lengths differ by one at most."""
        return range(self.n * self.rank // self.world, self.n * (self.rank + 1) // self.world)

    def _alternating(self, total: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw from the groups in turn, [total]; another group comes first, and may get one more, in every epoch."""
        order = np.empty(total, dtype=np.int64)
        for place in range(len(self.groups)):
            group = self.groups[(place + self.epoch) % len(self.groups)]
            slots = len(range(place, total, len(self.groups)))
            # Whole shuffled rounds, then a part of one: no image is drawn twice more often than another.
            rounds = [rng.permutation(group) for _ in range(-(-slots // len(group)))]
            order[place :: len(self.groups)] = np.concatenate(rounds or [group])[:slots]
        return order


class GroundingLoader(DataLoader):
    """A loader whose samples depend on (seed, epoch, index) alone, whatever the number of workers.

    Args:
        dataset: With a ``collate`` function.
        batch: Samples per batch, at most as many as there are.
        sampler: Of (epoch, index) pairs.
        workers: Processes.
        pin: Keep batches in page-locked memory, from which a GPU copies faster.
    """

    def __init__(self, dataset: Any, batch: int, sampler: EpochSampler, workers: int = 0, pin: bool = False) -> None:
        super().__init__(
            dataset,
            batch_size=min(batch, len(dataset)),
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,  # they keep decoded images
            collate_fn=dataset.collate,
            pin_memory=pin,
            generator=torch.Generator().manual_seed(sampler.seed),  # leaves the global one to the model's noise
        )

    def reset(self) -> None:
        """Do nothing: Ultralytics calls this when mosaic ends, which the data set reads from the epoch."""


def by_modality(images: Sequence[ImageRecord]) -> dict[str, list[int]]:
    """Return the indices of the images of each modality that they have: optical, SAR, then others by name."""
    present = {p.modality for p in images}
    order = [m for m in MODALITIES if m in present] + sorted(present.difference(MODALITIES))
    return {m: [i for i, p in enumerate(images) if p.modality == m] for m in order}


def modality_groups(images: Sequence[ImageRecord]) -> list[list[int]]:
    """Return the indices of the images of each modality as groups of an :class:`EpochSampler`.

    Args:
        images: Of the training split.

    Returns:
        One list per modality; no list, with a warning, where all images are of one modality.
    """
    groups = list(by_modality(images).values())
    if len(groups) > 1:
        return groups
    LOGGER.warning("balance=True: all training images are of one modality; they are shuffled as without it")
    return []


def choose_images(images: Sequence[ImageRecord], count: int, seed: int) -> list[int]:
    """Return the indices of some images, of all modalities in turn, in an order that depends on the seed."""
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(group).tolist() for group in by_modality(images).values()]
    longest = max(map(len, groups), default=0)
    return [group[k] for k in range(longest) for group in groups if k < len(group)][:count]
