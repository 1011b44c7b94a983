"""A map of the raster with the boxes as one HTML page that works offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.geo.result import SMALLEST, RasterResult, enlarged
from optisar_yolo.utils import need
from optisar_yolo.visualize import PALETTE

SIDE, SHORTEST = 900, 200  # pixels of the plot's frame: its long side, and its short one at least
MARGIN = 110  # pixels beside the frame: axis and toolbar
HALO = 5  # width of the dark line behind each box


def map_page(result: RasterResult) -> str:
    """Return the map as HTML. Its axes are those of the CRS where rows and columns run along them, otherwise pixels.

    Raises:
        MissingExtraError: bokeh is not installed.
    """
    need("bokeh")
    from bokeh.embed import file_html
    from bokeh.models import ColumnDataSource, CustomJS, HoverTool, Range1d
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    width, height = result.size
    on_ground = result.place.upright if result.place else False
    corner, labels = _axes(result, on_ground)
    (left, right), (bottom, top) = sorted((corner[0], corner[2])), sorted((corner[1], corner[3]))
    frame = [max(round(SIDE * side / max(width, height)), SHORTEST) for side in (width, height)]
    plot: Any = figure(
        title=Path(result.source).name,
        frame_height=frame[1],
        max_width=frame[0] + MARGIN,
        x_range=Range1d(start=left, end=right),
        y_range=Range1d(start=bottom, end=top),
        x_axis_label=labels[0],
        y_axis_label=labels[1],
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
        sizing_mode="stretch_width",
    )
    code = "const h = Math.round(plot.inner_width * ratio); if (Math.abs(h - plot.frame_height) > 1) "
    code += "plot.frame_height = h"
    follow = CustomJS(args={"plot": plot, "ratio": frame[1] / frame[0]}, code=code)  # pixels stay square at any width
    plot.js_on_change("inner_width", follow)
    plot.xgrid.visible = plot.ygrid.visible = False
    for axis in (plot.xaxis, plot.yaxis):
        axis.formatter.use_scientific = False
    image = np.dstack([result.image, np.full(result.image.shape[:2], 255, np.uint8)])
    # Bokeh's first row is the lowest one; the file's first row is where the corner of pixel (0, 0) is.
    image = image if corner[1] < corner[3] else image[::-1]
    image = image if corner[0] < corner[2] else image[:, ::-1]
    flat = np.ascontiguousarray(image).view(np.uint32)[..., 0]
    plot.image_rgba(image=[flat], x=left, y=bottom, dw=right - left, dh=top - bottom)
    hover = []
    for j, q in enumerate(result.queries):
        columns = _columns(result, j, corner)
        box = {"source": ColumnDataSource(columns), **{side: side for side in ("left", "right", "top", "bottom")}}
        box["legend_label"] = q.text if columns["confidence"] else f"{q.text}: nothing found"
        colour = PALETTE[j % len(PALETTE)]
        plot.quad(**box, fill_alpha=0, line_color="#101820", line_width=HALO)
        hover.append(plot.quad(**box, fill_color=colour, fill_alpha=0.12, line_color=colour, line_width=2))
    tips = [("", "@sentence"), ("confidence", "@confidence{0.00}"), ("pixels", "@pixels")]
    tips += [("lon, lat", "@lon{0.000000}, @lat{0.000000}")] if result.place.on_earth else []
    plot.add_tools(HoverTool(renderers=hover, tooltips=tips))
    plot.legend.click_policy = "hide"
    plot.legend.background_fill_alpha = 0.85
    plot.legend.location = "left"
    plot.add_layout(plot.legend[0], "below")
    return str(file_html(plot, INLINE, title=Path(result.source).name))


def _axes(result: RasterResult, on_ground: bool) -> tuple[tuple[float, float, float, float], tuple[str, str]]:
    """Return the plot's coordinates of the raster's first and last corner, and the labels of the axes."""
    width, height = result.size
    if not on_ground:
        return (0.0, float(height), float(width), 0.0), ("pixels from the left", "pixels from the bottom")
    x, y = result.place.to_crs(np.array([0.0, width]), np.array([0.0, height]))
    crs = result.place.crs
    name = f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else "CRS of the raster"
    units = ("longitude", "latitude") if crs.is_geographic else ("easting", "northing")
    return (float(x[0]), float(y[0]), float(x[1]), float(y[1])), (f"{units[0]} ({name})", f"{units[1]} ({name})")


def _columns(result: RasterResult, expression: int, corner: tuple[float, float, float, float]) -> dict[str, list[Any]]:
    """Return the boxes of one expression in the plot's coordinates, enlarged so that they can be seen, and tooltips."""
    mine = result.of(expression)
    boxes = enlarged(mine[:, :4] * result.shrink, SMALLEST / 2) / result.shrink
    width, height = result.size
    x = corner[0] + boxes[:, [0, 2]] / width * (corner[2] - corner[0])
    y = corner[1] + boxes[:, [1, 3]] / height * (corner[3] - corner[1])
    columns: dict[str, list[Any]] = {
        "left": x.min(1).tolist(),
        "right": x.max(1).tolist(),
        "bottom": y.min(1).tolist(),
        "top": y.max(1).tolist(),
        "sentence": [result.queries[expression].text] * len(mine),
        "confidence": mine[:, 4].tolist(),
        "pixels": [", ".join(f"{v:.0f}" for v in row[:4]) for row in mine],
    }
    if result.place.on_earth:
        lon, lat = result.place.to_wgs84((mine[:, 0] + mine[:, 2]) / 2, (mine[:, 1] + mine[:, 3]) / 2)
        columns |= {"lon": lon.tolist(), "lat": lat.tolist()}
    return columns
