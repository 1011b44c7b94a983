"""The step ``stats``: numbers and figures of a written data set, as Figures 3 and 4 of the OptiSAR-Net++ paper.

As in the paper, the unit is the expression: an object with two expressions counts twice.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction.figures import ExpressionTally, distributions, word_figure
from optisar_yolo.construction.steps import WorkFolder, unwritable, write_json
from optisar_yolo.construction.validating import config_in
from optisar_yolo.data import DatasetConfig, load_dataset_config, load_split
from optisar_yolo.visualize import save_figure

SIDES = ("width", "height", "area")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LISTED = 200  # words of a cloud that are written down


def stats_step(work: WorkFolder, data: str, out: str | None) -> None:
    """Write ``stats.json``, ``distributions.png`` and ``words.png``, and print a short table.

    The arguments are the command's options.

    Raises:
        DataError: The data set cannot be read, or the results cannot be written.
    """
    config = load_dataset_config(config_in(data))
    folder = Path(out) if out else work.path / "stats"
    tally = tally_of(config)
    result = {"data": str(config.path), **stats(tally)}
    for line in table(result):
        LOGGER.info(line)
    if work.dry_run:
        return
    with unwritable("cannot be written", folder):
        write_json(folder / "stats.json", result)
        save_figure(distributions(tally), folder / "distributions.png")
        save_figure(word_figure(tally.clouds, work.seed), folder / "words.png")
    LOGGER.info(f"written to {folder}: stats.json, distributions.png, words.png")


def tally_of(config: DatasetConfig) -> ExpressionTally:
    """Read a data set, one split at a time.

    Raises:
        DataError: A split cannot be read.
    """
    tally = ExpressionTally(config.names, vocabulary=config.vocabulary, modalities=tuple(config.modalities))
    for split in config.splits:
        for image in TQDM(load_split(config, split), desc=f"stats {split}", unit=" images"):
            tally.add(image, split)
    return tally


def stats(tally: ExpressionTally) -> dict[str, Any]:
    """Return the numbers behind the figures as plain values: sizes in pixels, shares from 0 to 1."""
    total = len(tally.length)
    modality = np.asarray(tally.modality)
    category = np.asarray(tally.category)
    length = np.asarray(tally.length, dtype=np.int64)
    sizes: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for number, name in enumerate(tally.modalities):
        if (chosen := modality == number).any():
            sizes[name] = {side: summary(tally.values(side)[chosen]) for side in SIDES}
    area = tally.values("area")
    return {
        "unit": "expression",
        "splits": tally.splits
        | {"all": {k: sum(s[k] for s in tally.splits.values()) for k in next(iter(tally.splits.values()))}},
        "modalities": {
            name: {
                "pictures": tally.images[name],
                "expressions": int((modality == number).sum()),
                "share": round(float((modality == number).mean()), 4),
            }
            for number, name in enumerate(tally.modalities)
        },
        "sizes": sizes,
        "words": summary(length)
        | {"histogram": {str(n): int(c) for n, c in zip(*np.unique(length, return_counts=True), strict=True)}},
        "categories": {
            name: {"expressions": int(n), "share": round(n / total, 4), "area": summary(area[category == i])}
            for i, name in enumerate(tally.names)
            if (n := int((category == i).sum()))
        },
        "vocabulary": len(tally.clouds["words"]),
        "clouds": {name: dict(cloud.most_common(LISTED)) for name, cloud in tally.clouds.items()},
    }


def summary(values: np.ndarray) -> dict[str, float]:
    """Return mean, smallest and largest value and quantiles of one or more numbers."""
    named = {f"{q:.0%}": v for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
    numbers = {"mean": values.mean(), "min": values.min(), "max": values.max()} | named
    return {name: round(float(value), 2) for name, value in numbers.items()}


def table(result: dict[str, Any]) -> list[str]:
    """Return the lines to print."""
    lines = [f"{'split':<8}{'images':>10}{'objects':>10}{'expressions':>13}"]
    lines += [f"{s:<8}{n['pictures']:>10}{n['objects']:>10}{n['expressions']:>13}" for s, n in result["splits"].items()]
    for name, part in result["modalities"].items():
        lines.append(f"{name}: {part['pictures']} images, {part['expressions']} expressions ({part['share']:.1%})")
    lines.append(f"{result['words']['mean']} words per expression, {result['vocabulary']} different content words")
    largest = sorted(result["categories"].items(), key=lambda item: -item[1]["expressions"])
    lines.append("categories: " + ", ".join(f"{name} {part['share']:.1%}" for name, part in largest))
    return lines
