"""Options of a batch. They are also the arguments of ``optisar batch``."""

from __future__ import annotations

from dataclasses import dataclass

from optisar_yolo.utils import SettingError, check_options, option


class BatchError(ValueError):
    """A batch that cannot be run; the message names the file, the row and the remedy."""


@dataclass(frozen=True)
class BatchOptions:
    """How a table is grounded. The fields are listed by ``optisar batch --help``.

    Raises:
        SettingError: A value out of range.
    """

    workers: int = option(2, "int", "processes that hold a model each", low=1)
    cpus: int = option(
        0, "int", "cores of a worker; 0: this machine's divided by the workers, or 1 on a cluster", low=0
    )  # fmt: skip
    batch: int = option(8, "int", "images that a worker encodes together", low=1)
    conf: float | None = option(
        None, "float", "confidence threshold; the calibrated one by default", low=0, high=1, example="0.5"
    )
    topk: int = option(1, "int", "boxes per expression", low=1)
    rasters: bool = option(
        False, "bool", "the images are rasters of any size: each is searched in tiles, as by `optisar scene`"
    )  # fmt: skip
    gsd: float | None = option(
        None, "float", "with rasters: metres per pixel of the network; those of the file by default", low=0.001
    )  # fmt: skip
    imgsz: int | None = option(
        None, "int", "long side of images; chosen by the image by default", low=32, example="640"
    )
    device: str | None = option(None, "name", "as in Ultralytics; GPUs where there are any", example="cpu")
    engine: str = option(
        "auto", "name", "what runs the network on a CPU, as in predict", choices=("auto", "torch", "onnx", "openvino")
    )
    address: str | None = option(
        None, "name", "Ray cluster to join; by default Ray runs on this machine", example="auto"
    )  # fmt: skip
    text_weights: str | None = option(None, "file", "weights of the text encoder, where it does not bring its own")

    def __post_init__(self) -> None:
        check_options(self)
        if self.gsd is not None and not self.rasters:
            raise SettingError("gsd= is for rasters: give rasters=True, or leave it out")
