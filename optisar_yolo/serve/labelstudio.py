"""A machine-learning backend for Label Studio: boxes for the tasks of a project, from expressions.

Label Studio sends a project's labelling configuration and its tasks to ``/predict``; ``/setup`` and ``/health`` tell it
that the backend is there. Where expressions come from:

1. Each ``<Label>`` of a ``<RectangleLabels>`` has one: its attribute ``expression``, or its value.
2. With ``model_text="$field"`` on the ``<RectangleLabels>`` (or ``<Rectangle>``), that field of a task holds one or a
   list of them. A box gets the label that an expression belongs to or equals, else the first.

``model_score_threshold`` and ``model_topk`` on the same tag set the threshold and the boxes per expression.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit
from xml.etree import ElementTree as ET

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict
from ultralytics.utils import LOGGER

from optisar_yolo.serve.grounder import ExpressionResult
from optisar_yolo.serve.limits import Limits, Refusal

LABEL_PATHS = ("/predict", "/setup", "/health", "/webhook", "/versions")
MOST_TASKS = 100  # in a request; Label Studio sends fewer at a time
ALL = 20  # boxes per expression at most, and of a label by default: who labels wants every object of a category
KEY_NAME = "LABEL_STUDIO_API_KEY"  # environment variable, as in Label Studio's own backends
WAIT = 20  # seconds for an image
_LOCAL = "/data/local-files/"


@dataclass(frozen=True)
class LabelStudio:
    """Where Label Studio is, and where its local files are.

    Attributes:
        url: Its address. Images are fetched from there alone.
        files: Folder of its "local files" storage on this machine; without it they are fetched like all others.
    """

    url: str
    files: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"label_studio={self.url}: write its address, such as http://localhost:8080")
        if self.files is not None and not Path(self.files).is_dir():
            raise ValueError(f"label_files={self.files}: no such folder")

    def fetch(self, address: str, key: str, limits: Limits) -> bytes:
        """Return the image file of a task.

        Args:
            address: What the task says: a path of Label Studio's, its full address, or a ``data:`` address.
            key: Label Studio's access token; may be empty.
            limits: The largest file.

        Raises:
            Refusal: It is not Label Studio's, is not there, or is too large.
        """
        if address.startswith("data:"):
            return _inline(address)
        whole = urljoin(self.url.rstrip("/") + "/", address)
        own, parts = urlsplit(self.url), urlsplit(whole)
        if (parts.scheme, parts.hostname, parts.port) != (own.scheme, own.hostname, own.port):
            hint = f"images are fetched from {self.url} alone; let Label Studio store or proxy them"
            raise Refusal(422, f"the image {address[:200]} is not one of Label Studio's", hint)
        if self.files is not None and parts.path.endswith(_LOCAL):
            return self._local(parse_qs(parts.query).get("d", [""])[0], limits)
        request = urllib.request.Request(whole, headers={"Authorization": f"Token {key}"} if key else {})
        try:
            with urllib.request.build_opener(_Stay).open(request, timeout=WAIT) as response:
                data = bytes(response.read(limits.max_bytes + 1))
        except urllib.error.HTTPError as error:
            hint = f"set {KEY_NAME} to an access token of Label Studio" if error.code in (401, 403) else "see its log"
            raise Refusal(422, f"Label Studio answers {error.code} for {address[:200]}", hint) from error
        except OSError as error:
            raise Refusal(503, f"Label Studio cannot be reached ({error})", f"is {self.url} its address?") from error
        return data

    def _local(self, name: str, limits: Limits) -> bytes:
        """Read a file of the local storage; nothing outside of its folder."""
        assert self.files is not None
        root = Path(self.files).resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise Refusal(422, f"no file {name[:200]} in the folder of local files", "label_files= names that folder")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it may lead to another server, which would then get the access token."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _inline(address: str) -> bytes:
    head, comma, content = address.partition(",")
    try:
        if not (comma and head.endswith(";base64")):
            raise ValueError
        return base64.b64decode(content, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Refusal(422, "a data: address that is not base64", "write data:image/png;base64,…") from error


@dataclass(frozen=True)
class BoxControl:
    """The tag of a labelling configuration whose boxes are made.

    Attributes:
        name: Its name.
        image: Name of the image tag.
        field: Field of a task that holds the image's address.
        labels: Expression of each label; empty for a ``<Rectangle>``.
        text_field: Field of a task that holds expressions; empty: those of the labels.
        conf: Confidence threshold; that of the model where None.
        topk: Boxes per expression.
    """

    name: str
    image: str
    field: str
    labels: Mapping[str, str]
    text_field: str = ""
    conf: float | None = None
    topk: int = ALL

    @classmethod
    def of(cls, config: str) -> BoxControl:
        """Read a labelling configuration.

        Raises:
            Refusal: It has no tag for boxes on an image, or a value in it cannot be used.
        """
        try:
            if "<!" in config.replace("<!--", ""):
                raise ET.ParseError("declarations are not read")
            root = ET.fromstring(config)
        except ET.ParseError as error:
            raise Refusal(
                422, f"the labelling configuration is no XML ({error})", "see Settings, Labeling Interface"
            ) from error
        images = {tag.get("name", ""): tag.get("value", "") for tag in root.iter("Image")}
        tags = [t for t in root.iter() if t.tag in ("RectangleLabels", "Rectangle") and t.get("toName") in images]
        if not tags:
            hint = "<Image name=… value=$image/> with <RectangleLabels name=… toName=…> is needed"
            raise Refusal(422, "the labelling configuration has no boxes on an image", hint)
        tag = next((t for t in tags if t.tag == "RectangleLabels"), tags[0])
        labels = {(value := t.get("value", "")): t.get("expression") or value for t in tag.iter("Label")}
        text_field = (tag.get("model_text") or "").removeprefix("$")
        if not labels and not text_field:
            raise Refusal(
                422, f"<{tag.tag}> names no labels", 'add model_text="$field", a field that holds expressions'
            )
        image = tag.get("toName", "")
        return cls(
            tag.get("name", ""), image, images[image].removeprefix("$"), labels, text_field,
            *_numbers(tag, 1 if text_field else ALL),
        )  # fmt: skip

    def expressions(self, data: Mapping[str, Any]) -> list[str]:
        """Return the expressions of a task.

        Raises:
            Refusal: Its field holds none.
        """
        if not self.text_field:
            return list(dict.fromkeys(self.labels.values()))
        found = data.get(self.text_field)
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, Sequence) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise Refusal(
                422, f"the task has no expressions in its field '{self.text_field}'", "a text, or a list of them"
            )
        return list(dict.fromkeys(texts))

    def label_of(self, text: str) -> list[str]:
        """Return the label of an expression's boxes; empty for a ``<Rectangle>``."""
        folded = text.casefold()
        for label, expression in self.labels.items():
            if folded in (expression.casefold(), label.casefold()):
                return [label]
        return list(self.labels)[:1]

    def regions(
        self, texts: Sequence[str], results: Sequence[ExpressionResult], size: tuple[int, int]
    ) -> list[dict[str, Any]]:
        """Return the boxes of expressions as Label Studio's regions: percentages of the image."""
        width, height = size
        out = []
        for text, result in zip(texts, results, strict=True):
            labels = self.label_of(text)
            for box in result.boxes:
                x1, y1, x2, y2 = box.xyxy
                value: dict[str, Any] = {
                    "x": 100 * x1 / width, "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height, "rotation": 0,
                }  # fmt: skip
                kind = "rectanglelabels" if labels else "rectangle"
                value |= {kind: labels} if labels else {}
                number = hashlib.sha256(f"{text}{box.xyxy}".encode()).hexdigest()[:10]
                out.append(
                    {
                        "id": number, "from_name": self.name, "to_name": self.image, "type": kind, "value": value,
                        "original_width": width, "original_height": height, "image_rotation": 0,
                        "score": round(box.conf, 6), "meta": {"text": [text]},
                    }
                )  # fmt: skip
        return out


def _numbers(tag: ET.Element, topk: int) -> tuple[float | None, int]:
    """Return threshold and boxes per expression of a tag."""
    given, many = tag.get("model_score_threshold"), tag.get("model_topk")
    try:
        conf = None if given is None else float(given)
        count = topk if many is None else ALL if many == "all" else int(many)
        if (conf is not None and not 0 <= conf <= 1) or not 1 <= count <= ALL:
            raise ValueError
    except ValueError as error:
        hint = f"a number from 0 to 1, and a whole one from 1 to {ALL} or all"
        raise Refusal(422, f"model_score_threshold={given} or model_topk={many} cannot be used", hint) from error
    return conf, count


class LabelTasks(BaseModel):
    """A request of Label Studio; what else it says is not needed."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    tasks: list[dict[str, Any]]
    label_config: str | None = None


Ground = Callable[[Request, Callable[[], bytes], Sequence[str], "float | None", int], Awaitable[Any]]
"""Grounds expressions in the image file that the function returns: results, and width and height of the image."""


def add_label_studio(app: FastAPI, link: LabelStudio, ground: Ground, limits: Limits, version: str) -> None:
    """Add the end points of the backend.

    Args:
        app: The service.
        link: Where Label Studio is.
        ground: Grounds expressions in an image, with the limits of the service.
        limits: Limits of requests.
        version: Name of the model, which Label Studio keeps with each prediction.
    """
    token = {"key": ""}  # what Label Studio handed over when it was connected; the environment goes first
    about = {"model_version": version}

    @app.get("/health", summary="Label Studio: is the backend there?")
    async def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "optisar", **about}

    @app.post("/setup", summary="Label Studio: connect a project")
    async def setup(request: Request) -> dict[str, Any]:
        said = await _body(request)
        token["key"] = str(said.get("access_token") or token["key"])
        config = said.get("schema") or said.get("label_config")
        if isinstance(config, str) and config.strip():
            BoxControl.of(config)  # a configuration without boxes is told now, not with the first task
        return about

    @app.get("/versions", summary="Label Studio: versions of the model")
    async def versions() -> dict[str, Any]:
        return {"versions": [version], "message": "one model is open"}

    @app.post("/webhook", summary="Label Studio: events; nothing is learned from them")
    async def webhook() -> dict[str, Any]:
        return {"status": "ignored"}

    @app.post("/predict", summary="Label Studio: boxes for tasks")
    async def predict(request: Request, said: LabelTasks) -> dict[str, Any]:
        if len(said.tasks) > MOST_TASKS:
            raise Refusal(422, f"{len(said.tasks)} tasks; at most {MOST_TASKS} are accepted", "send fewer at once")
        control = BoxControl.of(said.label_config or "")
        key = os.environ.get(KEY_NAME) or token["key"]
        out, refused = [], []
        for number, task in enumerate(said.tasks, 1):
            try:
                data = task.get("data")
                address = data.get(control.field) if isinstance(data, Mapping) else None
                if not isinstance(data, Mapping) or not isinstance(address, str) or not address:
                    raise Refusal(422, f"the task has no image in its field '{control.field}'", "see <Image value=…>")
                texts = control.expressions(data)
                read = partial(link.fetch, address, key, limits)
                results, size = await ground(request, read, texts, control.conf, control.topk)
            except Refusal as refusal:
                refused.append(refusal)
                LOGGER.warning(f"Label Studio task {task.get('id', number)}: {refusal}")
                out.append({"result": [], "score": 0.0, **about})
                continue
            regions = control.regions(texts, results, size)
            score = sum(r["score"] for r in regions) / len(regions) if regions else 0.0
            out.append({"result": regions, "score": score, **about})
        if refused and len(refused) == len(said.tasks):
            raise refused[0]  # Label Studio shows it; empty predictions would look as if nothing had been found
        return {"results": out, **about}


async def _body(request: Request) -> dict[str, Any]:
    """Return a JSON object that was sent; older versions of Label Studio send a form."""
    try:
        said = await request.json()
    except ValueError:
        said = dict(await request.form())
    return said if isinstance(said, dict) else {}
