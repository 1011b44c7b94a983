"""Makes answers.png, the figure of the README, from what the bundled weights find: ``python docs/make_picture.py``.

Three panels: a rendered optical image, a rendered SAR image, and a small georeferenced raster of six rendered images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from optisar_yolo import OptiSAR
from optisar_yolo.geo import ground_raster
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL
from optisar_yolo.visualize import draw_predictions

FIGURE = Path(__file__).parent / "answers.png"
HEIGHT, GAP = 420, 14  # pixels
OPTICAL = [
    "the airplane closest to the top of the image",
    "the airplane in the lower left corner of the image",
    "the small vehicle in the upper left corner of the image",
    "the SAR ship",
]
SAR = ["the largest ship", "the leftmost ship", "the SAR ship in the upper left", "the tennis court"]
RASTER = ["the largest airplane", "the ship in the north-west", "the easternmost baseball diamond"]


def grounded(model: OptiSAR, number: int, texts: list[str]) -> Image.Image:
    """Ground expressions in a rendered image, and draw them."""
    image = render_image(seed=0, split="test", number=number)["img"]
    return model.encode(image).ground(texts).plot(pil=True)  # type: ignore[return-value]


def raster(model: OptiSAR, texts: list[str]) -> Image.Image:
    """Ground expressions in a raster of six rendered images, and draw them."""
    images = [cv2.resize(render_image(0, "test", n)["img"], (400, 320)) for n in (2, 0, 4, 8, 22, 10)]
    mosaic = np.vstack([np.hstack(images[:3]), np.hstack(images[3:])])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "port.tif")
        height, width = mosaic.shape[:2]
        place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 1, 1)}
        with rasterio.open(
            file, "w", driver="GTiff", count=3, height=height, width=width, dtype="uint8", **place
        ) as out:
            out.write(mosaic[..., ::-1].transpose(2, 0, 1))
        result = ground_raster(model, str(file), texts, project=folder, name="scene", map=False)
        boxes = np.concatenate([np.asarray(result.of(i), float).reshape(-1, 6) for i in range(len(texts))])
    return draw_predictions(mosaic, boxes, dict(enumerate(texts)))


def beside(panels: list[Image.Image]) -> Image.Image:
    """Put drawings beside each other, scaled to one height."""
    scaled = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT), Image.Resampling.LANCZOS) for p in panels]
    out = Image.new("RGB", (sum(p.width for p in scaled) + GAP * (len(scaled) - 1), HEIGHT), "white")
    x = 0
    for panel in scaled:
        out.paste(panel, (x, 0))
        x += panel.width + GAP
    return out


def main() -> None:
    """Write the figure."""
    model = OptiSAR(BUNDLED_MODEL)
    beside([grounded(model, 0, OPTICAL), grounded(model, 9, SAR), raster(model, RASTER)]).save(FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
