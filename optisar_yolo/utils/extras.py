"""Optional dependencies: imported where they are used, and named where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

EXTRAS: dict[str, tuple[str, str]] = {  # package: extra, and what needs it
    **dict.fromkeys(("onnx", "onnxruntime"), ("export", "this export needs")),
    **dict.fromkeys(("openvino", "nncf"), ("openvino", "this export needs")),
    "rasterio": ("geo", "TIFF files and rasters need"),
    "bokeh": ("geo", "rasters need"),
    "pandas": ("table", "tables of pandas need"),
    "polars": ("table", "tables need"),
    "gradio": ("apps", "this command needs"),
    **dict.fromkeys(("ray", "pyarrow"), ("batch", "this command needs")),
    **dict.fromkeys(
        ("fastapi", "uvicorn", "prometheus_client", "limits", "python_multipart"), ("serve", "this command needs")
    ),
}


class MissingExtraError(ImportError, ValueError):
    """An optional dependency is not installed. Also a ``ValueError``, which commands report without a traceback."""


def need(name: str) -> ModuleType:
    """Import an optional dependency, or a module of one.

    Args:
        name: A key of :data:`EXTRAS`, or one of its modules, such as ``rasterio.warp``.

    Raises:
        MissingExtraError: It is not installed; the message says how to get it. Nothing is installed unasked.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if error.name != package:  # installed, but something that it needs is not
            raise
        extra, who = EXTRAS[package]
        raise MissingExtraError(
            f"{who} the package {package}, which is not installed: pip install 'optisar-yolo[{extra}]'"
        ) from error
