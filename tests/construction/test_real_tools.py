"""Objects under review through the converter of Label Studio's SDK, where a Python has it (OPTISAR_LABELS_PYTHON)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_interchange import exported, imported, work  # noqa: F401 - a fixture

PYTHON = os.environ.get("OPTISAR_LABELS_PYTHON", sys.executable)

LABEL_STUDIO = """
import json, sys
from pathlib import Path
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
folder = Path(sys.argv[1])
how = {"out_type": "annotations", "image_root_url": "/data/upload/1"}
convert_coco_to_ls(str(folder / "out.json"), str(folder / "tasks.json"), **how)
tasks = json.loads((folder / "tasks.json").read_text())
for number, task in enumerate(tasks, 1):  # what an export of Label Studio's has beside
    task["id"] = number
    for annotation in task["annotations"]:
        annotation |= {"id": number, "completed_by": 1, "was_cancelled": False}
    if sys.argv[2:] and number == 1:
        task["annotations"][0]["result"][0]["value"]["x"] += 10
(folder / "export.json").write_text(json.dumps(tasks))
names = [c["name"] for c in json.loads((folder / "out.json").read_text())["categories"]]
labels = "".join(f'<Label value="{n}"/>' for n in names)
boxes = f'<RectangleLabels name="label_rectangles" toName="image">{labels}</RectangleLabels>'
config = f'<View><Image name="image" value="$image"/>{boxes}</View>'
Converter(config, str(folder), download_resources=False).convert_to_coco(
    str(folder / "export.json"), str(folder / "back"), is_dir=False)
(folder / "back.json").write_text((folder / "back" / "result.json").read_text())
"""


def through(tool, package, folder, *args):
    """Run a program of another Python; skip where that lacks the package."""
    if subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True).returncode:
        pytest.skip(f"{package} is not installed (OPTISAR_LABELS_PYTHON names a Python that has it)")
    done = subprocess.run([PYTHON, "-c", tool, str(folder), *args], capture_output=True, text=True, timeout=200)
    assert not done.returncode, done.stdout + done.stderr
    return json.loads((folder / "back.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moved", [False, True])
def test_label_studio_there_and_back(work, moved):  # noqa: F811
    before = exported(work, show="all")
    content = through(LABEL_STUDIO, "label_studio_sdk", work, *(["move"] if moved else []))
    assert len(content["annotations"]) == len(before["annotations"])
    assert len(imported(work, content, show="all")) == (1 if moved else 0)
