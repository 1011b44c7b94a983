"""Requests that a service must refuse, or accept as plain text, with the expected status of each."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import cv2
import numpy as np

from optisar_yolo.synthetic.render import render_image

EXPRESSION = "the ship in the upper left"


@dataclass(frozen=True)
class Fault:
    """A request to ``/v1/predict``.

    Attributes:
        name: What is wrong with it.
        status: What it must get.
        image: Content of the uploaded file; None sends none.
        form: The other fields, as pairs.
    """

    name: str
    status: int
    image: bytes | None
    form: list[tuple[str, str]] = field(default_factory=lambda: [("text", EXPRESSION)])


def encoded(ending: str = ".jpg", number: int = 0) -> bytes:
    """Return a rendered scene as a file."""
    return bytes(cv2.imencode(ending, render_image(seed=0, split="test", number=number)["img"])[1])


def png_bomb(side: int = 50_000) -> bytes:
    """Return a PNG of a few hundred bytes whose header declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(50_000)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def jpeg_bomb(side: int = 65_000) -> bytes:
    """Return a small JPEG whose header declares side x side pixels."""
    data = encoded()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


def heaviest() -> Fault:
    """Return the image that needs most memory within the default limits: 25 million pixels of 16 bits."""
    row = np.linspace(0, 65_535, 5000).astype(np.uint16)
    data = bytes(cv2.imencode(".png", np.tile(row, (5000, 1)))[1])
    return Fault("25 million pixels of 16 bits, the most that is accepted", 200, data)


def faults() -> list[Fault]:
    """Return the requests, for a service with the default limits."""
    jpeg, png = encoded(".jpg"), encoded(".png")

    def form(*texts: str) -> list[tuple[str, str]]:
        return [("text", t) for t in texts]

    return [
        Fault("empty file", 400, b""),
        Fault("JPEG cut in the middle", 400, jpeg[: len(jpeg) // 2]),
        Fault("PNG cut in the middle", 400, png[: len(png) // 2]),
        Fault("PNG with damaged bytes", 400, png[:2000] + b"\0" * 300 + png[2300:]),
        Fault("PNG of 300 bytes that declares 50,000 x 50,000 pixels", 413, png_bomb()),
        Fault("JPEG that declares 65,000 x 65,000 pixels", 413, jpeg_bomb()),
        Fault("33 MiB of zeros", 413, bytes(33 * 1024 * 1024)),
        Fault("60 MiB of zeros", 413, bytes(60 * 1024 * 1024)),
        Fault("text file", 415, b"There is no image here.\n" * 40),
        Fault("HTML file", 415, b"<html><script>alert(1)</script></html>"),
        Fault("SVG that reads a local file", 415, b'<svg><image href="file:///etc/passwd"/></svg>'),
        Fault("zip file", 415, b"PK\x03\x04" + bytes(200)),
        Fault("pickle", 415, b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        Fault("TIFF of four bytes", 400, b"II*\0"),
        Fault("no image", 422, None),
        Fault("image that was never sent", 404, None, [("text", EXPRESSION), ("image", "0" * 64)]),
        Fault("image's name that is a path", 422, None, [("text", EXPRESSION), ("image", "../../etc/passwd")]),
        Fault("no expression", 422, jpeg, []),
        Fault("blank expression", 400, jpeg, form(EXPRESSION, " \t ")),
        Fault("control characters alone", 400, jpeg, form("\x00\x07\x1b\u200b")),
        Fault("control characters among words", 200, jpeg, form("the\x00 ship\x1b[31m in\u202e the\tupper left")),
        Fault("HTML as expression", 200, jpeg, form("<script>alert(1)</script> the ship")),
        Fault("SQL and format strings as expression", 200, jpeg, form("'; DROP TABLE x; -- {0.__class__} %s %n")),
        Fault("expression in another script", 200, jpeg, form("左上角的船 корабль 🚢")),
        Fault("10,000 words", 422, jpeg, form("ship " * 10_000)),
        Fault("one word of 5,000 letters", 422, jpeg, form("s" * 5_000)),
        Fault("expression of 3 MB", 400, jpeg, form("ship " * 600_000)),
        Fault("65 expressions", 422, jpeg, form(*[f"the ship number {i}" for i in range(65)])),
        Fault("1,000 expressions", 422, jpeg, form(*[EXPRESSION] * 1000)),
        Fault("confidence that is no number", 422, jpeg, [("text", EXPRESSION), ("conf", "high")]),
        Fault("confidence NaN", 422, jpeg, [("text", EXPRESSION), ("conf", "nan")]),
        Fault("a billion boxes", 422, jpeg, [("text", EXPRESSION), ("topk", "1000000000")]),
    ]
