"""Options of grounding in a raster. They are also the arguments of ``optisar scene``."""

from __future__ import annotations

from dataclasses import dataclass

from optisar_yolo.geo.placing import check_extent
from optisar_yolo.plugin import STRETCHES
from optisar_yolo.utils import SettingError, check_options, option

ALL = "all"


@dataclass(frozen=True)
class RasterOptions:
    """How a raster is read, grounded and reported. The fields are listed by ``optisar scene --help``.

    Raises:
        SettingError: A value out of range, or two values that contradict each other.
    """

    conf: float | None = option(
        None, "float", "lowest confidence of an object; by default the calibrated threshold at twice the odds",
        low=0, high=1,
    )  # fmt: skip
    topk: int | str = option(1, "int", "objects per expression", low=1, words=(ALL,))
    imgsz: int | None = option(None, "int", "side of a tile in pixels; that of training by default", low=32)
    scale: float | None = option(
        None, "float", "pixels of the file in one pixel of the network; 1 by default", low=0.001, example="2"
    )
    gsd: float | None = option(None, "float", "the same as metres per pixel of the network", low=0.001, example="1.5")
    overlap: float = option(
        0.25, "float", "share of a tile's side that neighbours share; objects up to that length are whole in one",
        low=0, high=0.99,
    )  # fmt: skip
    batch: int = option(16, "int", "tiles that are encoded together", low=1)
    bands: tuple[int, ...] | None = option(
        None, "ints", "one band, or three for red, green and blue, from 1; by default from the file", low=1,
        counts=(1, 3), example="4,3,2",
    )  # fmt: skip
    modality: str = option("auto", "name", "modality of the raster", choices=("auto", "optical", "sar"))
    stretch: str = option("auto", "name", "how values become 8 bits", choices=("auto", *STRETCHES))
    percentiles: tuple[float, float] | None = option(
        None, "floats", "percentiles to stretch between; 0.5,99.9 by default, of SAR and grey rasters 2,99.99", low=0,
        high=100, counts=(2,), example="1,99.9",
    )  # fmt: skip
    limits: tuple[float, float] | None = option(
        None, "floats", "values that become 0 and 255, instead of percentiles", counts=(2,), example="0,3000"
    )
    nodata: float | None = option(
        None, "float", "value that means no data, where the file does not declare it; NaN always does", words=("nan",),
        example="0",
    )  # fmt: skip
    asset: str | None = option(None, "name", "asset of a STAC item that is meant", example="visual")
    zoom: int | None = option(
        None, "int", "zoom level of a tile server (source=https://…/{z}/{x}/{y}.png)", low=0, high=24, example="17"
    )
    extent: tuple[float, ...] | None = option(
        None, "floats", "part of the raster: west,south,east,north in degrees; the whole by default", counts=(4,),
        example="4.2,51.9,4.4,52.0",
    )  # fmt: skip
    crs: str | None = option(None, "name", "CRS of a file that names none", example="EPSG:32633")
    transform: tuple[float, ...] | None = option(
        None, "floats", "geotransform a,b,c,d,e,f of a file that has none: x = a·column + b·row + c, y = d·column + …",
        counts=(6,), example="10,0,500000,0,-10,5400000",
    )  # fmt: skip
    vector: str = option(
        "geojson", "name", "format beside GeoJSON: GeoPackage, FlatGeobuf, all, or none but GeoJSON",
        choices=("geojson", "gpkg", "fgb", "all"),
    )  # fmt: skip
    device: str | None = option(None, "name", "as in Ultralytics", example="cpu")
    engine: str = option(
        "auto", "name", "what runs the network on a CPU, as in predict", choices=("auto", "torch", "onnx", "openvino")
    )
    project: str | None = option(None, "file", "folder of the runs; runs/scene by default")
    name: str | None = option(None, "name", "folder of the run; the name of the file by default")
    exist_ok: bool = option(False, "bool", "write into that folder even if it holds other results")
    resume: bool = option(True, "bool", "continue an interrupted run with the same input and settings")
    map: bool = option(True, "bool", "write the HTML map, which needs bokeh")

    def __post_init__(self) -> None:
        if self.nodata == "nan" or self.nodata != self.nodata:
            object.__setattr__(self, "nodata", None)  # NaN never is data
        if self.device is not None:
            object.__setattr__(self, "device", str(self.device))  # an index or a torch.device
        check_options(self)
        for key in ("percentiles", "limits"):
            pair = getattr(self, key)
            if pair is not None and not pair[0] < pair[1]:
                raise SettingError(f"'{key}={pair[0]:g},{pair[1]:g}' is not valid: the second must be above the first")
        if self.extent is not None:
            try:
                check_extent(self.extent)
            except ValueError as error:
                raise SettingError(str(error)) from error
        if self.scale is not None and self.gsd is not None:
            raise SettingError("scale= and gsd= both set the resolution of the network; give one of them")

    @property
    def vectors(self) -> tuple[str, ...]:
        """Formats that are written beside GeoJSON."""
        return ("gpkg", "fgb") if self.vector == "all" else () if self.vector == "geojson" else (self.vector,)

    @property
    def most(self) -> int | None:
        """Objects per expression at most; None: all."""
        return None if self.topk == ALL else int(self.topk)
