"""Data-set construction at full size: real expressions, blank pictures; counts, rates, time and memory of every step.

Run from the repository root, with a folder that holds DIOR_RSVG_{train,val,test}.json, OPT_RSVG_… and
DIOR_RSVG_official_index_… (lists of {"image", "bbox_xyxy", "phrase", "category"}; the category may be missing):

    python benchmarks/build_full.py --captions FOLDER [--folder KEPT] [--jobs 2]

writes benchmarks/results/build.json. The sources are made of the lists in the form in which their authors publish them:
VOC XML, and for DIOR-RSVG the split's files of running object numbers; the import has to find the official split in it
again. Where a list names no category, the expression's own noun is taken. DIOR-RSVG's pictures are 800 x 800; those of
OPT-RSVG are of unknown sizes, and get the smallest usual square that holds their boxes, so that its truth rates say
little. Every step runs in a process of its own, whose peak memory is recorded.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from PIL import Image
from ultralytics.utils import TQDM

from optisar_yolo import resources
from optisar_yolo.build.samples import SampleFile
from optisar_yolo.build.steps import output_of
from optisar_yolo.language import parse

SPLITS = ("train", "val", "test")
SIDES = (256, 512, 800, 1024, 1500, 2000, 3000, 4000, 6000, 10_000)
"""Sides of the blank pictures of OPT-RSVG, in pixels."""
STEPS: dict[str, tuple[str, ...]] = {"import": ()}
"""Steps to run in their order, each with further words of its command line."""

Record = dict[str, Any]
Key = tuple[str, tuple[float, ...], str]


def load(folder: Path, name: str) -> dict[str, list[Record]]:
    """Read the three lists of a data set.

    Raises:
        SystemExit: A file is missing.
    """
    try:
        return {s: json.loads((folder / f"{name}_{s}.json").read_text(encoding="utf-8")) for s in SPLITS}
    except OSError as error:
        raise SystemExit(f"{error.filename} is missing; --captions names the folder of the lists") from error


def make_source(root: Path, records: Iterable[Record], side: int | None) -> dict[Key, int]:
    """Write XML and blank pictures, and return the running number of every expression.

    Args:
        root: The source's folder.
        records: Its expressions; those of a picture in their order.
        side: Of its square pictures in pixels; None takes one of `SIDES` for each.
    """
    pictures: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        pictures[record["image"]].append(record)
    numbers: dict[Key, int] = {}
    for name in sorted(pictures):
        for record in pictures[name]:
            numbers[key_of(record)] = len(numbers)
    names = sorted(pictures)
    random.Random(0).shuffle(names)  # the order on the disk must not matter
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in TQDM(names, desc=root.name):
        far = max(max(r["bbox_xyxy"]) for r in pictures[name])
        width = side or next(s for s in SIDES if s >= far)
        (root / "JPEGImages" / name).with_suffix(".png").write_bytes(blank(width, name))
        (root / "Annotations" / name).with_suffix(".xml").write_bytes(to_xml(name, pictures[name], width))
    return numbers


def key_of(record: Record) -> Key:
    """Return what tells an expression from all others."""
    return record["image"], tuple(record["bbox_xyxy"]), record["phrase"].strip()


def to_xml(name: str, records: list[Record], side: int) -> bytes:
    """Return a picture's annotation in the form of DIOR-RSVG."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = name
    sides = ET.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (side, side, 3), strict=True):
        ET.SubElement(sides, tag).text = str(value)
    for record in records:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = record.get("category") or parse(record["phrase"]).category or "unknown"
        corners = ET.SubElement(element, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), record["bbox_xyxy"], strict=True):
            ET.SubElement(corners, tag).text = f"{value:g}"
        ET.SubElement(element, "description").text = record["phrase"]
    return ET.tostring(root, encoding="utf-8")


@cache
def _png(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def blank(side: int, comment: str) -> bytes:
    """Return a black PNG with a comment, which keeps blank pictures from being the same file."""
    body = b"tEXt" + b"Comment\0" + comment.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = 12  # bytes of the chunk that closes a PNG
    return _png(side)[:-end] + chunk + _png(side)[-end:]


def make_sources(captions: Path, root: Path) -> Path:
    """Write both sources and a recipe for them, and return the recipe's path."""
    dior, official = load(captions, "DIOR_RSVG"), load(captions, "DIOR_RSVG_official_index")
    numbers = make_source(root / "DIOR-RSVG", (r for s in SPLITS for r in dior[s]), 800)
    for split in SPLITS:
        lines = sorted(numbers[key_of(r)] for r in official[split])
        (root / "DIOR-RSVG" / f"{split}.txt").write_text("".join(f"{n}\n" for n in lines), encoding="utf-8")
    opt = load(captions, "OPT_RSVG")
    make_source(root / "OPT-RSVG", (r for s in SPLITS for r in opt[s]), None)
    recipes = [
        yaml.safe_load(resources.find("datasets", f"recipes/{name}").read_text(encoding="utf-8"))
        for name in ("dior-rsvg.yaml", "opt-rsvg.yaml")
    ]
    sources = [source for recipe in recipes for source in recipe["sources"]]
    names = list(dict.fromkeys(name for source in sources for name in source["categories"].values()))
    path = root / "captions.yaml"
    path.write_text(yaml.safe_dump({"name": "captions", "names": names, "sources": sources}), encoding="utf-8")
    return path


def official_split(work: Path, captions: Path) -> dict[str, Any]:
    """Compare the imported split of DIOR-RSVG with the official one, expression by expression."""
    found: dict[str, Counter[Key]] = {split: Counter() for split in SPLITS}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for sample in SampleFile(output_of(work, "import")):
        if sample.source == "dior-rsvg":
            image = Path(sample.name).with_suffix(".jpg").name
            for instance in sample.instances:
                found[instance.split][image, instance.box, instance.captions[0]] += 1
                splits_of[image].add(instance.split)
    official = {s: Counter(map(key_of, rows)) for s, rows in load(captions, "DIOR_RSVG_official_index").items()}
    return {
        "expressions": {split: found[split].total() for split in SPLITS},
        "same": {split: found[split] == official[split] for split in SPLITS},
        "pictures": len(splits_of),
        "pictures in several splits": sum(len(splits) > 1 for splits in splits_of.values()),
    }


def run_step(step: str, words: Iterable[str], work: Path) -> dict[str, Any]:
    """Run a step in a process of its own, and return what its manifest says of the work.

    Raises:
        SystemExit: The step failed.
    """
    command = [sys.executable, "-m", "optisar_yolo", "dataset", step, f"work={work}", *words]
    if subprocess.run(command).returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    manifest = json.loads((work / step / "manifest.json").read_text(encoding="utf-8"))
    return {k: manifest[k] for k in ("seconds", "peak_memory_mib", "counts", "problems", "examples")}


def main() -> None:
    """Make the sources, run the steps, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where sources and steps are kept; else a folder that is removed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "build.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        recipe = folder / "sources" / "captions.yaml"
        if not recipe.is_file():
            make_sources(args.captions, folder / "sources")
        work = folder / "work"
        record: dict[str, Any] = {"machine": f"{platform.machine()}, Python {platform.python_version()}", "steps": {}}
        for step, words in STEPS.items():
            if step == "import":
                words = (*words, f"recipe={recipe}", f"root={recipe.parent}")
            record["steps"][step] = run_step(step, (*words, f"jobs={args.jobs}"), work)
        record["official split of DIOR-RSVG"] = official_split(work, args.captions)
    for step, facts in record["steps"].items():
        print(f"{step:<10}{facts['seconds']:>8.1f} s {facts['peak_memory_mib']:>6} MiB  {facts['counts']}")
    print("official split of DIOR-RSVG:", record["official split of DIOR-RSVG"])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
