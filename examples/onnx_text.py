"""Ground expressions with an export, without PyTorch: `python onnx_text.py best.onnx port.jpg "the ship at the top"`.

Needs onnxruntime, tokenizers, numpy, OpenCV and what `optisar export model=best.pt text_graph=True` wrote.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main(network: str, path: str, *expressions: str) -> None:
    """Print one line per expression: its box as x1 y1 x2 y2 in pixels of the image, and the confidence."""
    stem = network.removesuffix(".onnx")
    sessions = [onnxruntime.InferenceSession(f) for f in (network, f"{stem}-text.onnx")]
    meta, words = (json.loads(s.get_modelmeta().custom_metadata_map["optisar"]) for s in sessions)
    tokenizer, image = Tokenizer.from_file(f"{stem}-tokenizer.json"), cv2.imread(path)
    tokenizer.enable_truncation(words["max_tokens"])
    tokenizer.enable_padding(pad_id=words["pad"])
    ids = np.array([e.ids for e in tokenizer.encode_batch([" ".join(s.split()) for s in expressions])])
    text = sessions[1].run(["features"], {"ids": ids})[0]
    scale, stride = meta["imgsz"] / max(image.shape[:2]), meta["stride"]  # long side as in training
    h, w = (max(round(side * scale), 1) for side in image.shape[:2])
    top, left = (-h % stride // 2, -w % stride // 2)  # grey margins up to the next multiples of the stride
    canvas = np.full((h + -h % stride, w + -w % stride, 3), 114, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=how)
    images = np.ascontiguousarray(canvas[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255
    extent = np.array([[left, top, left + w, top + h]], np.float32) / np.float32(canvas.shape[1::-1] * 2)
    boxes, conf = sessions[0].run(["boxes", "conf"], {"images": images, "text": text[None], "extent": extent})
    shares = np.clip((boxes[0] - [left, top, left, top]) / [w, h, w, h], 0, 1)
    for box, c in zip(shares * np.tile(image.shape[1::-1], 2), conf[0], strict=True):
        print(*(f"{v:.2f}" for v in box), f"{c:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
