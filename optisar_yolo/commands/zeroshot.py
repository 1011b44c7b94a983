"""``optisar zeroshot``: ground the expressions of a data set with a zero-shot model of Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.utils import Command, Option

COMMAND = Command(
    "zeroshot",
    "ground the expressions of a data set with a zero-shot model of Hugging Face",
    options=(
        Option(
            "model",
            "name",
            None,
            "folder, or name on the hub",
            example="IDEA-Research/grounding-dino-tiny or google/owlv2-base-patch16-ensemble",
            required=True,
        ),
        Option("data", "file", None, "dataset config", example="optsar.yaml", required=True),
        Option("split", "name", "test", "its split"),
        Option("save", "file", "predictions.json", "file of predictions to write, for optisar score"),
        Option("batch", "int", 4, "captions in one forward pass, for models that take one caption an image", low=1),
        Option("device", "name", None, "as in Ultralytics", example="cpu"),
        Option("fraction", "float", 1.0, "share of the images that is used", low=0, high=1),
    ),
    first="model",
    example="IDEA-Research/grounding-dino-tiny data=optsar.yaml split=test save=dino.json",
)


def main(values: dict[str, Any]) -> None:
    """Ground a split, show the table of ``val``, and write the predictions.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        ZeroShotError: A model that cannot be used.
        DataError: Data that cannot be used.
    """
    from ultralytics.utils import LOGGER

    from optisar_yolo.data import load_dataset_config, load_split
    from optisar_yolo.engine import SECTIONS, write_predictions
    from optisar_yolo.evaluation import ZeroShotGrounder, ground_split

    config, save = load_dataset_config(values["data"]), Path(values["save"])
    images = load_split(config, values["split"], values["fraction"])
    grounder = ZeroShotGrounder(values["model"], values["device"], values["batch"])
    metrics, cases = ground_split(grounder, images, config)
    write_predictions(save, cases, config, values["split"])
    LOGGER.info(metrics.table(SECTIONS))
    if grounder.cut:
        LOGGER.warning(
            f"{grounder.name}: {grounder.cut} of {grounder.read} expressions are longer than the {grounder.tokens} "
            "tokens it reads, and were cut"
        )
    LOGGER.info(f"{save}: boxes of {len(cases)} expressions; optisar score {save} data={values['data']} scores them")
