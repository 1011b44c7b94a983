"""``optisar app``: open the browser app."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from optisar_yolo.plugin import SETTINGS
from optisar_yolo.serve import Limits
from optisar_yolo.utils import BUNDLED_MODEL, Command, Option, check_address, need, options_of

LIMITS = tuple(o for o in options_of(Limits) if o.name.startswith("max_") or o.name == "remembered")
LOCAL = ("127.0.0.1", "localhost", "::1")

COMMAND = Command(
    "app",
    "open a browser app: upload an image, type expressions, see boxes and score maps",
    options=(
        Option("host", "name", "127.0.0.1", "address to listen on", example="0.0.0.0"),
        Option("port", "int", 7860, "port to listen on", low=0, high=65535),
        Option(
            "model", "file", BUNDLED_MODEL, "weights or exports to choose from, with commas; the first is the default"
        ),
        Option("share", "bool", False, "request a public address from Gradio's servers"),
        Option("browser", "bool", False, "open a browser"),
        SETTINGS["engine"],
        *LIMITS,
    ),
    example="model=best.pt,other.safetensors browser=True",
)


def main(values: dict[str, Any]) -> None:
    """Run the app until it is interrupted.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        MissingExtraError: The package gradio, or the engine that is asked for, is not installed.
        ValueError: Weights that cannot be used, or a port that is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    need("gradio")
    check_address(values["host"], values["port"])
    uploads = tempfile.TemporaryDirectory(prefix="optisar-app-uploads-", ignore_cleanup_errors=True)
    own = os.environ.setdefault("GRADIO_TEMP_DIR", uploads.name) == uploads.name  # read when gradio is imported, too
    from ultralytics.utils import LOGGER

    from optisar_yolo.serve import AppHandlers, ModelChoice, launch_app

    host, port, share = values["host"], values["port"], values["share"]
    limits = Limits(**{o.name: values[o.name] for o in LIMITS})
    alone = host in LOCAL and not share
    names = [name.strip() for name in values["model"].split(",") if name.strip()]
    handlers = AppHandlers(ModelChoice([*names, BUNDLED_MODEL], alone, limits, values["engine"]), limits)
    if not alone:
        LOGGER.warning("everyone who reaches this address can use the app; uploads and results are kept for an hour")
    try:
        launch_app(handlers, host, port, share=share, browser=values["browser"])
    except OSError as error:
        raise ValueError(f"{host}:{port}: the app cannot be served there ({error})") from error
    finally:
        handlers.folder.remove()
        uploads.cleanup()
        if own:
            del os.environ["GRADIO_TEMP_DIR"]
