"""The HTTP service: :func:`create_app` makes it, any ASGI server runs it.

1. :class:`~optisar_yolo.serve.middleware.LimitsMiddleware` refuses what exceeds the limits before the body is read.
2. A pool of threads decodes new images; images that were sent before come from the cache.
3. :class:`~optisar_yolo.serve.batching.RequestBatcher` runs the requests in batches.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from ultralytics.utils import LOGGER

from optisar_yolo.api import OptiSAR
from optisar_yolo.serve.batching import RequestBatcher, late
from optisar_yolo.serve.grounder import CachedImage, ExpressionResult, Grounder, GroundingRequest, PreparedImage
from optisar_yolo.serve.labelstudio import LABEL_PATHS, LabelStudio, add_label_studio
from optisar_yolo.serve.limits import Limits, Refusal, check_expressions
from optisar_yolo.serve.middleware import LimitsMiddleware, RequestPlaces, ServiceMetrics, parse_rate, response
from optisar_yolo.serve.uploads import check_bytes, image_key, read_upload
from optisar_yolo.version import __version__

T = TypeVar("T")
PREDICT = "/v1/predict"
PATHS = (PREDICT, "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/")
DOCS = Path(__file__).with_name("docs.html")
CLIENT_GONE = 499  # shown by the metrics alone: no client reads it
POLL = 0.2  # seconds between two checks whether the client is still connected
KEY = "9b8f…64 hex digits"
KEY_PATTERN = "^[0-9a-f]{64}$"
ABOUT = """Ground referring expressions in optical and SAR images.

    curl -F source=@port.jpg -F "text=the SAR ship in the upper left" -F "text=the harbor" http://localhost:8000/v1/predict

The response names the image. Send `-F image=NAME` instead of `source` to ground more expressions in the same image."""


class BoxModel(BaseModel):
    """A box."""

    xyxy: tuple[float, float, float, float] = Field(description="left, top, right, bottom, in pixels of the image")
    conf: float = Field(description="confidence, 0..1")


class AnswerModel(BaseModel):
    """The boxes of one expression."""

    text: str = Field(description="the expression, without control characters and surplus white space")
    found: bool = Field(description="whether a box reached the confidence threshold")
    boxes: list[BoxModel] = Field(description="best first; empty where nothing was found")
    best: float = Field(description="confidence of the best box, above the threshold or not")
    note: str = Field(description="such as that the end of a long expression was not read; empty otherwise")

    @classmethod
    def of(cls, result: ExpressionResult) -> AnswerModel:
        """Take over a result; more digits than an image has details are noise."""
        boxes = []
        for box in result.boxes:
            x1, y1, x2, y2 = (round(v, 2) for v in box.xyxy)
            boxes.append(BoxModel(xyxy=(x1, y1, x2, y2), conf=round(box.conf, 6)))
        best = round(result.best, 6)
        return cls(text=result.text, found=bool(boxes), boxes=boxes, best=best, note=result.note)


class Grounding(BaseModel):
    """The results for an image, in the order of the expressions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image": KEY,
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

    image: str = Field(description="name of the image (SHA-256 of its file), for requests without the file")
    picture: str = Field(description="former name of image", json_schema_extra={"deprecated": True})
    width: int
    height: int
    model: str
    conf: float = Field(description="confidence threshold")
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
        404: "the image is not in the cache (any more): send it again",
        408: "the upload took too long",
        413: "too many bytes or pixels",
        415: "the file is not an image of a known kind",
        422: "no, too many or too long expressions, or a value out of range",
        429: "too many requests, uploads or connections of one client; Retry-After says when to go on",
        431: "the headers are too large",
        500: "a fault of the service",
        503: "no capacity, or no answer in time; Retry-After says when to try again",
    }.items()
}


def create_app(
    model: str | Path | OptiSAR | Grounder,
    limits: Limits | None = None,
    imgsz: int | None = None,
    label_studio: LabelStudio | None = None,
    engine: str = "auto",
) -> FastAPI:
    """Make the service.

    Args:
        model: Weights, an export, an open model or a grounder.
        limits: Limits of requests; the defaults of :class:`~optisar_yolo.serve.limits.Limits` where None.
        imgsz: Long side of images in the network; that of training by default.
        label_studio: Also be a backend of this Label Studio (:mod:`optisar_yolo.serve.labelstudio`).
        engine: What runs the network on a CPU, as in :meth:`OptiSAR.predict`.

    Returns:
        The ASGI application; ``app.state`` has its ``grounder``, ``batcher`` and ``metrics``.

    Raises:
        FileNotFoundError: No such weights.
        ValueError: Weights or limits that cannot be used.
    """
    limits = limits or Limits()
    parse_rate(limits.rate)  # refused before the model is opened
    grounder = model if isinstance(model, Grounder) else Grounder(model, imgsz, limits.remembered, engine)
    metrics = ServiceMetrics()
    batcher = RequestBatcher(grounder.ground, limits, metrics.batch, lambda why: metrics.dropped.labels(why).inc())
    metrics.follow("optisar_waiting", "Requests in the queue", lambda: batcher.waiting)
    metrics.follow("optisar_remembered", "Encoded images in the cache", lambda: len(grounder.cache))
    places = RequestPlaces(limits)
    metrics.follow("optisar_inside", "Requests that are uploading, waiting or running", lambda: places.inside)
    decoders = ThreadPoolExecutor(limits.decoders, "optisar-decoder")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.stop)
        decoders.shutdown(cancel_futures=True)

    # FastAPI's documentation pages load scripts from other hosts; the page of this service needs none.
    app = FastAPI(
        title="optisar", description=ABOUT, version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.grounder, app.state.batcher, app.state.metrics = grounder, batcher, metrics
    paths = PATHS + LABEL_PATHS if label_studio else PATHS
    app.add_middleware(LimitsMiddleware, limits=limits, metrics=metrics, places=places, paths=paths)  # type: ignore[arg-type]
    _add_fault_handlers(app)
    _add_health(app, grounder, batcher, places, metrics)

    def image_of(source: UploadFile | None, key: str | None) -> Future[PreparedImage | CachedImage]:
        """Return the future image; decoding that has not started can be cancelled."""
        if source is not None:
            check_bytes(source.size or 0, limits)
            return decoders.submit(_prepare, source.file, grounder, limits)
        if key is None:
            raise Refusal(422, "no image", "send a file as source, or the name of an earlier image as image")
        cached = grounder.cache.get(key)
        if cached is None:
            raise Refusal(404, "the image is not in the cache (any more)", "send it again as source")
        future: Future[PreparedImage | CachedImage] = Future()
        future.set_result(cached)
        return future

    @app.post(PREDICT, response_model=Grounding, responses=FAULTS, summary="Ground expressions in an image")
    async def predict(
        request: Request,
        text: Annotated[
            list[str],
            Form(description="an expression; repeat it for several", examples=[["the ship in the upper left"]]),
        ],
        source: Annotated[UploadFile | None, File(description="the image: PNG, JPEG, TIFF, BMP or WebP")] = None,
        image: Annotated[
            str | None, Form(description="name of an earlier image, instead of source", pattern=KEY_PATTERN)
        ] = None,
        picture: Annotated[
            str | None, Form(description="former name of image", pattern=KEY_PATTERN, deprecated=True)
        ] = None,
        conf: Annotated[
            float | None, Form(ge=0, le=1, description="confidence threshold; the model's own by default")
        ] = None,
        topk: Annotated[int, Form(ge=1, le=20, description="boxes per expression")] = 1,
    ) -> Any:
        texts = check_expressions(text, limits)
        until = time.monotonic() + limits.seconds
        found = await _wait(request, image_of(source, image or picture), until, limits)
        metrics.images.labels("remembered" if isinstance(found, CachedImage) else "new").inc()
        grounding = GroundingRequest(found, tuple(texts), conf, topk)
        results = await _wait(request, batcher.submit(grounding, until), until, limits)
        for result in results:
            metrics.expressions.labels(str(bool(result.boxes)).lower()).inc()
        return Grounding(
            image=found.key,
            picture=found.key,
            width=found.size[0],
            height=found.size[1],
            model=grounder.name,
            conf=grounder.conf if conf is None else conf,
            calibrated=grounder.calibrated,
            answers=[AnswerModel.of(result) for result in results],
        )

    if label_studio is not None:

        async def ground(
            request: Request, read: Callable[[], bytes], texts: Sequence[str], conf: float | None, topk: int
        ) -> tuple[list[ExpressionResult], tuple[int, int]]:
            checked = check_expressions(texts, limits)
            until = time.monotonic() + limits.seconds
            image = decoders.submit(lambda: _prepare(BytesIO(read()), grounder, limits))
            found = await _wait(request, image, until, limits)
            asked = GroundingRequest(found, tuple(checked), conf, topk)
            return await _wait(request, batcher.submit(asked, until), until, limits), found.size

        add_label_studio(app, label_studio, ground, limits, Path(grounder.name).stem)
    return app


def _prepare(file: BinaryIO, grounder: Grounder, limits: Limits) -> PreparedImage | CachedImage:
    """Read and decode an image, or return it from the cache."""
    data = file.read()
    key = image_key(data)
    return grounder.cache.get(key) or grounder.prepare(key, read_upload(data, limits))


async def _wait(request: Request, future: Future[T], until: float, limits: Limits) -> T:
    """Wait for a result while the client is connected.

    Args:
        request: The client's request.
        future: The future result.
        until: Monotonic time of the latest result.
        limits: Their ``seconds`` are named in the message.

    Raises:
        Refusal: The result did not come in time, or the client went away.
    """
    waiting = asyncio.wrap_future(future)
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=POLL)
            if done:
                return waiting.result()
            if await request.is_disconnected():
                raise Refusal(CLIENT_GONE, "the client went away", "wait for the response")
            if time.monotonic() > until:
                raise late(limits.seconds)
    finally:
        waiting.cancel()  # no effect on work that is done or running; decoder and worker drop the rest


def _add_health(
    app: FastAPI, grounder: Grounder, batcher: RequestBatcher, places: RequestPlaces, metrics: ServiceMetrics
) -> None:
    """Add the end points that describe the service and its state."""

    @app.get("/", summary="Name, version and model of the service")
    async def index() -> dict[str, str]:
        return {
            "service": "optisar",
            "version": __version__,
            "model": grounder.name,
            "description": "/openapi.json",
            "docs": "/docs",
        }

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS.read_text(encoding="utf-8"))

    @app.get("/healthz", summary="Is the service alive? Restart it otherwise")
    async def healthz() -> JSONResponse:
        return JSONResponse({"alive": batcher.alive}, 200 if batcher.alive else 503)

    @app.get("/readyz", summary="Does the service accept a request? Send it elsewhere otherwise")
    async def readyz() -> JSONResponse:
        ready = batcher.alive and not batcher.full and not places.full
        state = {"ready": ready, "waiting": batcher.waiting, "inside": places.inside}
        return JSONResponse(state, 200 if ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus")
    async def counters() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_fault_handlers(app: FastAPI) -> None:
    """Return every fault in one form, and never with a traceback."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return response(error)

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> JSONResponse:
        detail: Any = error.detail
        if not isinstance(detail, dict):
            detail = {"error": str(detail), "hint": f"POST a form to {PREDICT}; /docs describes it"}
        return JSONResponse(detail, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:3]]
        return response(Refusal(422, "; ".join(faults), "/docs describes the request"))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        number = uuid.uuid4().hex[:8]
        LOGGER.error(f"fault {number}: {type(error).__name__}: {error}")
        return response(Refusal(500, "a fault of the service", f"its log says more under {number}"))
