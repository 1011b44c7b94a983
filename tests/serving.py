"""One open model for all tests of the app and the service, and images for them."""

from __future__ import annotations

import threading
from functools import cache

import cv2
import numpy as np

from optisar_yolo import OptiSAR
from optisar_yolo.serve.answers import Engine, GroundingAnswer
from optisar_yolo.synthetic.render import draw
from optisar_yolo.utils.options import BUNDLED_MODEL

LEFT = "The SAR transmission tower in the lower left corner of the image"
RIGHT = "The SAR transmission tower in the lower right corner of the image"
TOWERS = 7  # a SAR scene with a tower in each lower corner
SIDE = 320  # pixels in the network: small, so that a machine at work answers in time


@cache
def engine() -> Engine:
    """The bundled model."""
    return Engine(OptiSAR(BUNDLED_MODEL), SIDE)


@cache
def scene(number: int = TOWERS) -> np.ndarray:
    """A rendered image; even numbers are optical, odd ones SAR."""
    return draw(seed=0, split="test", number=number)["img"]


@cache
def encoded(number: int = TOWERS, ending: str = ".png") -> bytes:
    """It as a file."""
    return bytes(cv2.imencode(ending, scene(number))[1])


class Slow:
    """Takes the place of a model that is busy until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.asked: list[int] = []

    def __call__(self, questions):
        self.asked.append(len(questions))
        self.begun.release()
        assert self.go.wait(30)
        return [[GroundingAnswer(t, (), 0.1) for t in q.texts] for q in questions]
