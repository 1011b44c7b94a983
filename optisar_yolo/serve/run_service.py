"""``optisar serve``: run the HTTP service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from optisar_yolo.serve.limits import Limits
from optisar_yolo.utils import BUNDLED_MODEL, need, typed

LIMITS: dict[str, Any] = {f.name: f.default for f in fields(Limits)}
DEFAULTS: dict[str, Any] = {"host": "127.0.0.1", "port": 8000, "model": BUNDLED_MODEL, "imgsz": 0, **LIMITS}
PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "limits", "python_multipart")
GRACE = 10  # seconds in which requests that were begun may end


def main(options: dict[str, str]) -> None:
    """Run ``optisar serve host=… port=… model=…`` until it is interrupted.

    Args:
        options: ``host``, ``port``, ``model``, ``imgsz`` (that of training by default) and the limits of
            :class:`~optisar_yolo.serve.limits.Limits`.

    Raises:
        UsageError: A value of another type.
        MissingExtraError: The packages of the extra ``serve`` are not installed.
        FileNotFoundError: No such weights.
        ValueError: Weights or limits that cannot be used.
    """
    settings = typed(options, DEFAULTS)
    limits = limits_of(settings)
    for package in PACKAGES:
        need(package)
    import uvicorn

    from optisar_yolo.serve.answers import Engine
    from optisar_yolo.serve.service import create_app

    engine = Engine(settings["model"], settings["imgsz"] or None, limits.remembered)
    uvicorn.run(
        create_app(engine, limits),
        host=settings["host"],
        port=settings["port"],
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        access_log=bool(os.environ.get("OPTISAR_ACCESS_LOG")),
    )


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """Return the limits among the settings of a command."""
    return Limits(**{name: settings[name] for name in LIMITS if name in settings})
