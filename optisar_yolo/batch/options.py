"""The options of a batch, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass


class BatchError(ValueError):
    """A batch that cannot be run; the message names the file, the row and the remedy."""


@dataclass(frozen=True)
class BatchOptions:
    """How a table is asked.

    Attributes:
        workers: Processes that hold a model each.
        cpus: CPU cores of a worker; 0: this machine's divided by the workers, or 1 each on a cluster.
        batch: Images that a worker holds and encodes together.
        conf: Least confidence of an answer; None for the threshold of the model's calibration.
        topk: Boxes per expression.
        imgsz: Long side of images in the network; None for that of training.
        device: As Ultralytics writes it: ``"cpu"``, ``"0"``, ``"0,1"``; None: GPUs where there are any.
        address: Ray cluster to join (``"auto"``, ``"host:6379"``, ``"ray://host:10001"``); None: Ray is started on this
            machine and ended again, unless the process has a Ray session already.
        text_weights: Weights of the text encoder, where it does not bring its own.
    """

    workers: int = 2
    cpus: int = 0
    batch: int = 8
    conf: float | None = None
    topk: int = 1
    imgsz: int | None = None
    device: str | None = None
    address: str | None = None
    text_weights: str | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            BatchError: A value out of range.
        """
        for key, low in (("workers", 1), ("cpus", 0), ("batch", 1), ("topk", 1), ("imgsz", 32)):
            value = getattr(self, key)
            if value is not None and value < low:
                raise BatchError(f"'{key}={value}' is not valid: it must be a whole number of at least {low}")
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise BatchError(f"'conf={self.conf}' is not valid: it must be a number from 0 to 1")
