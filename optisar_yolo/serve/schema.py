"""What the service answers, as its OpenAPI description shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from optisar_yolo.serve.answers import GroundingAnswer

KEY = "9b8f…64 hex digits"


def rounded(xyxy: tuple[float, float, float, float], digits: int) -> tuple[float, float, float, float]:
    """Round a box: more digits than an image has details are noise."""
    x1, y1, x2, y2 = (round(v, digits) for v in xyxy)
    return x1, y1, x2, y2


class BoxModel(BaseModel):
    """A box."""

    xyxy: tuple[float, float, float, float] = Field(description="left, top, right, bottom, in pixels of the image")
    conf: float = Field(description="confidence, 0..1")


class AnswerModel(BaseModel):
    """The answer to one expression."""

    text: str = Field(description="the expression, without control characters and surplus white space")
    found: bool = Field(description="whether a box reached the least confidence")
    boxes: list[BoxModel] = Field(description="best first; empty where nothing was found")
    best: float = Field(description="confidence of the best box, kept or not")
    note: str = Field(description="such as that the end of a long expression was not read; empty otherwise")

    @classmethod
    def of(cls, answer: GroundingAnswer) -> AnswerModel:
        """Take over an answer."""
        boxes = [BoxModel(xyxy=rounded(b.xyxy, 2), conf=round(b.conf, 6)) for b in answer.boxes]
        best = round(answer.best, 6)
        return cls(text=answer.text, found=bool(boxes), boxes=boxes, best=best, note=answer.note)


class Grounding(BaseModel):
    """Answers about an image, in the order of the expressions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "picture": KEY,
                    "width": 448,
                    "height": 362,
                    "model": "optisar++n-pocket.safetensors",
                    "conf": 0.399,
                    "calibrated": True,
                    "answers": [
                        {
                            "text": "the airplane at the bottom",
                            "found": True,
                            "boxes": [{"xyxy": [201.5, 250.0, 252.0, 301.5], "conf": 0.71}],
                            "best": 0.71,
                            "note": "",
                        },
                        {"text": "the ship in the upper left", "found": False, "boxes": [], "best": 0.03, "note": ""},
                    ],
                }
            ]
        }
    )

    image: str = Field(description="name of the image (SHA-256 of its file), to ask more without sending it")
    width: int
    height: int
    model: str
    conf: float = Field(description="least confidence of a box")
    calibrated: bool = Field(description="whether confidences are probabilities of a right box")
    answers: list[AnswerModel]


class Fault(BaseModel):
    """Why a request was not served."""

    error: str = Field(description="what is wrong")
    hint: str = Field(description="what to do about it")


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": text}
    for status, text in {
        400: "the image is empty, damaged or incomplete, or an expression is blank",
        404: "the image is not remembered (any more): send it again",
        408: "the request took too long to arrive",
        413: "too many bytes or pixels",
        415: "the file is no image of a known kind",
        422: "no, too many or too long expressions, or a value out of range",
        429: "too many requests of one client; Retry-After says when to go on",
        500: "a fault of the service",
        503: "no room, or no answer in time; Retry-After says when to try again",
    }.items()
}
