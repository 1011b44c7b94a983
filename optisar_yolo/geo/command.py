"""``optisar scene``: ask expressions of a GeoTIFF of any size."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from optisar_yolo.geo.options import SceneOptions, read_expressions, read_options
from optisar_yolo.utils import BUNDLED_MODEL

DEFAULTS: dict[str, Any] = {
    "source": None, "text": None, "model": None, "text_weights": None,
    **{f.name: f.default for f in fields(SceneOptions)},
}  # fmt: skip


def main(options: dict[str, str]) -> None:
    """Run ``optisar scene source=scene.tif text="the leftmost ship"``.

    Args:
        options: ``source``, ``text`` (an expression, or a list of them), ``model`` (the packaged weights by default),
            ``text_weights``, and the attributes of :class:`~optisar_yolo.geo.options.SceneOptions`.

    Raises:
        ValueError: No source, no expression, or a value that means nothing.
    """
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.geo.run import ground_scene

    words = dict(options)
    source, text = words.pop("source", None), words.pop("text", None)
    if source is None or text is None:
        raise ValueError('optisar scene needs a scene and an expression: source=scene.tif text="the leftmost ship"')
    weights, text_weights = words.pop("model", BUNDLED_MODEL), words.pop("text_weights", None)
    how = read_options(words)
    said = read_expressions(text)
    model = OptiSAR(weights)
    if text_weights:
        model.overrides["text_weights"] = text_weights
    ground_scene(model, source, said, how)
