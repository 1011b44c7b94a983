"""The HTTP service: ``create_app`` makes it, any ASGI server runs it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from ultralytics.utils import LOGGER

from optisar_yolo.api import OptiSAR
from optisar_yolo.serve.answers import Engine, GroundingRequest
from optisar_yolo.serve.batching import Batcher, late
from optisar_yolo.serve.gate import Gate, rate_of, response
from optisar_yolo.serve.limits import Limits, Refusal, within
from optisar_yolo.serve.metrics import Metrics
from optisar_yolo.serve.schema import FAULTS, AnswerModel, Grounding
from optisar_yolo.serve.session import CachedImage, Prepared, key_of
from optisar_yolo.serve.uploads import check_bytes, read_upload
from optisar_yolo.version import __version__

T = TypeVar("T")
PREDICT = "/v1/predict"
PATHS = (PREDICT, "/healthz", "/readyz", "/metrics", "/openapi.json", "/")
GONE = 499  # nobody reads it; what the counters show of clients that went away
LOOK = 0.2  # seconds between two looks whether the client is still there
ABOUT = """Ask optical and SAR images for objects in plain words.

    curl -F source=@port.jpg -F "text=the SAR ship in the upper left" -F "text=the harbor" http://localhost:8000/v1/predict

The answer names the image; `-F image=NAME` instead of `source` asks more about it without sending it again."""


def create_app(model: str | Path | OptiSAR | Engine, limits: Limits | None = None) -> FastAPI:
    """Make the service.

    Args:
        model: Weights, an export, an open model or an engine.
        limits: What it takes; the defaults of :class:`~optisar_yolo.serve.limits.Limits` where None.

    Returns:
        The ASGI application; ``app.state`` has its ``engine``, ``batcher`` and ``metrics``.

    Raises:
        FileNotFoundError: No such weights.
        ValueError: Weights or limits that cannot be used.
    """
    limits = limits or Limits()
    rate_of(limits.rate)  # refused here, not at the first request
    engine = model if isinstance(model, Engine) else Engine(model, remembered=limits.remembered)
    metrics = Metrics()
    batcher = Batcher(engine.answer, limits, metrics.batch, lambda why: metrics.dropped.labels(why).inc())
    metrics.follow("optisar_waiting", "Requests that wait for the model", lambda: batcher.waiting)
    metrics.follow("optisar_remembered", "Encoded images that are kept", lambda: len(engine.seen))
    decoders = ThreadPoolExecutor(limits.decoders, "optisar-decoder")

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await asyncio.to_thread(batcher.stop)
        decoders.shutdown(cancel_futures=True)

    # the pages that FastAPI makes of the description load scripts from elsewhere, so there is the description alone
    app = FastAPI(title="optisar", description=ABOUT, version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.engine, app.state.batcher, app.state.metrics = engine, batcher, metrics
    app.add_middleware(Gate, limits=limits, metrics=metrics, paths=PATHS)  # type: ignore[arg-type]
    _add_faults(app)
    _add_states(app, engine, batcher, metrics)

    def image_of(source: UploadFile | None, image: str | None) -> Future[Prepared | CachedImage]:
        """Return the image to come; what is not begun can be cancelled."""
        found: Future[Prepared | CachedImage] = Future()
        if source is not None:
            check_bytes(source.size or 0, limits)
            found = decoders.submit(_prepared, source.file, engine, limits)
        elif image is None:
            raise Refusal(422, "no image", "send a file as source, or the name of an earlier one as image")
        else:
            seen = engine.seen.get(image)
            if seen is None:
                raise Refusal(404, "the image is not remembered (any more)", "send it again as source")
            found.set_result(seen)
        return found

    @app.post(PREDICT, response_model=Grounding, responses=FAULTS, summary="Ask expressions about an image")
    async def predict(
        request: Request,
        text: Annotated[
            list[str],
            Form(description="an expression; repeat it for several", examples=[["the ship in the upper left"]]),
        ],
        source: Annotated[UploadFile | None, File(description="the image: PNG, JPEG, TIFF, BMP or WebP")] = None,
        image: Annotated[
            str | None, Form(description="name of an earlier image, instead of source", pattern="^[0-9a-f]{64}$")
        ] = None,
        conf: Annotated[
            float | None, Form(ge=0, le=1, description="least confidence of a box; the model's own by default")
        ] = None,
        topk: Annotated[int, Form(ge=1, le=20, description="boxes per expression")] = 1,
    ) -> Any:
        texts = within(text, limits)
        until = time.monotonic() + limits.seconds
        found = await _waited(request, image_of(source, image), until, limits)
        metrics.images.labels("remembered" if isinstance(found, CachedImage) else "new").inc()
        asked = GroundingRequest(found, tuple(texts), conf, topk)
        answers = await _waited(request, batcher.submit(asked, until), until, limits)
        for a in answers:
            metrics.expressions.labels(str(bool(a.boxes)).lower()).inc()
        width, height = asked.image.size
        return Grounding(
            image=asked.image.key,
            width=width,
            height=height,
            model=engine.name,
            conf=engine.conf if conf is None else conf,
            calibrated=engine.calibrated,
            answers=[AnswerModel.of(a) for a in answers],
        )

    return app


def _prepared(file: BinaryIO, engine: Engine, limits: Limits) -> Prepared | CachedImage:
    """Read and decode an image, unless it is remembered."""
    data = file.read()
    key = key_of(data)
    return engine.seen.get(key) or Prepared.of(key, read_upload(data, limits), engine.imgsz)


async def _waited(request: Request, future: Future[T], until: float, limits: Limits) -> T:
    """Wait for something as long as somebody wants it.

    Args:
        request: Whose client may go away.
        future: What is waited for.
        until: Monotonic time.
        limits: Names the time in the message.

    Raises:
        Refusal: It did not come in time, or the client went away.
    """
    waiting = asyncio.wrap_future(future)
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=LOOK)
            if done:
                return waiting.result()
            if await request.is_disconnected():
                raise Refusal(GONE, "the client went away", "stay for the answer")
            if time.monotonic() > until:
                raise late(limits.seconds)
    finally:
        waiting.cancel()  # without effect on what is done or begun; decoder and worker drop the rest


def _add_states(app: FastAPI, engine: Engine, batcher: Batcher, metrics: Metrics) -> None:
    """Add the end points that say how the service is."""

    @app.get("/", summary="What this is")
    async def index() -> dict[str, str]:
        return {"service": "optisar", "version": __version__, "model": engine.name, "description": "/openapi.json"}

    @app.get("/healthz", summary="Is it alive? Restart it where not")
    async def healthz() -> JSONResponse:
        return JSONResponse({"alive": batcher.alive}, 200 if batcher.alive else 503)

    @app.get("/readyz", summary="Has it room for a request? Send it elsewhere where not")
    async def readyz() -> JSONResponse:
        ready = batcher.alive and not batcher.full
        return JSONResponse({"ready": ready, "waiting": batcher.waiting}, 200 if ready else 503)

    @app.get("/metrics", summary="Counters for Prometheus")
    async def counters() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_faults(app: FastAPI) -> None:
    """Answer every fault in one form, and never with a trace."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return response(error)

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> JSONResponse:
        said: Any = error.detail
        if not isinstance(said, dict):
            said = {"error": str(said), "hint": f"POST a form to {PREDICT}; /openapi.json describes it"}
        return JSONResponse(said, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:3]]
        return response(Refusal(422, "; ".join(faults), "/openapi.json describes the request"))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        number = uuid.uuid4().hex[:8]
        LOGGER.error(f"fault {number}: {type(error).__name__}: {error}")
        return response(Refusal(500, "a fault of the service", f"its log says more under {number}"))
