"""``optisar serve``: run the HTTP service."""

from __future__ import annotations

import os
from typing import Any

from optisar_yolo.plugin import SETTINGS
from optisar_yolo.serve import Limits
from optisar_yolo.utils import (
    BUNDLED_MODEL,
    Command,
    Option,
    SettingError,
    UsageError,
    check_address,
    need,
    options_of,
)

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "limits", "python_multipart")
GRACE = 10  # seconds in which running requests may end after an interrupt
LIMITS = options_of(Limits)
ENGINE = SETTINGS["engine"]

COMMAND = Command(
    "serve",
    "run an HTTP service that grounds expressions in uploaded images",
    options=(
        Option("host", "name", "127.0.0.1", "address to listen on", example="0.0.0.0"),
        Option("port", "int", 8000, "port to listen on", low=0, high=65535),
        Option("model", "file", BUNDLED_MODEL, "weights or an export"),
        Option("imgsz", "int", None, "long side of images in the network; chosen by the image by default", low=32),
        Option("label_studio", "name", None, "be a backend of this Label Studio too", example="http://localhost:8080"),
        Option("label_files", "file", None, "folder of Label Studio's local files, where it is on this machine"),
        ENGINE,
        *LIMITS,
    ),
    example="model=best.pt port=8000",
)


def main(values: dict[str, Any]) -> None:
    """Run the service until it is interrupted.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: A rate that cannot be read.
        MissingExtraError: The packages of the extra ``serve`` are not installed.
        FileNotFoundError: No such weights.
        ValueError: Weights that cannot be used, or an address that is taken.
    """
    for package in PACKAGES:
        need(package)
    import uvicorn

    from optisar_yolo.serve import LabelStudio, allow_connections, create_app, uvicorn_settings

    check_address(values["host"], values["port"])
    try:
        limits = Limits(**{o.name: values[o.name] for o in LIMITS})
        link = LabelStudio(values["label_studio"], values["label_files"]) if values["label_studio"] else None
        if link is None and values["label_files"]:
            raise UsageError("label_files= needs label_studio=, the address of Label Studio")
        app = create_app(values["model"], limits, values["imgsz"], link, values["engine"])
    except SettingError as error:
        raise UsageError(str(error)) from error
    allow_connections(limits)
    uvicorn.run(
        app,
        host=values["host"],
        port=values["port"],
        **uvicorn_settings(limits),
        timeout_graceful_shutdown=GRACE,
        access_log=bool(os.environ.get("OPTISAR_ACCESS_LOG")),
    )
