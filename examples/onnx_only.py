"""Run an exported network with onnxruntime, numpy and OpenCV: `python onnx_only.py best.onnx port.jpg ship.npy`.

`ship.npy` holds features of expressions, float32 [T, D], made once on a machine with optisar-yolo:
    from optisar_yolo.text import load_text_encoder
    numpy.save("ship.npy", load_text_encoder("pocket").encode(["the SAR ship in the upper left"]).numpy())
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def main(network: str, path: str, features: str) -> None:
    """Print one line per expression: its box as x1 y1 x2 y2 in pixels of the image, and the confidence."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    meta = json.loads(session.get_modelmeta().custom_metadata_map["optisar"])
    text, image = np.load(features).astype(np.float32), cv2.imread(path)
    if image is None or text.ndim != 2 or text.shape[1] != meta["text_dim"]:
        sys.exit(f"need an image and features [T, {meta['text_dim']}] of the encoder {meta['text_model']}")
    # Fit the image on a grey canvas: long side as in training, height and width multiples of the stride.
    scale = meta["imgsz"] / max(image.shape[:2])
    h, w = (max(round(side * scale), 1) for side in image.shape[:2])
    height, width = (-(-side // meta["stride"]) * meta["stride"] for side in (h, w))
    top, left = (height - h) // 2, (width - w) // 2
    canvas = np.full((height, width, 3), 114, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=how)
    images = np.ascontiguousarray(canvas[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255
    extent = np.array([[left / width, top / height, (left + w) / width, (top + h) / height]], np.float32)
    boxes, conf = session.run(["boxes", "conf"], {"images": images, "text": text[None], "extent": extent})
    shares = np.clip((boxes[0] - [left, top, left, top]) / [w, h, w, h], 0, 1)
    for box, c in zip(shares * np.tile(image.shape[1::-1], 2), conf[0], strict=True):
        print(*(f"{v:.2f}" for v in box), f"{c:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
