"""``optisar annotate``: boxes and captions for images that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.annotate import AnnotateOptions
from optisar_yolo.utils import BUNDLED_MODEL, Command, Option, options_of, results_folder

COMMAND = Command(
    "annotate",
    "find boxes and captions for images without labels, as COCO JSON for people to review",
    options=(
        Option("source", "file", None, "folder, image or pattern", example="images", required=True),
        Option(
            "pool",
            "file",
            None,
            "captions: .txt, .json, .csv or a dataset config",
            example="captions.txt",
            required=True,
        ),
        Option("model", "file", BUNDLED_MODEL, "weights; exports cannot be used"),
        Option("split", "name", "train", "split of a dataset config whose captions are used"),
        Option("column", "name", "caption", "column of a CSV file that holds the captions"),
        *options_of(AnnotateOptions),
        Option("device", "name", None, "as in Ultralytics", example="cpu"),
        Option("text_weights", "file", None, "weights of the text encoder, where it does not bring its own"),
        Option("project", "file", None, "folder of the runs; runs/annotate by default"),
        Option("name", "name", "annotate", "folder of the run"),
        Option("exist_ok", "bool", False, "write into that folder even if it exists"),
        Option("resume", "bool", False, "continue an interrupted run in that folder"),
        Option("preview", "int", 12, "images in the preview; 0 for none", low=0),
    ),
    example="source=images pool=captions.txt conf=0.6",
)


def main(values: dict[str, Any]) -> None:
    """Annotate the images, and write the result into a folder.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        ValueError: Input that cannot be used.
    """
    import torch
    from ultralytics.utils import LOGGER
    from ultralytics.utils.files import increment_path
    from ultralytics.utils.torch_utils import select_device

    from optisar_yolo.annotate import Annotator, annotate_images, find_images, load_pool
    from optisar_yolo.api import OptiSAR

    options = AnnotateOptions(**{o.name: values[o.name] for o in options_of(AnnotateOptions)})
    find_images(values["source"])  # errors come before anything is loaded
    pool = load_pool(values["pool"], values["split"], values["column"])
    model = OptiSAR(values["model"])
    device = select_device(values["device"] or "", verbose=False)
    if isinstance(model.model, torch.nn.Module):
        model.model.to(device)
    annotator = Annotator(model, pool, options, values["text_weights"], Path(values["pool"]).absolute().parent)
    folder = results_folder("annotate", values["project"]) / values["name"]
    folder = folder if values["resume"] else increment_path(folder, exist_ok=values["exist_ok"])
    LOGGER.info(f"{len(pool)} captions, confidence {annotator.options.conf:.3g}, into {folder}")
    result = annotate_images(annotator, values["source"], folder, values["resume"], values["preview"])
    LOGGER.info(result.summary())
