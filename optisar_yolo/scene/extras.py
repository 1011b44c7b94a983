"""Optional dependencies of scenes."""

from __future__ import annotations

import importlib
from types import ModuleType

from optisar_yolo.engine.runtimes import MissingExtraError

EXTRA = "geo"


def need(name: str) -> ModuleType:
    """Import a module of the extra ``geo``.

    Args:
        name: A module, such as ``rasterio.warp``.

    Raises:
        MissingExtraError: It is not installed; the message says how to get it. Nothing is installed unasked.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if error.name != package:  # installed, but something that it needs is not
            raise
        raise MissingExtraError(
            f"scenes need the package {package}, which is not installed: pip install 'optisar-yolo[{EXTRA}]'"
        ) from error
