"""Bands, depths and nodata; every automatic choice is reported and the same for all tiles."""

import numpy as np
import pytest
import rasters
from rasterio.enums import ColorInterp

from optisar_yolo.data.config import DataError
from optisar_yolo.geo.options import RasterOptions
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.stretch import DB_RANGE, choose_stretch

RNG = np.random.default_rng(1)
UNNAMED = {"photometric": "MINISBLACK"}  # bands without colours
SPECKLE = RNG.gamma(1.0, 0.05, (120, 160)).astype(np.float32) + 1e-4  # single-look power
SPECKLE.flat[::960] = 15  # bright targets, 25 dB above it


def settle(path, **options):
    options = RasterOptions(**options)
    with Raster(path, options.nodata) as raster:
        return choose_stretch(raster, options)


def optical(bands, dtype, top):
    """Return bands that differ, as colours do."""
    base = RNG.integers(top // 8, top // 2, (120, 160))
    return np.stack([(base * (1 + 0.1 * k)).astype(dtype) for k in range(bands)])


@pytest.mark.parametrize(
    "bands, profile, modality, preset, shown, words",
    [
        (SPECKLE[None], {}, "sar", "db-percentile", (1, 1, 1), ("1 band float32", "looks like SAR", "converted to dB")),
        (
            np.stack([SPECKLE, SPECKLE / 4]),
            {"names": ("Sigma0_VV", "Sigma0_VH")},
            "sar",
            "db-percentile",
            (1, 1, 1),
            ("2 bands", "SAR by its band names (VV, VH)", "band 1 (VV) is shown as grey"),
        ),
        (10 * np.log10(SPECKLE)[None], {}, "sar", "percentile", (1, 1, 1), ("SAR in dB", "percentiles 2 and 99.99")),
        ((SPECKLE * 4000).astype(np.uint16)[None], {}, "sar", "db-percentile", (1, 1, 1), ("uint16", "SAR amplitude")),
        (optical(1, np.uint16, 2000), {}, "optical", "percentile", (1, 1, 1), ("looks optical, grey",)),
        (optical(3, np.uint8, 200), {}, "optical", "none", (1, 2, 3), ("uint8, looks optical", "as they are")),
        (optical(4, np.uint16, 10000), UNNAMED, "optical", "percentile", (1, 2, 3), ("4 bands",)),
        (optical(5, np.float32, 1000), UNNAMED, "optical", "percentile", (1, 2, 3), ("5 bands",)),
        (optical(3, np.int16, 3000) - 500, UNNAMED, "optical", "percentile", (1, 2, 3), ("int16",)),
    ],
    ids=["float", "VV VH", "dB", "uint16 SAR", "uint16 grey", "uint8", "4 bands", "5 bands", "int16"],
)  # fmt: skip
def test_automatic_choices_are_reported(tmp_path, bands, profile, modality, preset, shown, words):
    made, image = settle(rasters.write(tmp_path / "a.tif", bands, **rasters.UTM, **profile))
    assert (made.modality, made.preset, made.bands) == (modality, preset, shown)
    assert all(w in made.summary for w in (*words, "set modality=, bands= or stretch= to change this"))
    assert image.shape == (120, 160, 3) and image.dtype == np.uint8
    if preset == "none":
        assert (image == bands.transpose(1, 2, 0)).all()
    else:  # ships are the brightest pixels of SAR, which are not clipped
        grey = modality == "sar" or len(set(shown)) == 1
        assert (0.01 < (image == 0).mean() < 0.05) if grey else (0 < (image == 0).mean() < 0.1)
        assert (0 < (image == 255).mean() < 0.005) if grey else (0 < (image == 255).mean() < 0.1)
        assert len(made.record()["limits"]) == 3


def test_colours_are_taken_by_name_and_alpha_hides(tmp_path):
    pixels = optical(4, np.uint8, 200)
    pixels[3] = 255
    pixels[3, :, :80] = 0
    order = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha]
    path = rasters.write(tmp_path / "a.tif", pixels, colours=order, **rasters.UTM)
    made, image = settle(path)
    assert made.bands == (3, 2, 1) and "3 bands" in made.summary
    assert (image[:, :80] == 0).all() and (image[:, 80:] == pixels[2::-1, :, 80:].transpose(1, 2, 0)).all()


def test_presets_agree_with_their_formulas(tmp_path):
    path = rasters.write(tmp_path / "a.tif", SPECKLE, **rasters.UTM)
    decibels = 10 * np.log10(SPECKLE.astype(np.float64))
    for options, low, high, values in (
        ({"stretch": "db"}, *DB_RANGE, decibels),
        ({"stretch": "db-percentile"}, *np.percentile(decibels, (2, 99.99)), decibels),
        ({"stretch": "percentile", "percentiles": (5.0, 90.0)}, *np.percentile(SPECKLE, (5, 90)), SPECKLE),
        ({"stretch": "db", "limits": (-30.0, -5.0)}, -30, -5, decibels),
    ):
        made, image = settle(path, **options)
        expected = ((values - low) / (high - low) * 255).clip(0, 255)
        assert np.abs(image[..., 0] - expected).max() <= 0.51
        assert made.limits[0] == pytest.approx((low, high), rel=1e-5)


def test_whole_numbers_by_table_equal_floats_by_formula(tmp_path):
    image = (SPECKLE * 4000).astype(np.uint16)
    results = [
        settle(rasters.write(tmp_path / f"{kind}.tif", image.astype(kind), **rasters.UTM), stretch="db-percentile")[1]
        for kind in ("uint16", "float32")
    ]
    assert (results[0] == results[1]).all()


def test_nodata_is_left_out_of_the_statistics_and_dark(tmp_path):
    pixels = SPECKLE.copy()
    pixels[:, :60] = -9999
    clean, _ = settle(rasters.write(tmp_path / "b.tif", SPECKLE[:, 60:].copy(), **rasters.UTM))
    for name, about, given in (("declared", {"nodata": -9999}, None), ("given", {}, -9999.0)):
        path = rasters.write(tmp_path / f"{name}.tif", pixels, **rasters.UTM, **about)
        made, image = settle(path, nodata=given)
        assert made.limits == clean.limits
        assert (image[:, :60] == 0).all()


def test_nan_is_no_data(tmp_path):
    pixels = SPECKLE.copy()
    pixels[40:60] = np.nan
    made, image = settle(rasters.write(tmp_path / "a.tif", pixels, **rasters.UTM))
    assert np.isfinite(made.limits).all() and (image[40:60] == 0).all()
    with pytest.raises(DataError, match="no valid pixel"):
        settle(rasters.write(tmp_path / "b.tif", np.full((50, 50), np.nan, np.float32), **rasters.UTM))


def test_given_choices_are_taken(tmp_path):
    path = rasters.write(tmp_path / "a.tif", optical(5, np.uint16, 9000), photometric="MINISBLACK", **rasters.UTM)
    made, _ = settle(path, bands=(5, 3, 2), modality="sar", stretch="percentile")
    assert made.bands == (5, 3, 2) and made.modality == "sar" and "SAR as given" in made.summary
    assert settle(path, bands=(4,))[0].bands == (4, 4, 4)
    for options in ({"bands": (6,)}, {"bands": (1, 2)}, {"stretch": "gamma"}, {"modality": "lidar"},
                    {"percentiles": (9.0, 2.0)}, {"limits": (3.0, 3.0)}):  # fmt: skip
        with pytest.raises(ValueError, match="not valid"):
            settle(path, **options)


def test_windows_equal_the_whole_and_are_all_that_is_read(tmp_path):
    image = rasters.ground(700, 500)
    with Raster(rasters.write(tmp_path / "a.tif", image, **rasters.UTM)) as raster:
        values, valid = raster.read([1], (100, 50, 320, 200), (320, 200))
        assert (values[0] == image[50:250, 100:420]).all() and valid.all()
        halved, _ = raster.read([1], (100, 50, 320, 200), (160, 100))
        mean = image[50:250, 100:420].reshape(100, 2, 160, 2).mean((1, 3))
        assert np.abs(halved[0] - mean).max() <= 1


@pytest.mark.parametrize(
    "content, words", [(b"", "zero bytes"), (b"II*\0 and no more", "can be opened"), (None, "no such")]
)
def test_what_is_no_raster_is_named(tmp_path, content, words):
    path = tmp_path / "a.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        Raster(path)
    assert "a.tif" in str(error.value)


def test_a_file_cut_off_is_named_with_the_place(tmp_path):
    path = rasters.write(tmp_path / "a.tif", rasters.ground(900, 900), tiled=False, **rasters.UTM)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="a.tif: not a raster that can be (read at|opened)"), Raster(path) as raster:
        raster.read([1], (0, 700, 900, 200), (900, 200))


def test_complex_values_are_refused(tmp_path):
    path = rasters.write(tmp_path / "a.tif", np.ones((64, 64), np.complex64), **rasters.UTM)
    with pytest.raises(DataError, match="amplitude"):
        Raster(path)


def test_a_colour_table_is_applied_before_pixels_are_averaged(tmp_path):
    grey = rasters.ground(160, 120)
    order = np.random.default_rng(0).permutation(256).astype(np.uint8)
    path = tmp_path / "a.tif"
    rasters.write(path, order[grey], photometric="palette", **rasters.UTM)
    with rasters.rasterio.open(path, "r+") as file:
        file.write_colormap(1, {int(order[k]): (k, 255 - k, k // 2, 255) for k in range(256)})
    made, image = settle(path)
    assert made.bands == (1, 2, 3) and made.preset == "none" and "colour table" in made.summary
    assert (image == np.dstack([grey, 255 - grey, grey // 2])).all()
    with Raster(path) as raster:
        for size, shown in (((80, 60), grey.reshape(60, 2, 80, 2).mean((1, 3))), ((160, 120), grey)):
            values, valid = raster.read([1, 2, 3], (0, 0, 160, 120), size)
            assert values.shape == (3, size[1], size[0]) and valid.all()
            assert np.abs(values[0] - shown).max() <= 1 and np.abs(values[1] - (255 - shown)).max() <= 1
    assert settle(path, bands=(3, 2, 1))[0].bands == (3, 2, 1)


@pytest.mark.parametrize("fill", [-9999, np.finfo(np.float32).min, -32768])
def test_fill_that_is_not_declared_is_left_out_and_named(tmp_path, fill):
    decibels = 10 * np.log10(SPECKLE)
    filled = decibels.copy()
    filled[:, :60] = fill
    clean, _ = settle(rasters.write(tmp_path / "b.tif", decibels[:, 60:].copy(), **rasters.UTM))
    made, image = settle(rasters.write(tmp_path / "a.tif", filled, **rasters.UTM))
    assert made.limits == clean.limits and (image[:, :60] == 0).all()
    assert f"37.5% of the pixels are {fill:g}" in made.summary


def test_zero_is_white_and_few_bits(tmp_path):
    grey = rasters.ground(160, 120)
    _, image = settle(rasters.write(tmp_path / "a.tif", 255 - grey, photometric="MINISWHITE", **rasters.UTM))
    assert (image == grey[..., None]).all()
    _, image = settle(rasters.write(tmp_path / "b.tif", grey // 16, nbits=4, **rasters.UTM))
    assert (image == (grey // 16 * 17)[..., None]).all()
