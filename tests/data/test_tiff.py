"""TIFF files of every layout, depth and compression are read as what they show, or refused as what they are."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from optisar_yolo.construction.image_files import image_size
from optisar_yolo.data import DataError, decode_image, read_image, tiff

X, Y = np.meshgrid(np.arange(96), np.arange(64))
GREY = (X * 2 + Y).clip(0, 255).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
GEO = {"crs": "EPSG:32633", "transform": from_origin(5e5, 4e6, 10, 10)}


def write(path: Path, bands: np.ndarray, **profile: Any) -> Path:
    bands = bands[None] if bands.ndim == 2 else bands
    table, colours = profile.pop("table", None), profile.pop("colours", None)
    about = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype} | profile
    with rasterio.open(path, "w", driver="GTiff", **about) as file:
        if colours:
            file.colorinterp = colours
        file.write(bands)
        if table:
            file.write_colormap(1, table)
    return path


def alike(path: Path, shown: np.ndarray, within: int = 0) -> None:
    """Check that a file and its content are read as RGB [3, h, w]."""
    for image in (read_image(path), decode_image(path.read_bytes(), "image")):
        assert image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"] and image.shape == (*shown.shape[1:], 3)
        assert np.abs(image[..., ::-1].transpose(2, 0, 1).astype(int) - shown).max() <= within
    assert image_size(path) == (shown.shape[2], shown.shape[1])


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_SAID", set())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(tiff.LOGGER, "warning", lines.append)
    return lines


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_layouts_and_depths(tmp_path: Path, interleave: str, tiled: bool, kind: str, count: int) -> None:
    blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32} if tiled else {}
    bands = np.concatenate([RGB, RGB])[:count].astype(kind)
    path = write(tmp_path / "a.tif", bands, interleave=interleave, photometric="MINISBLACK", **blocks)
    alike(path, RGB if count > 2 else np.stack([GREY] * 3))


@pytest.mark.parametrize(
    "profile",
    [
        {"compress": "zstd"}, {"compress": "lerc"}, {"compress": "lzw", "predictor": 2},
        {"compress": "deflate", "predictor": 3, "dtype": "float32"}, {"compress": "packbits"}, {"BIGTIFF": "YES"},
        {"BIGTIFF": "YES", "ENDIANNESS": "BIG", "dtype": "uint16"}, {"ENDIANNESS": "BIG", "dtype": "uint16"},
        {"compress": "webp", "WEBP_LOSSLESS": "YES"}, {"nbits": 12, "dtype": "uint16"}, {"dtype": "int64"}, GEO,
    ],
    ids=str,
)  # fmt: skip
def test_compressions_and_containers(tmp_path: Path, profile: dict[str, Any]) -> None:
    alike(write(tmp_path / "a.tif", RGB.astype(profile.get("dtype", "uint8")), **profile), RGB)


def test_jpeg_in_tiff(tmp_path: Path) -> None:
    smooth = np.stack([GREY // 2] * 3)
    alike(write(tmp_path / "a.tif", smooth, compress="jpeg", photometric="YCBCR", JPEG_QUALITY=95), smooth, 12)


@pytest.mark.parametrize("kind, top", [("uint8", 255), ("uint16", 65535)])
def test_zero_is_white(tmp_path: Path, kind: str, top: int) -> None:
    stored = (top - GREY.astype(int)).astype(kind)
    alike(write(tmp_path / "a.tif", stored, photometric="MINISWHITE"), np.stack([GREY] * 3))


def test_one_and_four_bits(tmp_path: Path) -> None:
    light = (GREY > 99).astype(np.uint8)
    for photometric, stored in (("MINISBLACK", light), ("MINISWHITE", 1 - light)):
        path = write(tmp_path / f"{photometric}.tif", stored, nbits=1, photometric=photometric)
        alike(path, np.stack([light * 255] * 3))
    alike(write(tmp_path / "4.tif", GREY // 16, nbits=4), np.stack([GREY // 16 * 17] * 3))


def test_colour_table(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(256)
    table = {int(order[k]): (k, 255 - k, k // 2, 255) for k in range(256)}
    path = write(tmp_path / "a.tif", order[GREY].astype(np.uint8), photometric="palette", table=table)
    alike(path, np.stack([GREY, 255 - GREY, GREY // 2]))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBA", "LA", "P", "L", "1"])
def test_colour_models_of_other_tools(tmp_path: Path, mode: str) -> None:
    grey = np.where(GREY > 99, 255, 0).astype(np.uint8) if mode == "1" else GREY
    image = Image.fromarray(grey).convert("RGB").convert(mode)
    image.save(tmp_path / "a.tif")
    alike(tmp_path / "a.tif", np.asarray(image.convert("RGB")).transpose(2, 0, 1), 1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path: Path, turn: int) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=_exif(turn))
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo={274: turn})
    shown = read_image(tmp_path / "a.png").transpose(2, 0, 1)
    alike(tmp_path / "a.tif", shown)


def _exif(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = turn
    return exif


def test_named_colours_and_alpha_of_deep_files(tmp_path: Path) -> None:
    order = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined, ColorInterp.undefined]
    bands = np.concatenate([RGB[::-1], RGB[:2]])
    alike(write(tmp_path / "a.tif", bands, photometric="MINISBLACK", colours=order), RGB)
    alpha = np.where(X < 48, 0, 65535).astype(np.uint16)
    deep = np.concatenate([np.where(X < 48, 60000, RGB.astype(np.uint16) * 16), alpha[None]]).astype(np.uint16)
    image = read_image(write(tmp_path / "b.tif", deep, photometric="RGB", ALPHA="YES"))
    assert (image[:, :48] == 0).all() and image[:, 48:].max() == 255


@pytest.mark.parametrize(
    "kind, fill, about",
    [
        ("float32", -9999, {}), ("float32", -9999, {"nodata": -9999}), ("int16", -32768, {}),
        ("int16", -32768, {"nodata": -32768}), ("uint16", 65535, {"nodata": 65535}), ("uint16", 0, {"nodata": 0}),
        ("float32", np.finfo(np.float32).min, {}), ("float32", np.finfo(np.float32).max, {}),
        ("float64", -1.7e308, {}), ("float32", np.nan, {}), ("float32", np.inf, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 3])
def test_no_data_has_no_part_in_the_stretch(
    tmp_path: Path, kind: str, fill: float, about: dict, count: int, said: list[str]
) -> None:
    values = (RGB[:count].astype(float) * 16 + (300 if kind == "uint16" else -20)).astype(kind)
    plain = read_image(write(tmp_path / "plain.tif", values[..., 30:]))
    said.clear()
    values[..., :30] = fill
    image = read_image(write(tmp_path / "a.tif", values, **about))
    assert (image[:, :30] == 0).all() and (image[:, 30:] == plain).all()
    named = [line for line in said if "far from all others" in line]
    assert len(named) == (not about and np.isfinite(fill))
    if named:
        assert "a.tif" in named[0] and f"{fill:g}" in named[0]


def test_own_values_are_no_fill(tmp_path: Path, said: list[str]) -> None:
    heights = np.linspace(-9999, 9999, GREY.size).reshape(GREY.shape).astype(np.int16)
    dark = np.where(GREY < 20, -999, GREY.astype(np.float32) * 40 - 900).astype(np.float32)
    for values in (heights, dark):
        read_image(write(tmp_path / "a.tif", values))
    assert not [line for line in said if "far from all others" in line]


def test_nodata_and_masks_of_eight_bits_are_dark(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.tif", np.where(X < 30, 255, GREY // 2).astype(np.uint8), nodata=255))
    assert (image[:, :30] == 0).all() and (image[:, 30:, 0] == GREY[:, 30:] // 2).all()


def test_what_is_chosen_is_said_once(tmp_path: Path, said: list[str]) -> None:
    for name in "ab":
        read_image(write(tmp_path / f"{name}.tif", RGB[:2]))
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    alike(tmp_path / "pages.tif", np.stack([GREY] * 3))
    assert len(said) == 2 and "two bands" in said[0] and "a.tif: band 1" in said[0]
    assert "only the first is read" in said[1] and "has 2" in said[1]


@pytest.mark.parametrize(
    "bands, profile, words",
    [
        (np.concatenate([RGB] * 3).astype(np.uint16), {}, "9 bands of uint16 .* bands=4,3,2"),
        (GREY.astype(np.complex64), {}, "complex values .* amplitude"),
        (np.full_like(GREY, 7, np.uint16), {"nodata": 7}, "all of it is nodata"),
    ],
)
def test_refused_as_what_it_is(tmp_path: Path, bands: np.ndarray, profile: dict, words: str) -> None:
    with pytest.raises(DataError, match=f"a.tif: .*{words}"):
        read_image(write(tmp_path / "a.tif", bands, photometric="MINISBLACK", **profile))


def test_lab_is_refused_or_right(tmp_path: Path) -> None:
    Image.fromarray(np.stack([GREY, GREY * 0, GREY * 0], -1), "LAB").save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"L\*a\*b\*"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_damaged_file_is_named(tmp_path: Path, share: float, kind: str) -> None:
    content = write(tmp_path / "a.tif", RGB.astype(kind), compress="lzw").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="a.tif: .*copy it again"):
        read_image(tmp_path / "a.tif")


def test_no_header_breaks_the_orientation() -> None:
    for content in (b"", b"II*\0", b"II*\0" + struct.pack("<I", 8) + b"\xff\xff", b"MM\0+" + b"\xff" * 40):
        assert tiff.orientation(content) == 1


def test_opencv_says_nothing_about_geotiffs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alike(write(tmp_path / "a.tif", RGB, **GEO), RGB)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fill", "kind", "found"),
    [
        (65535, "uint16", True), (0, "uint16", True), (0, "int16", True), (0, "float32", True), (1e20, "float32", True),
        (1e16, "float32", True), (255, "uint8", False), (0, "uint8", False),
    ],
)  # fmt: skip
def test_fills_that_are_also_values_are_found_where_they_are_many(fill: float, kind: str, found: bool) -> None:
    values = np.random.default_rng(0).integers(90, 200, (1, 60, 50)).astype(kind)
    values = values * 10 if kind != "uint8" else values
    valid = np.ones((60, 50), bool)
    values[0, 3, 4] = fill
    if fill in (0, 65535):
        assert tiff.undeclared_fill(values, valid) is None  # one dark or saturated pixel
    values[0, :6] = fill
    assert (tiff.undeclared_fill(values, valid) is not None) == found
    mask = np.where(values == values.dtype.type(fill), values.dtype.type(fill), values.dtype.type(7))
    if fill in (0, 65535):
        assert tiff.undeclared_fill(mask, valid) is None
