"""``optisar app``: open the browser app."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.serve.limits import Limits
from optisar_yolo.serve.run_service import limits_of
from optisar_yolo.utils import BUNDLED_MODEL, need, typed

KEYS = ("max_mib", "max_pixels", "max_sentences", "max_words", "max_characters", "remembered")
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 7860,
    "model": BUNDLED_MODEL,
    "share": False,
    "browser": False,
    **{f.name: f.default for f in fields(Limits) if f.name in KEYS},
}
LOCAL = ("127.0.0.1", "localhost", "::1")


def main(options: dict[str, str]) -> None:
    """Run ``optisar app host=… port=… model=…`` until it is interrupted.

    Args:
        options: ``host``, ``port``, ``model`` (several with commas: the first is the default), ``share`` (a public
            address by gradio's servers), ``browser`` (open one), and some of the limits of
            :class:`~optisar_yolo.serve.limits.Limits`.

    Raises:
        UsageError: A value of another type.
        MissingExtraError: The package gradio is not installed.
        ValueError: Weights or limits that cannot be used, or a port that is taken.
    """
    settings = typed(options, DEFAULTS)
    limits = limits_of(settings)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    need("gradio")
    from optisar_yolo.serve.app import Desk
    from optisar_yolo.serve.models import Models

    alone = settings["host"] in LOCAL and not settings["share"]
    names = [name.strip() for name in settings["model"].split(",") if name.strip()]
    desk = Desk(Models([*names, BUNDLED_MODEL], alone, limits), limits)
    if not alone:
        LOGGER.warning("whoever reaches this address can ask images; uploads and results are kept for an hour")
    try:
        launch(desk, settings["host"], settings["port"], share=settings["share"], browser=settings["browser"])
    except OSError as error:
        raise ValueError(f"{settings['host']}:{settings['port']}: the app cannot be served there ({error})") from error
    finally:
        desk.folder.remove()


def launch(desk: Any, host: str, port: int, share: bool = False, browser: bool = False, block: bool = True) -> Any:
    """Serve the app.

    Args:
        desk: What happens on the page (:class:`optisar_yolo.serve.app.Desk`).
        host: Address to listen on.
        port: Port to listen on.
        share: Ask gradio's servers for a public address.
        browser: Open one.
        block: Return when it is interrupted, not at once.

    Returns:
        The page, which ``close()`` takes down.

    Raises:
        OSError: It cannot be served there.
    """
    from optisar_yolo.serve.app import STYLE, THEME, build

    page = build(desk).queue(max_size=32)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        inbrowser=browser,
        prevent_thread_lock=not block,
        theme=THEME,
        css=STYLE,
        max_file_size=desk.limits.max_bytes,
        ssr_mode=False,
        run_history=False,
        footer_links=["api", "settings"],
    )
    return page
