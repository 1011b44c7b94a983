"""How cost grows with image size and number of expressions, beside YOLOE-11 of the same scale, and what asking saves.

    python benchmarks/scaling.py [--scale m] [--sizes 320 ... 1280] [--texts 1 ... 100] [--repeats 5] [--threads 2]
                                 [--engine PyTorch] [--only sizes texts asking]

adds to benchmarks/results/scaling.json and draws benchmarks/results/scaling.png. Sizes are measured with one
expression, numbers of expressions at --imgsz. YOLOE gets the expressions as classes, told beforehand. "asking" compares
encoding a image once for all its expressions, as validation and prediction do, with a full forward per expression of
the same network; both give the same answers. The contestants of one size or number are called round robin.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from engines import ONNX, OPENVINO, PYTORCH, Ask
from ours import KINDS, Ours
from peers import Stock
from timing import RESULTS, about, add_to_record, interleaved, pin, summary

SIZES = (320, 480, 640, 960, 1280)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 100)
ASKED = (1, 2, 4, 8)  # expressions per image; the data sets have 1 to 8
Cells = dict[str, dict[str, Any]]


class Field:
    """Both of our networks and YOLOE-11 of one scale.

    Args:
        options: The command line.
        folder: Where exports are written.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.scale = options, options.scale
        self.ours = [Ours(self.scale, kind, folder, options.threads) for kind in KINDS]
        self.peer = Stock(f"yoloe-11{self.scale}.yaml", self.scale, folder, options.threads)

    def calls(self, imgsz: int, texts: int) -> dict[str, Ask]:
        """All three, ready to answer, by name."""
        engine, found = self.options.engine, {}
        for model in (*self.ours, self.peer):
            inside = engine == PYTORCH
            found[model.name] = model.in_pytorch(imgsz, texts) if inside else model.exported(engine, imgsz, texts)
        return found

    def measure(self, axis: str, imgsz: int, texts: int) -> Cells:
        """One point of a curve."""
        print(f"{axis}: {imgsz} px, {texts} expressions", flush=True)
        taken = interleaved(self.calls(imgsz, texts), self.options.repeats, self.options.seconds)
        engine = self.options.engine
        about_it = {"axis": axis, "scale": self.scale, "engine": engine, "imgsz": imgsz, "texts": texts}
        return {
            f"{axis} | {name} | {engine} | {imgsz} | {texts}": {"name": name} | about_it | summary(runs)
            for name, runs in taken.items()
        }

    def asking(self, texts: int) -> Cells:
        """Expressions per second with the image encoded once, and with a full forward for each."""
        size = self.options.imgsz
        print(f"asking: {texts} sentences", flush=True)
        calls: dict[str, Ask] = {}
        for model in self.ours:
            calls[f"{model.name} | once"] = model.in_pytorch(size, texts)
            calls[f"{model.name} | each"] = model.one_by_one(size, texts)
        taken = interleaved(calls, self.options.repeats, self.options.seconds)
        cells: Cells = {}
        for model in self.ours:
            once, each = (summary(taken[f"{model.name} | {way}"]) for way in ("once", "each"))
            cells[f"asking | {model.name} | {PYTORCH} | {size} | {texts}"] = {
                "axis": "asking", "name": model.name, "scale": self.scale, "imgsz": size, "texts": texts,
                "once": once, "each": each,
                "expressions per second": [round(1e3 * texts / way["ms"], 2) for way in (once, each)],
                "gain": round(each["ms"] / once["ms"], 2),
            }  # fmt: skip
        return cells


def curve(cells: Cells, axis: str, name: str, scale: str, engine: str) -> list[tuple[int, float, float, float]]:
    """Points of a network's curve: (size or number, median, quartiles in ms), in order."""
    along = "imgsz" if axis == "sizes" else "texts"
    mine = [c for c in cells.values() if (c["axis"], c["name"], c["scale"]) == (axis, name, scale)]
    return sorted((c[along], c["ms"], *c["quartiles"]) for c in mine if c["engine"] == engine)


def draw(cells: Cells, scale: str, engine: str, path: Path) -> None:
    """Draw both curves of a scale: cost relative to YOLOE-11 at 640 pixels and one expression, on log axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    peer = f"YOLOE-11{scale}"
    looks = {f"optisar++{scale}": ("C0", "o"), f"optisar++{scale}-late": ("C2", "s"), peer: ("0.4", "^")}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    labels = {"sizes": "image size in pixels (1 expression)", "texts": "expressions of one image (640 pixels)"}
    for panel, (axis, label) in zip(axes, labels.items(), strict=True):
        reference = {x: ms for x, ms, *_ in curve(cells, axis, peer, scale, engine)}
        unit = reference.get(640 if axis == "sizes" else 1)
        for name, (colour, marker) in looks.items():
            points = curve(cells, axis, name, scale, engine)
            if not points or not unit:
                continue
            x, ms, low, high = ([p[i] for p in points] for i in range(4))
            panel.plot(x, [v / unit for v in ms], color=colour, marker=marker, label=name)
            band = ([v / unit for v in low], [v / unit for v in high])
            panel.fill_between(x, *band, color=colour, alpha=0.2, linewidth=0)
        panel.set(xscale="log", yscale="log", xlabel=label)
        ticks = sorted(reference)
        panel.set_xticks(ticks, [str(t) for t in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].set_ylabel(f"time, {peer} at 640 pixels = 1")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend()
    figure.suptitle(f"{engine} on a CPU, medians with quartiles", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure, write and draw; a point is written as soon as it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", default="m", choices=list("nsmlx"))
    parser.add_argument("--engine", default=PYTORCH, choices=[PYTORCH, ONNX, OPENVINO])
    parser.add_argument("--only", nargs="+", default=["sizes", "texts", "asking"])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--texts", type=int, nargs="+", default=list(TEXTS))
    parser.add_argument("--asked", type=int, nargs="+", default=list(ASKED))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of one contestant, after which it sits rounds out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    options = parser.parse_args()
    pin(options.threads)
    run = about(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        field = Field(options, Path(folder))
        points: list[tuple[str, int, int]] = []
        points += [("sizes", size, 1) for size in options.sizes if "sizes" in options.only]
        points += [("texts", options.imgsz, t) for t in options.texts if "texts" in options.only]
        for point in points:
            add_to_record(options.out, run, field.measure(*point))
        for texts in options.asked if "asking" in options.only else []:
            add_to_record(options.out, run, field.asking(texts))
        record = add_to_record(options.out, run, {})
    draw(record["cells"], options.scale, options.engine, options.out.with_suffix(".png"))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
