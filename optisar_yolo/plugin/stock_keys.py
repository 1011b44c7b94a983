"""Ultralytics' configuration keys: what each one does for our models, by mode.

A key is heeded, has no effect (which is said by name when it is set), or is refused. One that is heeded in other modes
alone is said to belong to these. `tests/plugin/test_stock_keys.py` holds every key of Ultralytics to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from optisar_yolo.plugin.settings import SETTINGS

_ALWAYS = frozenset("task mode model cfg device verbose".split())
_RUN = frozenset("project name exist_ok".split())
_DRAWN = "show save save_frames save_txt save_conf save_crop show_labels show_conf show_boxes line_width".split()
_PREDICT = _ALWAYS | _RUN | {*_DRAWN, *"source conf iou max_det classes batch imgsz quantize augment".split()}
_PREDICT |= frozenset("vid_stride stream_buffer compile channels_last".split())

HEEDED: Mapping[str, frozenset[str]] = {
    "train": _ALWAYS
    | _RUN
    | frozenset(
        "data epochs time patience batch imgsz save save_period cache workers pretrained optimizer seed deterministic "
        "cos_lr close_mosaic resume amp fraction freeze multi_scale channels_last val split save_json plots lr0 lrf "
        "momentum weight_decay warmup_epochs warmup_momentum warmup_bias_lr box cls dfl nbs hsv_h hsv_s hsv_v scale "
        "flipud fliplr mosaic copy_paste".split()
    ),
    "val": _ALWAYS
    | _RUN
    | frozenset("data split imgsz batch workers fraction seed save_json plots quantize conf".split()),
    "predict": _PREDICT,
    "track": _PREDICT | {"tracker"},
    "export": _ALWAYS | frozenset("format imgsz opset quantize data fraction seed".split()),
    "benchmark": _ALWAYS | frozenset("format data imgsz fraction quantize".split()),
}
"""Keys that have their meaning, by mode."""

_CAPTIONS = "captions would no longer be true; rot90=, crop=, scale=, fliplr= and flipud= rewrite them"
_SIZES = "sizes and counts are free in an export"
_ONE_BOX = "each expression is scored by its best box"
_SHAPES = "each image has the smallest canvas that it fits"
_OTHER_TASKS = dict.fromkeys("pose kobj rle angle dlog dgrad dlam".split(), "it is of other tasks") | dict.fromkeys(
    ("overlap_mask", "mask_ratio", "retina_masks"), "there are no masks"
)
_CLASSIFY = dict.fromkeys(("dropout", "auto_augment", "erasing"), "it is of classification")
_BOXES = {
    "agnostic_nms": "boxes of different expressions are never duplicates of each other",
    "nms": "duplicates are always removed; iou= sets the overlap",
    "dnn": "exports run in ONNX Runtime, OpenVINO or TorchScript",
}

NO_EFFECT: Mapping[str, Mapping[str, str]] = {
    "train": {
        **_OTHER_TASKS,
        **_CLASSIFY,
        **dict.fromkeys("degrees translate shear perspective".split(), _CAPTIONS),
        **dict.fromkeys(("mixup", "cutmix"), "captions would mean two images; mosaic= and copy_paste= rewrite them"),
        "bgr": "captions name colours; hsv_h= changes those of other images",
        "copy_paste_mode": "objects are always pasted from another image",
        "rect": "canvases are square in training",
        "single_cls": "objects are told apart by their expressions, not by classes",
        "classes": "expressions are learned, not classes; leave images out of the data set",
        "cls_remap": "there is no output per class",
        "cls_pw": "expressions have no frequencies of classes",
        "dis": "it is the gain of distill_model=, which is not available",
        **dict.fromkeys(("conf", "iou", "max_det"), f"in validation, {_ONE_BOX}"),
    },
    "val": {
        **_BOXES,
        "nms": _ONE_BOX,
        **_OTHER_TASKS,
        **dict.fromkeys(("iou", "max_det"), _ONE_BOX),
        "rect": _SHAPES,
        "single_cls": "objects are told apart by their expressions, not by classes",
        "classes": "expressions are scored, not classes; the table has a row per category",
        "augment": "validation is without mirrored views; `predict` has them",
        "visualize": "plots=True draws the best, worst and confident cases, `optisar explain` score maps",
        "save_txt": "save_json=True writes the boxes",
        "save_conf": "save_json=True writes boxes with confidences",
        "compile": "rows of the network depend on the expressions",
        "channels_last": "it is heeded in training and prediction",
        "cache": "images are read once",
    },
    "predict": {
        **_BOXES,
        **_OTHER_TASKS,
        "visualize": "`optisar explain` draws score and activation maps",
        "rect": _SHAPES,
        "dynamic": _SHAPES,
        "single_cls": "boxes belong to expressions, not to classes",
    },
    "export": {
        **dict.fromkeys(("batch", "dynamic"), _SIZES),
        **dict.fromkeys(("optimize", "workspace"), "it is of formats that are not written here"),
        "simplify": "graphs are written as they are, and compared with PyTorch",
        **dict.fromkeys(sorted(_RUN), "files are written beside the weights, or here for packaged ones"),
        **dict.fromkeys(("conf", "iou", "max_det", "agnostic_nms"), "an export gives the best boxes of an expression"),
    },
    "benchmark": {
        "batch": "formats are compared with one image at a time",
        **dict.fromkeys(sorted(_RUN), "its files are removed at its end"),
        **dict.fromkeys(
            ("opset", "simplify", "dynamic", "optimize", "workspace", "nms"), "every format has its default"
        ),
    },
}
"""Keys that mean nothing, by mode, with the reason."""

REFUSED: Mapping[str, Mapping[str, str]] = {
    "train": {
        "compile": "rows of the network depend on the expressions; leave it out",
        "distill_model": "grounding has no distillation of networks; leave it out, or start from weights with model=",
        "quantize": "amp= sets the precision of a training; `optisar export format=openvino int8=True` writes 8 bits",
        "profile": "`optisar benchmark` times the weights in every format",
    },
    "val": {},
    "predict": {"embed": "use model.encode(image), which keeps the features of an image"},
    "export": {"nms": "an export gives the best box of an expression, or with topk= the best few; leave nms out"},
    "benchmark": {},
}
"""Keys that are an error when they are set, by mode, with what to do instead."""

_FORMER = {"half": "quantize", "int8": "quantize", "end2end": "nms"}
"""Keys that Ultralytics takes for others."""


def meaning_of(key: str, mode: str) -> tuple[str, str]:
    """Tell what a key of Ultralytics does in a mode.

    Args:
        key: The key.
        mode: Ultralytics' mode.

    Returns:
        "heeded", "no effect", "refused", "elsewhere" (heeded in other modes) or "unknown" (to this version), and the
        reason or the other modes.
    """
    of = "predict" if mode == "track" else mode
    if key in HEEDED[mode]:
        return "heeded", ""
    if key in REFUSED[of]:
        return "refused", REFUSED[of][key]
    if key in NO_EFFECT[of]:
        return "no effect", NO_EFFECT[of][key]
    modes = [m for m, keys in HEEDED.items() if key in keys]
    if modes:
        return "elsewhere", ", ".join(modes)
    if any(key in keys for table in (NO_EFFECT, REFUSED) for keys in table.values()):
        return "elsewhere", "other models"
    return "unknown", ""


def set_keys(given: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return Ultralytics' keys that are set to something else than their default: as written, as meant, value."""
    found = []
    for written, value in given.items():
        key = _FORMER.get(written, written)
        if key not in DEFAULT_CFG_DICT or key in SETTINGS or value is None or value == DEFAULT_CFG_DICT[key]:
            continue
        if key == "quantize" and (value is False or str(value).lower() in ("32", "fp32")):
            continue
        found.append((written, key, value))
    return found


def refuse(mode: str, given: Mapping[str, Any]) -> None:
    """Refuse keys that cannot be met.

    Args:
        mode: Ultralytics' mode.
        given: What the caller set.

    Raises:
        ValueError: One of them is set.
    """
    task = given.get("task")
    if task not in (None, "detect"):
        raise ValueError(f"task={task} is not available: OptiSAR models have Ultralytics' task 'detect'; leave it out")
    for written, key, value in set_keys(given):
        kind, reason = meaning_of(key, mode)
        if kind == "refused" and value not in (False, [], ""):
            raise ValueError(f"{written}={value} is not supported: {reason}")


def name_ignored(mode: str, given: Mapping[str, Any]) -> None:
    """Refuse keys that cannot be met, and say which keys have no effect.

    Args:
        mode: Ultralytics' mode.
        given: What the caller set.

    Raises:
        ValueError: A key that is refused.
    """
    refuse(mode, given)
    elsewhere: dict[str, list[str]] = {}
    for written, key, value in set_keys(given):
        kind, reason = meaning_of(key, mode)
        if kind == "heeded":
            reason = _reason_of_value(written, key, value, mode, given)
        if kind == "elsewhere":
            elsewhere.setdefault(reason, []).append(f"{written}={value}")
        elif kind == "unknown":
            LOGGER.warning(f"'{written}={value}' may have no effect: this version does not know the key")
        elif reason and kind != "refused":
            LOGGER.warning(f"'{written}={value}' has no effect: {reason}")
    for modes, keys in elsewhere.items():
        LOGGER.warning(f"no effect in {mode}: {_listed(keys)} ({'of' if modes == 'other models' else 'for'} {modes})")


def _reason_of_value(written: str, key: str, value: Any, mode: str, given: Mapping[str, Any]) -> str:
    """Return why a value of a key that is heeded has no effect; "" where it has one."""
    if key == "conf" and mode == "val" and not (given.get("sensitivity") or given.get("matches")):
        return "it is the threshold of sensitivity=True and matches=True, and of expressions that are absent"
    if key == "quantize" and mode in ("val", "predict", "track"):
        if written == "int8" or str(value).lower() not in ("16", "fp16", "true"):
            return "8 bits are those of an export: `optisar export format=openvino int8=True`"
        import torch

        if str(given.get("device")) == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            return "half precision is for GPUs; a CPU computes in 32 bits"
    return ""


def _listed(keys: Iterable[str], most: int = 6) -> str:
    listed = list(keys)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
