"""``optisar explain``: why an expression got its box, and which experts work where."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from optisar_yolo.utils import BUNDLED_MODEL, Command, Option, UsageError, results_folder

OF_IMAGES = (
    Option("source", "file", None, "image, folder, pattern or list of images (.txt) to explain", example="port.jpg"),
    Option("text", "texts", None, "expression, or a list of them"),
    Option("conf", "float", None, "confidence threshold; that of predict by default", low=0, high=1),
)
OF_SPLIT = (
    Option("data", "file", None, "dataset config, to explain a split instead of images", example="optsar.yaml"),
    Option("split", "name", None, "split of data; test by default"),
    Option("batch", "int", None, "images in a batch; 16 by default", low=1),
    Option("fraction", "float", None, "share of the split that is validated; all by default", low=0, high=1),
    Option("n", "int", None, "images of each modality in the routing maps; 4 by default", low=1),
)
COMMAND = Command(
    "explain",
    "show the score, activation and expert maps behind a box, or of a data split: index.html and figures",
    options=(
        *OF_IMAGES,
        *OF_SPLIT,
        Option("model", "file", BUNDLED_MODEL, "weights (.pt, .safetensors) or a model YAML; no export"),
        Option("imgsz", "int", None, "long side of images in the network; as in predict by default", low=32),
        Option("device", "name", None, "as in Ultralytics", example="cpu"),
        Option("text_weights", "file", None, "weights of the text encoder, where it does not bring its own"),
        Option("project", "file", None, "folder of the runs; runs/detect by default"),
        Option("name", "name", "explain", "name of the run"),
        Option("exist_ok", "bool", False, "write into a folder of that name that is there already"),
    ),
    example='source=port.jpg text="the SAR ship in the upper left"',
)


def main(values: dict[str, Any]) -> None:
    """Explain images or a data split.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: Neither ``source`` nor ``data``, both, or an option of the other.
        ExplainError: An export, or a fused model.
    """
    given = {k: v for k, v in values.items() if v is not None}
    if ("source" in given) == ("data" in given):
        raise UsageError('explain needs source=<image> text="…", or data=<dataset config> split=test')
    form, others = ("source", OF_SPLIT) if "source" in given else ("data", OF_IMAGES)
    for option in others:
        if option.name in given:
            raise UsageError(f"'{option.name}=' does not go with '{form}='")
    if form == "source" and "text" not in given:
        raise UsageError('explain needs an expression: text="the ship in the upper left"')

    from ultralytics.cfg import get_save_dir
    from ultralytics.utils import LOGGER, colorstr
    from ultralytics.utils.torch_utils import select_device

    from optisar_yolo.api import OptiSAR
    from optisar_yolo.engine import checked_expressions
    from optisar_yolo.explain import Explainer, checked_network, explain_images, explain_split

    texts = checked_expressions(values["text"]) if form == "source" else []
    model = OptiSAR(values["model"])
    checked_network(model.model)
    device = select_device(values["device"], verbose=False) if "device" in given else None
    explainer = Explainer(model, values["imgsz"], values["conf"], values["text_weights"], device)
    project = str(results_folder("detect", values["project"]))
    folder = get_save_dir(
        SimpleNamespace(**values | {"project": project}, task="detect", mode="explain", save_dir=None)
    )
    if form == "source":
        for note in explainer.notes:
            LOGGER.info(note)
        page = explain_images(explainer, values["source"], texts, folder)
    else:
        keys = ("data", "split", "batch", "fraction", "device", "text_weights", "imgsz")
        settings = {"split": "test", "batch": 16} | {k: given[k] for k in keys if k in given}
        page = explain_split(model, explainer, settings, values["n"] or 4, folder)
    LOGGER.info(f"Results saved to {colorstr('bold', folder)}; open {page}")
