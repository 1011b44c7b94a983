"""Accuracy for a millisecond: meanIoU beside the time of an image, over image sizes, networks and 32 or 8 bits.

    python benchmarks/frontier.py [--models optisar++n-pocket.safetensors …] [--sizes 256 320 416 512 640] [--bits 32 8]
                                  [--data benchmarks/optsar-real.yaml] [--split val] [--limit 0] [--threads 2]
                                  [--repeats 30]

adds to benchmarks/results/frontier.json, and draws all of the record as frontier.png beside it. 32 bits run in ONNX
Runtime, 8 bits in OpenVINO, whose ranges come from the validation split. The figures are those of ``val`` with the
network alone (an export does not choose among objects); the time is that of one image of the split with two
expressions, encoding of text apart, all networks and sizes called in turn. A point is on the frontier if no other is
as accurate in less time. Further weights, such as other scales or a ``baseline`` trained on the same data, are
``--models`` of their own; each can be measured in another run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exports import CONFIG, EXPRESSIONS, call_of, exported
from matplotlib.figure import Figure
from timing import RESULTS, about, add_to_record, interleaved, pin, summary
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.data import load_dataset_config, load_split, read_image
from optisar_yolo.engine import canvas, find_weights
from optisar_yolo.utils import BUNDLED_MODEL

ENGINES = {32: "ONNX Runtime", 8: "OpenVINO, 8 bits"}
LINES = {32: "-", 8: "--"}
Cells = Mapping[str, dict[str, Any]]


def options_of(bits: int, data: Path, images: int, imgsz: int) -> dict[str, Any]:
    """Return the options of an export."""
    if bits == 32:
        return {"format": "onnx", "imgsz": imgsz}
    return {"format": "openvino", "quantize": 8, "data": str(data), "fraction": images, "imgsz": imgsz}


def accuracy(model: OptiSAR, args: argparse.Namespace, imgsz: int, folder: str, share: float) -> dict[str, float]:
    """Return the figures of a share of the split in percent."""
    options: dict[str, Any] = {"project": folder, "plots": False, "reason": False, "batch": 1, "fraction": share}
    found = model.val(data=str(args.data), split=args.split, imgsz=imgsz, **options).results_dict
    names = {"meanIoU": "meanIoU(all)", "Pr@0.5": "Pr@0.5(all)"}
    return {name: round(100 * found[f"metrics/{key}"], 2) for name, key in names.items()}


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Export, validate and time every network at every size; the measurements by name."""
    split = load_split(load_dataset_config(args.data), args.split)
    image, share = read_image(split[0].path), min(args.limit or len(split), len(split)) / len(split)
    cells: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(args.models):
            weights = find_weights(name)
            for bits in args.bits:
                # 8 bits: the ranges of the largest size hold for the smaller ones, where the same layers run
                wanted = options_of(bits, args.data, args.images, max(args.sizes))
                model = OptiSAR(exported(weights, Path(folder) / f"{i}-{bits}", wanted))
                for imgsz in args.sizes:
                    key = f"{weights.stem} | {bits} | {imgsz}"
                    cells[key] = {"model": weights.name, "bits": bits, "engine": ENGINES[bits], "imgsz": imgsz}
                    cells[key] |= {"texts": EXPRESSIONS, "split": args.split, "limit": args.limit}
                    cells[key] |= accuracy(model, args, imgsz, folder, share)
                    images, extent = (t[None] for t in canvas(image, imgsz))
                    calls[key] = call_of(model, images, extent)
                    LOGGER.info(f"{key}: {cells[key]}")
        for key, taken in interleaved(calls, args.repeats, say=LOGGER.info).items():
            cells[key] |= summary(taken)
    return cells


def frontier(cells: Cells) -> list[str]:
    """Return the names of the points that no other is as accurate as in less time, the fastest first."""
    best, found = -1.0, []
    for name, cell in sorted(cells.items(), key=lambda item: (item[1]["ms"], -item[1]["meanIoU"])):
        if cell["meanIoU"] > best:
            best = cell["meanIoU"]
            found.append(name)
    return found


def table(cells: Cells) -> str:
    """Return the points as a Markdown table, by time; those on the frontier are bold."""
    on = set(frontier(cells))
    lines = ["| network | bits | px | ms | meanIoU | Pr@0.5 |", "|---|---:|---:|---:|---:|---:|"]
    for name, cell in sorted(cells.items(), key=lambda item: item[1]["ms"]):
        low, high = cell["quartiles"]
        mean = f"{cell['meanIoU']:.1f}"
        row = [Path(cell["model"]).stem, cell["bits"], cell["imgsz"], f"{cell['ms']:.1f} ({low:.1f}–{high:.1f})"]
        row += [f"**{mean}**" if name in on else mean, f"{cell['Pr@0.5']:.1f}"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def draw(cells: Cells, path: Path) -> None:
    """Draw meanIoU over milliseconds: a line per network and bits, the frontier in grey behind."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    on = [cells[name] for name in frontier(cells)]
    axes.plot([c["ms"] for c in on], [c["meanIoU"] for c in on], color="0.8", linewidth=8, solid_capstyle="round")
    lines = sorted({(Path(c["model"]).stem, c["bits"]) for c in cells.values()}, key=lambda line: (line[0], -line[1]))
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(name for name, _ in lines))}
    for name, bits in lines:
        own = [c for c in cells.values() if (Path(c["model"]).stem, c["bits"]) == (name, bits)]
        own.sort(key=lambda c: c["imgsz"])
        x, y = [c["ms"] for c in own], [c["meanIoU"] for c in own]
        label = f"{name}, {bits} bits"
        axes.plot(x, y, marker="o", color=colours[name], linestyle=LINES.get(bits, ":"), label=label)
        for cell in own:
            axes.annotate(f"{cell['imgsz']}", (cell["ms"], cell["meanIoU"]), (4, 4), textcoords="offset points", size=8)
    axes.set_xlabel("milliseconds for an image with two expressions (numbers: pixels of the longer side)")
    axes.set_ylabel("meanIoU, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[BUNDLED_MODEL], help="weights files")
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 320, 416, 512, 640], help="pixels")
    parser.add_argument("--bits", nargs="+", type=int, default=[32, 8], choices=list(ENGINES))
    parser.add_argument("--data", type=Path, default=CONFIG)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0, help="images of the split; 0 for all")
    parser.add_argument("--images", type=int, default=150, help="that ranges for 8 bits are measured on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS / "frontier.json")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, record, draw."""
    args = arguments(words)
    if words is None:
        pin(args.threads)
    run = about(args.threads)
    record = add_to_record(args.out, run, measure(args))
    draw(record["cells"], args.out.with_suffix(".png"))
    print(table(record["cells"]))
    print(f"written to {args.out} and {args.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
