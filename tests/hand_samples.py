"""Samples made by hand, for tests of single steps of data-set construction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from optisar_yolo.commands import dataset
from optisar_yolo.construction.recipe import Recipe, recipe_of
from optisar_yolo.construction.samples import Instance, Sample, write_lines

SIZE = (600, 300)  # width, height: not square, so that mixing up x and y shows
NAMES = ["optical ship", "optical harbor", "optical dam", "sar ship"]


def instance(id: str, box: Any, category: str, *captions: Any, **more: Any) -> Instance:
    return Instance(id, tuple(box) if isinstance(box, list) else box, category, list(captions), **more)


def image(name: str, *instances: Instance, source: str = "own", path: str = "", **more: Any) -> Sample:
    return Sample(name, path or name, source, "optical", *SIZE, list(instances), **more)


def recipe(**more: Any) -> Recipe:
    own = {"name": "own", "format": "voc", "path": "own", "modality": "optical", "categories": {"*": "optical ship"}}
    return recipe_of({"name": "test", "names": NAMES, "sources": [own | more.pop("own", {})], **more}, "test")


def write_image(file: Path, seed: int, size: tuple[int, int] = SIZE) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(file)
    return str(file)


def begin(work: Path, samples: list[Sample], made_with: Recipe, step: str = "import") -> None:
    """Write what a step would have left in a work folder, and the manifest of the import."""
    write_lines(work / step / "samples.jsonl", samples)
    for name in {step, "import"}:
        note = work / name / "manifest.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"options": {"recipe": made_with.as_dict()}}))


def run(step: str, work: Path, **options: Any) -> int:
    """Run a step of ``optisar dataset`` with some options."""
    return dataset.main(step, dataset.COMMANDS[step].values({"work": work} | options))
