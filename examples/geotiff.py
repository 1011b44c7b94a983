"""Ground expressions in a georeferenced raster, and get coordinates (needs the extra `geo`).

The raster is a small GeoTIFF made of rendered images.
"""

import json

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin

from optisar_yolo import OptiSAR
from optisar_yolo.geo import ground_raster
from optisar_yolo.synthetic import render_image

TEXTS = ["the largest airplane", "the ship in the north-west", "the easternmost baseball diamond"]


def main() -> None:
    """Write ``scene.tif``, ground expressions in it, print coordinates; the folder ``scene`` gets GeoJSON and a map."""
    numbers = (2, 0, 4, 8, 22, 10)  # of the test split, three beside each other in two rows
    images = [cv2.resize(render_image(seed=0, split="test", number=n)["img"], (400, 320)) for n in numbers]
    bands = np.vstack([np.hstack(images[:3]), np.hstack(images[3:])])[..., ::-1].transpose(2, 0, 1)  # red, green, blue
    where = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 1, 1)}  # 1 m a pixel, north is up
    count, height, width = bands.shape
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open("scene.tif", "w", **shape, **where) as file:
        file.write(bands)

    model = OptiSAR("optisar++n-pocket.safetensors")
    result = ground_raster(model, "scene.tif", TEXTS, project=".", name="scene", exist_ok=True)
    found = json.loads((result.folder / "objects.geojson").read_text(encoding="utf-8"))
    for feature in found["features"]:
        lon, lat = np.mean(feature["geometry"]["coordinates"][0][:4], axis=0)
        about = feature["properties"]
        print(f"{about['sentence']}: {lat:.6f} N {lon:.6f} E, confidence {about['confidence']:.2f}")
    print(f"GeoJSON, table, images and a map are in {result.folder}")


if __name__ == "__main__":
    main()
