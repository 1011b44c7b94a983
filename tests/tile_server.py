"""A tile server for tests, as a program of its own: GDAL holds Python's lock while it opens a file of the web.

``python tests/tile_server.py FOLDER`` prints its port, and writes what it is asked for into ``FOLDER/asked.txt``. It
has a square of three by three tiles, with objects painted across their borders.
"""

import http.server
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ZOOM, COLUMN, ROW, SIDE = 15, 17_000, 11_000, 3  # where the tiles are
OBJECTS = [(240, 240, 280, 290), (600, 100, 640, 130)]
WMTS = """<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1" version="1.0.0">
<Contents><Layer><ows:Identifier>port</ows:Identifier><ows:Title>port</ows:Title><Style isDefault="true">
<ows:Identifier>default</ows:Identifier></Style><Format>image/png</Format><TileMatrixSetLink><TileMatrixSet>web</TileMatrixSet>
</TileMatrixSetLink><ResourceURL format="image/png" resourceType="tile"
 template="http://127.0.0.1:{port}/xyz/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"/></Layer>
<TileMatrixSet><ows:Identifier>web</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
<TileMatrix><ows:Identifier>15</ows:Identifier><ScaleDenominator>17061.8366707</ScaleDenominator>
<TopLeftCorner>-20037508.342789244 20037508.342789244</TopLeftCorner><TileWidth>256</TileWidth>
<TileHeight>256</TileHeight>
<MatrixWidth>32768</MatrixWidth><MatrixHeight>32768</MatrixHeight></TileMatrix></TileMatrixSet></Contents></Capabilities>"""


class Tiles(http.server.BaseHTTPRequestHandler):
    """``xyz`` and ``tms`` count rows from north and south; ``big`` has tiles of 512, ``broken`` always fails."""

    image = np.random.default_rng(0).integers(20, 100, (SIDE * 256, SIDE * 256), dtype=np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(OBJECTS):
        image[y1:y2, x1:x2] = 200 + i
    folder: Path

    def do_GET(self):
        with (self.folder / "asked.txt").open("a") as file:
            file.write(self.path + "\n")
        if self.path.startswith("/item.json"):
            return self._send(200, "application/json", (self.folder / "item.json").read_bytes())
        if self.path.startswith("/a.tif"):
            return self._send(200, "image/tiff", (self.folder / "a.tif").read_bytes())
        if self.path.startswith("/wmts"):
            return self._send(200, "application/xml", WMTS.format(port=self.server.server_port).encode())
        if self.path.startswith("/broken"):
            return self._send(500, "text/plain", b"broken")
        parts = self.path.split("?")[0].strip("/").split(".")[0].split("/")
        z, x, y = map(int, parts[1:])
        if parts[0] == "tms":
            y = 2**z - 1 - y
        step = 2 ** (ZOOM - z)
        column, row = x * step - COLUMN, y * step - ROW
        if z > ZOOM or not (0 <= column < SIDE and 0 <= row < SIDE):
            return self._send(404, "text/plain", b"no such tile")
        tile = self.image[row * 256 : (row + step) * 256, column * 256 : (column + step) * 256][::step, ::step]
        tile = np.pad(tile, ((0, 256 - tile.shape[0]), (0, 256 - tile.shape[1])))
        if parts[0] == "big":
            tile = np.repeat(np.repeat(tile, 2, 0), 2, 1)
        file = io.BytesIO()
        Image.fromarray(tile).convert("RGB").save(file, "PNG")
        return self._send(200, "image/png", file.getvalue())

    def _send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    Tiles.folder = Path(sys.argv[1])
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tiles)
    print(web.server_port, flush=True)
    web.serve_forever()
