"""Which export formats and options there are, and why the others are not."""

from __future__ import annotations

from typing import Any

SUPPORTED = ("onnx", "openvino", "torchscript")
_CONVERT = "convert the file of format=onnx with its own tools"
_VENDOR = f"needs its maker's compiler and device, where an export could not be compared with PyTorch; {_CONVERT}"
_TENSORFLOW = (
    "needs TensorFlow and a converter, which this package neither installs nor checks; use format=onnx, which ONNX "
    "Runtime also runs on phones and in browsers"
)
_FIXED = (
    "is compiled for fixed sizes, and the number of expressions and the size of images are free here; use format=onnx, "
    "which ONNX Runtime also runs on phones"
)
REFUSED = {
    "engine": f"TensorRT builds for the one GPU model it runs on; {_CONVERT} (trtexec --onnx=… with shape ranges)",
    "coreml": f"Core ML runs, and can be compared with PyTorch, on Apple's systems alone; {_CONVERT} (coremltools)",
    "coreai": "Apple Core AI runs, and can be compared with PyTorch, on Apple's systems alone; use format=onnx",
    "saved_model": f"a SavedModel {_TENSORFLOW}",
    "pb": f"a GraphDef {_TENSORFLOW}",
    "tflite": f"TensorFlow Lite {_TENSORFLOW}",
    "tfjs": f"TensorFlow.js {_TENSORFLOW}",
    "edgetpu": f"the Edge TPU {_FIXED}",
    "litert": f"LiteRT {_FIXED}",
    "executorch": f"ExecuTorch {_FIXED}",
    "paddle": f"PaddlePaddle needs a converter that this package neither installs nor checks; {_CONVERT} (x2paddle)",
    "mnn": f"MNN needs a converter that this package neither installs nor checks; {_CONVERT} (MNNConvert)",
    "ncnn": "ncnn needs a converter that this package neither installs nor checks; use format=onnx or format=openvino",
    "imx": f"Sony's IMX500 {_VENDOR}",
    "rknn": f"Rockchip's RKNN {_VENDOR}",
    "axelera": f"Axelera {_VENDOR}",
    "deepx": f"DEEPX {_VENDOR}",
    "qnn": f"Qualcomm's QNN {_VENDOR}",
    "hailo": f"Hailo {_VENDOR}",
    "ascend": f"Huawei's Ascend {_VENDOR}",
    "xilinx": f"AMD's Xilinx {_VENDOR}",
}
"""Ultralytics' other formats, and the reason against each."""


def check_options(args: Any) -> str:
    """Refuse what an export cannot do, before any work is done.

    Args:
        args: Ultralytics' configuration of an export, and our keys.

    Returns:
        The format.

    Raises:
        ValueError: A format that is not written, or options that exclude each other; the message says why.
    """
    name = str(args.format).lower()
    if name not in SUPPORTED:
        reason = REFUSED.get(name, "no such format")
        raise ValueError(f"format={args.format} is not supported: {reason}. Formats here: {', '.join(SUPPORTED)}")
    if args.nms:
        raise ValueError("nms=True is not supported: an export gives one box per expression, so leave nms out")
    if args.quantize == 8:
        if name != "openvino":
            raise ValueError(
                f"int8 is not supported with format={name}: 8 bits are written and checked with format=openvino alone"
            )
        if not args.data:
            raise ValueError(
                "int8 needs data=<dataset config>: the ranges of 8-bit numbers are measured on images and expressions like those "
                "that will be asked; give the dataset config that the model was trained on"
            )
        if args.parts:
            raise ValueError("int8 with parts=True is not supported: leave one of them out")
    elif args.quantize not in (None, 32, "32", "fp32"):
        raise ValueError(
            f"quantize={args.quantize} is not supported: an export has 32 bits, or with format=openvino 8 (int8=True)"
        )
    if args.text is not None and args.parts:
        raise ValueError("text= with parts=True makes no sense: fixed expressions leave nothing to ask; leave one out")
    return name
