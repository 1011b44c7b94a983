"""Batches of a data set, in training and in validation."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from optisar_yolo.data.sampler import EpochSampler


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
        """What ultralytics calls when mosaic ends: the data set sees that from the epoch."""
