"""One open model for all tests of the app and the service, and images for them."""

from __future__ import annotations

import threading
from functools import cache

import cv2
import numpy as np

from optisar_yolo import OptiSAR
from optisar_yolo.serve.grounder import ExpressionResult, Grounder
from optisar_yolo.synthetic.render import render_image
from optisar_yolo.utils.options import BUNDLED_MODEL

LEFT = "The SAR transmission tower in the lower left corner of the image"
RIGHT = "The SAR transmission tower in the lower right corner of the image"
TOWERS = 7  # a rendered SAR image with a tower in each lower corner
SIDE = 320  # pixels in the network: small, so that a machine at work answers in time


@cache
def grounder() -> Grounder:
    """The bundled model."""
    return Grounder(OptiSAR(BUNDLED_MODEL), SIDE, engine="torch")


@cache
def rendered(number: int = TOWERS) -> np.ndarray:
    """A rendered image; even numbers are optical, odd ones SAR."""
    return render_image(seed=0, split="test", number=number)["img"]


@cache
def encoded(number: int = TOWERS, ending: str = ".png") -> bytes:
    """Return a rendered image as a file."""
    return bytes(cv2.imencode(ending, rendered(number))[1])


class SlowModel:
    """Takes the place of a model that is busy until `go` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.batches: list[int] = []

    def __call__(self, requests):
        self.batches.append(len(requests))
        self.begun.release()
        assert self.go.wait(30)
        return [[ExpressionResult(t, (), 0.1) for t in r.texts] for r in requests]
