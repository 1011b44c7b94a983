"""Serves the review page and its images."""

from __future__ import annotations

from functools import lru_cache

import cv2
from fastapi import Response
from nicegui import app, ui

from optisar_yolo.construction.review.journal import Journal
from optisar_yolo.construction.review.page import Page
from optisar_yolo.construction.review.queue import Queue
from optisar_yolo.construction.writing.files import FLIP
from optisar_yolo.data import DataError, read_image

LONGEST = 2048  # pixels of an image's longer side as it is sent; larger ones are reduced


def serve(queue: Queue, journal: Journal, names: tuple[str, ...], by: str, host: str, port: int, browser: bool) -> None:
    """Serve the page until the process is interrupted.

    Args:
        queue: The objects to review, at least one.
        journal: Takes the decisions.
        names: Category names of the data set.
        by: Who decides, for the journal.
        host: Address to listen on.
        port: Port to listen on.
        browser: Open the page in the default browser.
    """

    @ui.page("/", title="Review")
    def index() -> None:
        Page(queue, journal, names, by)

    @app.get("/picture/{position}")
    def image(position: int) -> Response:
        try:
            sample, _ = queue.load(position)
            content = encoded(sample.path, sample.transform)
        except (IndexError, DataError) as error:
            return Response(str(error), status_code=404, media_type="text/plain")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    ui.run(host=host, port=port, title="Review", reload=False, show=browser, show_welcome_message=False)


@lru_cache(maxsize=8)
def encoded(path: str, transform: str) -> bytes:
    """Return an image as JPEG, its longer side at most `LONGEST` pixels.

    Args:
        path: Its file, of any kind that `read_image` knows.
        transform: How its pixels are changed, as in `Sample`.

    Raises:
        DataError: The file cannot be read.
    """
    image = read_image(path)
    if transform:
        image = cv2.flip(image, FLIP[transform])
    scale = LONGEST / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
