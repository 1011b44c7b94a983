"""QGIS plugin: grounds referring expressions in rasters with the installed command ``optisar``."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802 - QGIS calls it by this name
    """Return the plugin; QGIS calls this when it loads it."""
    from .plugin import GroundingPlugin

    return GroundingPlugin()
