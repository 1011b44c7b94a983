"""Data-set construction at full size: real expressions, blank images; counts, rates, time and memory of every step.

Run from the repository root, with a folder that holds DIOR_RSVG_{train,val,test}.json, OPT_RSVG_… and
DIOR_RSVG_official_index_… (lists of {"image", "bbox_xyxy", "phrase", "category"}; the category may be missing):

    python benchmarks/build_full.py --captions FOLDER [--folder KEPT] [--jobs 2]

writes benchmarks/results/build.json, and 200 rewritten captions to read to build-sample.md. All is done twice, the
second time with half of the images: time should halve, and memory stay or halve. The sources are made of the lists in
the form in which their authors publish them: VOC XML, and for DIOR-RSVG the split's files of running object numbers;
the import has to find the official split in it again. Where a list names no category, the expression's noun is taken.
DIOR-RSVG's images are 800 x 800; those of OPT-RSVG are of unknown sizes, and get the smallest usual square that holds
their boxes, so that its truth rates say little. Every step runs in a process of its own, whose peak memory is recorded.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from PIL import Image
from ultralytics.utils import TQDM

from optisar_yolo.construction.samples import SampleFile
from optisar_yolo.construction.steps import output_of
from optisar_yolo.language import parse
from optisar_yolo.plugin import resources

SPLITS = ("train", "val", "test")
SIDES = (256, 512, 800, 1024, 1500, 2000, 3000, 4000, 6000, 10_000)
"""Sides of the blank images of OPT-RSVG, in pixels."""
STEPS: dict[str, tuple[str, ...]] = {
    "import": ("recipe={recipe}", "root={root}"),
    "clean": (),
    "transform": (),
    "split": (),
    "write": ("to={to}",),
    "validate": ("data={to}", "hash=False"),  # mirrored copies of blank images are the same file
    "stats": ("data={to}",),
}
"""Steps to run in their order, each with further words of its command line."""
SHARES = (1.0, 0.5)
SAMPLE = 200
REPORTED = ("counts", "problems", "examples", "percent", "expressions", "findings")

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
    """Write XML and blank images, and return the running number of every expression.

    Args:
        root: The source's folder.
        records: Its expressions; those of an image in their order.
        side: Of its square images in pixels; None takes one of `SIDES` for each.
    """
    images: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        images[record["image"]].append(record)
    numbers: dict[Key, int] = {}
    for name in sorted(images):
        for record in images[name]:
            numbers[key_of(record)] = len(numbers)
    names = sorted(images)
    random.Random(0).shuffle(names)  # the order on the disk must not matter
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in TQDM(names, desc=root.name):
        far = max(max(r["bbox_xyxy"]) for r in images[name])
        width = side or next(s for s in SIDES if s >= far)
        (root / "JPEGImages" / name).with_suffix(".png").write_bytes(blank(width, name))
        (root / "Annotations" / name).with_suffix(".xml").write_bytes(to_xml(name, images[name], width))
    return numbers


def key_of(record: Record) -> Key:
    """Return what tells an expression from all others."""
    return record["image"], tuple(record["bbox_xyxy"]), record["phrase"].strip()


def to_xml(name: str, records: list[Record], side: int) -> bytes:
    """Return an image's annotation in the form of DIOR-RSVG."""
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
    """Return a black PNG with a comment, which keeps blank images from being the same file."""
    body = b"tEXt" + b"Comment\0" + comment.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = 12  # bytes of the chunk that closes a PNG
    return _png(side)[:-end] + chunk + _png(side)[-end:]


def kept(record: Record, share: float) -> bool:
    """Tell whether a record's image belongs to a share of all images, whichever records are asked about."""
    return zlib.crc32(record["image"].encode()) < share * 2**32


def make_sources(captions: Path, root: Path, share: float) -> Path:
    """Write both sources and a recipe for them, and return the recipe's path."""
    lists = {name: load(captions, name) for name in ("DIOR_RSVG", "DIOR_RSVG_official_index", "OPT_RSVG")}
    for parts in lists.values():
        for split, records in parts.items():
            parts[split] = [r for r in records if kept(r, share)]
    dior, official, opt = lists.values()
    numbers = make_source(root / "DIOR-RSVG", (r for s in SPLITS for r in dior[s]), 800)
    for split in SPLITS:
        lines = sorted(numbers[key_of(r)] for r in official[split])
        (root / "DIOR-RSVG" / f"{split}.txt").write_text("".join(f"{n}\n" for n in lines), encoding="utf-8")
    make_source(root / "OPT-RSVG", (r for s in SPLITS for r in opt[s]), None)
    recipes = [
        yaml.safe_load(resources.find_packaged("datasets", f"recipes/{name}").read_text(encoding="utf-8"))
        for name in ("dior-rsvg.yaml", "opt-rsvg.yaml")
    ]
    sources = [source for recipe in recipes for source in recipe["sources"]]
    if share < 1:
        for source in sources:
            source.pop("expect", None)
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
    """Run a step in a process of its own, and return its time, its peak memory and what it reports.

    Raises:
        SystemExit: The step failed.
    """
    command = [sys.executable, "-m", "optisar_yolo", "dataset", step, f"work={work}", *words]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    record: dict[str, Any] = {
        "seconds": round(time.perf_counter() - start, 1),  # with the start of Python
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),  # what other work on the machine does not stretch
        "peak_memory_mib": usage.ru_maxrss >> 10,
    }
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    for name in ("manifest", "validation", "report"):
        if (file := work / step / f"{name}.json").is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            record |= {k: content[k] for k in REPORTED if k in content}
    return record


def rewritten(work: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield every caption that a copy has in other words than its original: id, transform, before, after."""
    originals: dict[str, list[str]] = {}
    for sample in SampleFile(output_of(work, "transform")):
        if not sample.transform:
            originals = {i.id: i.captions for i in sample.instances}  # copies stand right behind their original
            continue
        for instance in sample.instances:
            before = originals[instance.id.removesuffix(f"@{sample.transform}")]
            for caption in instance.captions:
                if caption not in before:
                    yield instance.id, sample.transform, " / ".join(before), caption


def false_by_source(work: Path) -> dict[str, dict[str, int]]:
    """Return how many captions of each source the boxes disprove, as `transform` flags them."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"captions": 0, "false": 0})
    for sample in SampleFile(output_of(work, "transform")):
        for instance in sample.instances if not sample.transform else ():
            counts[sample.source]["captions"] += len(instance.captions)
            counts[sample.source]["false"] += sum(flag.startswith("false:") for flag in instance.flags)
    return dict(counts)


def write_sample(work: Path, file: Path) -> None:
    """Write some rewritten captions in a form to read: what was said of the object, and what is said now."""
    found = sorted(rewritten(work))
    chosen = sorted(random.Random(0).sample(found, min(SAMPLE, len(found))), key=lambda row: row[1:])
    lines = [
        "# Rewritten captions",
        "",
        f"{len(chosen)} of {len(found)} captions that `optisar dataset transform` gave to copies in other words than",
        "the original's, drawn at random by `benchmarks/build_full.py`.",
        "",
        "| transform | before | after |",
        "|---|---|---|",
        *(f"| {transform} | {before} | {after} |" for _, transform, before, after in chosen),
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_chain(share: float, folder: Path, captions: Path, jobs: int) -> dict[str, Any]:
    """Make the sources, run all steps, and return what they report."""
    recipe = folder / "sources" / "captions.yaml"
    if not recipe.is_file():
        make_sources(captions, folder / "sources", share)
    work = folder / "work"
    given = {"recipe": recipe, "root": recipe.parent, "to": folder / "set"}
    return {
        step: run_step(step, [w.format(**given) for w in words] + [f"jobs={jobs}"], work)
        for step, words in STEPS.items()
    }


def main() -> None:
    """Run all steps on all images and on half of them, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where sources and steps are kept; else a folder that is removed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "build.json")
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    record: dict[str, Any] = {"machine": machine, "shares": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for share in SHARES:
            part = folder / f"share-{share}"
            record["shares"][str(share)] = run_chain(share, part, args.captions, args.jobs)
            if share == 1:
                record["official split of DIOR-RSVG"] = official_split(part / "work", args.captions)
                record["captions that their boxes disprove"] = false_by_source(part / "work")
                write_sample(part / "work", args.output.with_name("build-sample.md"))
    for share, steps in record["shares"].items():
        print(f"share of the images: {share}")
        for step, facts in steps.items():
            counts = facts.get("counts", "")
            took = f"{facts['seconds']:>8.1f} s {facts['cpu_seconds']:>8.1f} s CPU {facts['peak_memory_mib']:>6} MiB"
            print(f"  {step:<10}{took}  {counts}")
    print("official split of DIOR-RSVG:", record["official split of DIOR-RSVG"])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
