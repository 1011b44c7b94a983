"""Images of every depth and channel count become uint8 BGR; what is no image is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasters
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from optisar_yolo.data.config import DataError
from optisar_yolo.data.images import read_image
from optisar_yolo.data.stretch import ImageRendering
from optisar_yolo.geo.options import RasterOptions
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.stretch import choose_stretch

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def check(image: np.ndarray, height: int = 12, width: int = 20) -> np.ndarray:
    assert image.dtype == np.uint8 and image.shape == (height, width, 3) and image.flags["C_CONTIGUOUS"]
    return image


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_file_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"ünïcode.{suffix}"), COLOURS)
    assert (check(read_image(tmp_path / f"ünïcode.{suffix}")) == COLOURS).all()
    assert (read_image(str(tmp_path / f"ünïcode.{suffix}")) == COLOURS).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_and_four_channels(tmp_path: Path, suffix: str) -> None:
    grey, alpha = COLOURS[..., 0], np.dstack([COLOURS, np.zeros_like(COLOURS[..., :1])])
    cv2.imwrite(str(tmp_path / f"grey.{suffix}"), grey)
    cv2.imwrite(str(tmp_path / f"alpha.{suffix}"), alpha)
    for source in (tmp_path / f"grey.{suffix}", grey, grey[..., None]):
        assert (check(read_image(source)) == grey[..., None]).all()
    for source in (tmp_path / f"alpha.{suffix}", alpha):  # full transparency hides nothing
        assert (check(read_image(source)) == COLOURS).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I", "I;16", "F"])
def test_pil_modes(mode: str) -> None:
    image = Image.fromarray(COLOURS[..., ::-1])
    if mode in ("I", "I;16", "F"):
        image = image.convert("L").convert("I")
    out = check(read_image(image.convert(mode)))
    if mode in ("RGB", "RGBA"):
        assert (out == COLOURS).all()
    if mode in ("I", "I;16", "F"):
        assert (out[..., 0] == np.asarray(Image.fromarray(COLOURS[..., ::-1]).convert("L"))).all()


def test_deep_images_are_stretched_by_percentiles(tmp_path: Path) -> None:
    ramp = np.linspace(300, 2300, 24_000).reshape(120, 200).astype(np.uint16)  # 12 of 16 bits, as sensors give
    ramp[0, 0] = 65535  # one bright reflector must not darken the rest
    cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    cv2.imwrite(str(tmp_path / "deep.tif"), ramp.astype(np.float32) - 1000)
    for source in (tmp_path / "deep.png", tmp_path / "deep.tif", ramp, ramp.astype(np.int32)):
        out = check(read_image(source), 120, 200)[..., 0].astype(int)
        assert out.min() == 0 and out.max() == 255 and 110 < np.median(out) < 145
        assert (np.diff(out.ravel()[1:]) >= 0).all()


def test_bands_and_stretch_are_chosen_as_for_rasters(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(300, 9000, (5, 40, 60)).astype(np.uint16)
    rasters.write(tmp_path / "a.tif", deep, photometric="MINISBLACK")
    with pytest.raises(DataError, match=r"TIFF of 5 bands .* bands=4,3,2"):
        read_image(tmp_path / "a.tif")
    for options in (
        {"bands": (4, 3, 2)}, {"bands": (5,)}, {"bands": (1, 2, 3), "stretch": "percentile"},
        {"bands": (2,), "stretch": "db-percentile"}, {"bands": (3, 3, 1), "stretch": "none"},
    ):  # fmt: skip
        shown = read_image(tmp_path / "a.tif", ImageRendering(**options))
        with Raster(tmp_path / "a.tif") as raster:
            assert (shown[..., ::-1] == choose_stretch(raster, RasterOptions(**options))[1]).all()
    array = deep.transpose(1, 2, 0)
    assert (
        read_image(array, ImageRendering((4, 3, 2))) == read_image(tmp_path / "a.tif", ImageRendering((4, 3, 2)))
    ).all()
    with pytest.raises(ValueError, match="has 5 bands"):
        read_image(tmp_path / "a.tif", ImageRendering((6,)))


@pytest.mark.parametrize("kind", ["grey uint16", "grey float", "float dB", "three equal", "two", "colours", "power"])
def test_an_image_and_a_raster_of_the_same_file_are_the_same(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(2)
    grey = rng.gamma(1.0, 0.05, (90, 70))
    grey[::9, ::7] = 30
    colours = rng.integers(200, 4000, (3, 90, 70)).astype(np.uint16)
    values = {
        "grey uint16": colours[:1], "grey float": colours[:1].astype(np.float32), "power": grey[None],
        "float dB": 10 * np.log10(grey)[None].astype(np.float32), "three equal": np.stack([colours[0]] * 3),
        "two": colours[:2], "colours": colours,
    }[kind]  # fmt: skip
    rasters.write(tmp_path / "a.tif", values)
    with Raster(tmp_path / "a.tif") as raster:
        shown = choose_stretch(raster, RasterOptions())[1]
    assert (read_image(tmp_path / "a.tif")[..., ::-1] == shown).all()


def test_what_was_chosen_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optisar_yolo.data.tiff._SAID", set())
    monkeypatch.setattr("ultralytics.utils.LOGGER.propagate", True)
    for k in range(3):
        rasters.write(
            tmp_path / f"{k}.tif", np.random.default_rng(k).integers(300, 9000, (1, 40, 60)).astype(np.uint16)
        )
        read_image(tmp_path / f"{k}.tif")
    (line,) = set(caplog.messages)
    assert (
        "1 band uint16, looks optical, grey; band 1 is shown as grey; stretched between percentiles 2 and 99.99" in line
    )
    assert "set bands= or stretch= to change this" in line and "0.tif" in line


def test_deep_type_with_eight_bit_values_keeps_them() -> None:
    for dtype in (np.uint16, np.int32, np.int64, np.float32, np.float64):
        assert (read_image(COLOURS.astype(dtype)) == COLOURS).all()


def test_unit_floats_and_booleans() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        assert np.abs(read_image((COLOURS / 255).astype(dtype)).astype(int) - COLOURS).max() <= 1
    assert (read_image(COLOURS > 99) == (COLOURS > 99) * 255).all()


def test_nan_and_infinity_are_darkest() -> None:
    image = np.linspace(-40, 10, 240).reshape(12, 20)  # decibels
    image[3, 4], image[3, 5], image[3, 6] = np.nan, np.inf, -np.inf
    out = check(read_image(image))
    assert (out[3, 4:7] == 0).all() and out.max() == 255


def test_constant_image_of_unknown_scale_is_grey() -> None:
    assert (read_image(np.full((12, 20), 5000, np.uint16)) == 128).all()


def test_array_is_copied() -> None:
    image = COLOURS.copy()
    read_image(image)[:] = 0
    assert (image == COLOURS).all()


@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.int16, np.int32, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_numbers_give_an_image_or_a_named_error(image: np.ndarray) -> None:
    if np.isfinite(image.astype(np.float64)).any():
        check(read_image(image), *image.shape)
    else:
        with pytest.raises(DataError, match="without a finite value"):
            read_image(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 12, 20), np.uint8), "move the channels last"),
        (np.zeros((12, 20, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((12,), np.uint8), "shape"),
        (np.zeros((0, 20, 3), np.uint8), "shape"),
        (np.zeros((12, 20), np.complex64), "type complex64"),
        (np.full((12, 20), np.nan, np.float32), "finite"),
    ],
)
def test_bad_array(image: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(image)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "zero bytes"), (b"no image at all", "not an image"), (b"II*\0broken", "not an image")],
)
def test_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_image(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_image(path)
        assert str(path) in str(caught.value)
