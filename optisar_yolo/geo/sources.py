"""What a user names as a raster, turned into what GDAL opens: a file or URL, an asset of a STAC item, a tile server.

1. ``https://host/{z}/{x}/{y}.png`` is a tile server (XYZ; ``{-y}`` counts rows from the south, as TMS does). GDAL's WMS
   driver reads it at one zoom level, and its coarser levels as overviews.
2. A JSON file or URL that is a STAC item names rasters as its assets; pystac finds the one that is meant.
3. Anything else is a path, or a name that GDAL knows (``/vsicurl/…``, ``s3://…``, ``WMTS:…``, ``netcdf:…``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from optisar_yolo.data import DataError
from optisar_yolo.utils import file_identity, need

HALF = 20037508.342789244  # metres: half the side of the square of Web Mercator (EPSG:3857)
TILE = 256  # pixels of a tile's side
WAIT = 30  # seconds for a tile
_WEB = ("http://", "https://")
_PLACES = re.compile(r"\{[^{}]*\}")
_RASTERS = ("image/", "application/x-hdf", "application/netcdf", "application/x-netcdf")  # media types of STAC assets


@dataclass(frozen=True)
class RasterSource:
    """A raster to open.

    Attributes:
        name: What GDAL opens.
        label: What messages and results call it.
        stem: Name for the folder of its results.
        whole_world: A tile server: an extent says which part is meant.
    """

    name: str
    label: str
    stem: str
    whole_world: bool = False

    def identity(self) -> dict[str, Any]:
        """Return what tells it from another source, as :func:`optisar_yolo.utils.file_identity` does."""
        return {"source": self.label} if self.whole_world else file_identity(self.name)


def find_source(
    source: str | Path, asset: str | None = None, zoom: int | None = None, extent: Sequence[float] | None = None
) -> RasterSource:
    """Return the raster that a user means.

    Args:
        source: A path or URL of a raster or of a STAC item, a tile server, or a name that GDAL knows.
        asset: Name of the asset of a STAC item.
        zoom: Zoom level of a tile server.
        extent: The part that is meant; needed for tile servers.

    Raises:
        ValueError: An option that is missing or means nothing here, or no such asset.
        DataError: A STAC item that cannot be read.
        MissingExtraError: pystac is not installed.
    """
    name = str(source)
    if _is_tiles(name):
        if asset is not None:
            raise ValueError(f"{name}: asset= is for STAC items, and this is a tile server")
        return _tiles(name, zoom, extent)
    if zoom is not None:
        raise ValueError(f"{name}: zoom= is for tile servers, whose address holds {{z}}, {{x}} and {{y}}")
    if asset is not None or _is_stac(name):
        return _stac(name, asset)
    if name.upper().startswith("WMTS:") and extent is None:
        raise ValueError(f"{name}: a tile server covers the world; give extent=west,south,east,north in degrees")
    return RasterSource(name, name, Path(name).stem, name.upper().startswith("WMTS:"))


def _is_tiles(name: str) -> bool:
    return name.startswith(_WEB) and {"{z}", "{x}"} <= set(_PLACES.findall(name))


def _tiles(name: str, zoom: int | None, extent: Sequence[float] | None) -> RasterSource:
    """Return a tile server as a raster of GDAL's WMS driver."""
    known = {"{z}", "{x}", "{y}", "{-y}"}
    others = sorted(set(_PLACES.findall(name)) - known)
    if others:
        raise ValueError(
            f"{name}: {', '.join(others)} has no meaning here; write one server's name or key in its place"
        )
    if ("{y}" in name) == ("{-y}" in name):
        raise ValueError(f"{name}: a tile server needs {{y}} in its address, or {{-y}} where rows count from the south")
    if zoom is None:
        raise ValueError(f"{name}: give zoom=, such as zoom=17 (1.2 metres a pixel at the equator)")
    if extent is None:
        raise ValueError(f"{name}: a tile server covers the world; give extent=west,south,east,north in degrees")
    address = name.replace("{-y}", "{y}")
    for place in ("{z}", "{x}", "{y}"):
        address = address.replace(place, f"${place}")
    # Four bands: alpha says where a server has nothing (HTTP 204 and 404), so that it is no data and not black ground.
    description = (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{escape(address)}</ServerUrl></Service><DataWindow>'
        f"<UpperLeftX>{-HALF}</UpperLeftX><UpperLeftY>{HALF}</UpperLeftY><LowerRightX>{HALF}</LowerRightX>"
        f"<LowerRightY>{-HALF}</LowerRightY><TileLevel>{zoom}</TileLevel><TileCountX>1</TileCountX>"
        f"<TileCountY>1</TileCountY><YOrigin>{'bottom' if '{-y}' in name else 'top'}</YOrigin></DataWindow>"
        f"<Projection>EPSG:3857</Projection><BlockSizeX>{TILE}</BlockSizeX><BlockSizeY>{TILE}</BlockSizeY>"
        f"<BandsCount>4</BandsCount><MaxConnections>4</MaxConnections><Timeout>{WAIT}</Timeout>"
        "<ZeroBlockHttpCodes>204,404</ZeroBlockHttpCodes></GDAL_WMS>"
    )
    host = re.sub(r"^https?://(?:[^/@]*@)?", "", name).split("/")[0]
    return RasterSource(description, f"{name} at zoom {zoom}", f"{host}-z{zoom}", True)


def _is_stac(name: str) -> bool:
    """Tell whether a name is that of a STAC item, or of another JSON file on the web, which only that can be."""
    if not name.lower().split("?")[0].endswith((".json", ".geojson")):
        return False
    if name.startswith(_WEB):
        return True
    path = Path(name)
    if not path.is_file():
        return False
    try:
        return "stac_version" in json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _stac(name: str, asset: str | None) -> RasterSource:
    """Return an asset of a STAC item.

    Raises:
        ValueError: No such asset, or several and none named.
        DataError: The item cannot be read.
    """
    need("pystac")
    import pystac

    try:
        item = pystac.Item.from_file(name)
    except Exception as error:  # STACError, STACTypeError (no STACError), OSError, JSON errors, KeyError of a part
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name}: not a STAC item that can be read ({type(error).__name__}: {reason})") from error
    kinds = {key: (one.media_type or "").lower() for key, one in item.assets.items()}
    rasters = [key for key, kind in kinds.items() if kind.startswith(_RASTERS) or not kind]
    if asset is None:
        data = [key for key in rasters if "data" in (item.assets[key].roles or ())] or rasters
        if len(data) != 1:
            raise ValueError(f"{name}: name one of the item's rasters by asset=: {', '.join(data) or 'it has none'}")
        asset = data[0]
    if asset not in item.assets:
        raise ValueError(f"{name}: the item has no asset '{asset}'; it has {', '.join(item.assets) or 'none'}")
    address = item.assets[asset].get_absolute_href() or item.assets[asset].href
    if address.startswith("file://"):
        from urllib.request import url2pathname

        address = url2pathname(address.removeprefix("file://"))
    return RasterSource(address, address, f"{item.id}-{asset}")
