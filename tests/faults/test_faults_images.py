"""Image files that are bombs, cut off, or something else, outside the service."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from apart import command, refused, run

KIND = "image files"


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A valid PNG of one colour: its rows are compressed zeros."""
    row = 1 + (width * depth * (3 if colour == 2 else 1) + 7) // 8
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(row * 64)) for _ in range(height // 64)) + packer.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), (b"IDAT", body), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        made += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return made


def tiff(path: Path, width: int, bands: int) -> None:
    """A valid TIFF whose blocks are not stored: all of them are zero."""
    rasterio = pytest.importorskip("rasterio")
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "compress": "deflate"}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=width, count=bands, dtype="uint16", **layout
    ) as file:
        file.set_band_description(1, "red")


@pytest.mark.fault(KIND, "small files that unfold into gigabytes (PNG, 1-bit PNG, TIFF)")
@pytest.mark.parametrize("kind", ["png", "png of 1 bit", "png beyond all limits", "tiff", "tiff of 3 bands"])
def test_bombs(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("bomb.tif" if "tiff" in kind else "bomb.png")
    if "tiff" in kind:
        tiff(path, 20_000, 3 if "3" in kind else 1)
    else:
        size = {"png": (16_384, 5_504), "png of 1 bit": (32_768, 32_000, 1, 0)}.get(kind, (640, 640, 8, 2))
        data = png(*size)
        if "beyond" in kind:  # its header says more than there is
            data = data.replace(struct.pack(">II", *size[:2]), struct.pack(">II", 2**31 - 1, 2**31 - 1))
        path.write_bytes(data)
    got = command(tmp_path, "predict", f"source={path}", "text=the ship", "imgsz=64")
    refused(got, path.name, grown=400)
    assert got.seconds < 30


GOOD = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))[1].tobytes()
BAD = {
    "empty": b"",
    "a header alone": GOOD[:40],
    "half": GOOD[: len(GOOD) // 2],
    "text": b"this is no image",
    "html": b"<!DOCTYPE html><html></html>",
    "a script": b"#!/bin/sh\ntouch harmed\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "zeros": bytes(1000),
    "a TIFF's first bytes": b"II*\0" + b"\xff" * 100,
    "a TIFF that refers to itself": b"II*\0\x08\0\0\0\x01\0\0\1\x03\0\1\0\0\0\x40\0\0\0\x08\0\0\0",
    "a virtual raster": b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand band="1"/></VRTDataset>',
}


def read_each(folder: str) -> int:
    """Read every file; each must be refused by name."""
    from optisar_yolo.data import DataError, read_image

    for path in sorted(Path(folder).glob("*.png")):
        try:
            read_image(path)
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error) and len(str(error)) < 600, error
        else:
            return 3
    return 0


@pytest.mark.fault(KIND, "files cut off, empty, or of something else")
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_files_that_are_no_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    got = run(read_each, str(tmp_path), folder=tmp_path)
    assert got.status == 0, (got.status, got.err[-1500:])
    assert not (tmp_path / "harmed").exists()


@pytest.mark.fault(KIND, "a bad file among good ones")
def test_a_bad_file_among_good_ones(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "ac":
        (folder / f"{name}.png").write_bytes(GOOD)
    (folder / "b.png").write_bytes(BAD["half"])
    words = [
        "predict",
        f"source={folder}",
        "text=the ship",
        "imgsz=64",
        "conf=0",
        "save_txt=True",
        f"project={tmp_path}/r",
    ]
    got = command(tmp_path, *words)
    assert got.status == 0 and "skipped: " in got.out and "b.png" in got.out, got.err[-1500:]
    assert {p.stem for p in (tmp_path / "r").rglob("*.txt")} == {"a", "c"}
