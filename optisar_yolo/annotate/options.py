"""Options of zero-shot annotation. They are also arguments of ``optisar annotate``."""

from __future__ import annotations

from dataclasses import dataclass

from optisar_yolo.utils import check_options, option


@dataclass(frozen=True)
class AnnotateOptions:
    """How images are annotated. The fields are listed by ``optisar annotate --help``.

    Raises:
        SettingError: A value out of range.
    """

    conf: float | None = option(
        None, "float", "confidence threshold; the calibrated one by default", low=0, high=1, example="0.6"
    )
    iou: float = option(0.5, "float", "IoU above which two boxes are the same object", low=0, high=1)
    topk: int = option(5, "int", "boxes per caption and image at most", low=1)
    max_det: int = option(300, "int", "boxes per image at most", low=1)
    verify: str = option(
        "drop",
        "name",
        "captions that the boxes contradict are dropped, stripped of their place and superlative, or kept (off)",
        choices=("drop", "strip", "off"),
    )
    unique: bool = option(False, "bool", "give a caption to one box of an image only")
    reword: float = option(0.0, "float", "share of the captions that are written in other words", low=0, high=1)
    modality: str | None = option(
        None,
        "name",
        "modality of all images; by default by the prefix of the name, else by the captions",
        choices=("optical", "sar"),
        example="sar",
    )
    imgsz: int | None = option(None, "int", "long side of images; that of training by default", low=32, example="640")
    engine: str = option(
        "auto", "name", "what runs the network on a CPU, as in predict", choices=("auto", "torch", "onnx", "openvino")
    )

    def __post_init__(self) -> None:
        check_options(self)
