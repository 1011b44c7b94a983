"""What is checked before a training begins: its settings, the weights it starts from, and that its folder is free."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from optisar_yolo.data import check_mode, load_dataset_config
from optisar_yolo.engine.start import open_start
from optisar_yolo.nn import GroundingModel, match_weights
from optisar_yolo.plugin import refuse
from optisar_yolo.utils import locked


def check_given(given: Mapping[str, Any]) -> None:
    """Check what a training was given, before its folder is made.

    Raises:
        ValueError: No dataset config or one that cannot be used, a batch size that is found by trying, or no way to
            keep images.
    """
    check_batch(given)
    refuse("train", given)
    check_mode(given.get("cache"))
    if given.get("data") is not None and not given.get("resume"):
        load_dataset_config(given["data"])


def check_batch(given: Mapping[str, Any]) -> None:
    """Check the batch size that a training, validation or prediction was given.

    Raises:
        ValueError: None, or one that is found by trying.
    """
    batch = given.get("batch")
    if batch is None:
        return
    if isinstance(batch, bool) or not isinstance(batch, int | float) or batch < 1 or batch != int(batch):
        raise ValueError(
            f"batch={batch} is not supported: batch sizes are not found by trying here, since memory depends on the "
            "expressions too; give a whole number, such as batch=16, and halve it where memory is short"
        )


def check_start(model: Any, start: nn.Module, origin: str) -> None:
    """Check that weights fit the network of ``model=``, before the run folder is made.

    Raises:
        TransferError: They do not.
    """
    if isinstance(model, str | Path) and str(model).endswith((".pt", ".safetensors")):
        description = getattr(open_start(model), "yaml", None)
    else:
        description = model
    if description:
        match_weights(GroundingModel(description, verbose=False), start, origin)


class FolderLock:
    """Keeps a second training out of a run folder, until it is released or the process ends.

    Args:
        folder: The run folder.

    Raises:
        ValueError: Another training writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self._held = ExitStack()
        self.path = folder / ".training.lock"
        if self._held.enter_context(locked(self.path, wait=False)) is None:
            self._held.close()
            raise ValueError(
                f"{folder}: another training writes to this run folder; wait for its end, or give another name= "
                "(without exist_ok=True, each run gets a folder of its own)"
            )

    def release(self) -> None:
        """Let others train in the folder."""
        self.path.unlink(missing_ok=True)
        self._held.close()
