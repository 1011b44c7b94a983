"""The records of latency.py, scaling.py and training_step.py as Markdown tables.

    python benchmarks/speed_tables.py [--into benchmarks/README.md]

prints the tables, or puts each between its marks in a page: ``<!-- latency -->`` … ``<!-- /latency -->``, and so on for
``fastest``, ``eight``, ``text``, ``scaling``, ``asking``, ``training``, ``loading`` and ``exports``. What was not
measured is left empty.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from timing import RESULTS

from optisar_yolo.utils.files import write_atomic

Cell = dict[str, Any]
Cells = dict[str, Cell]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def short(value: float) -> str:
    """Three significant digits, as far as there are; never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def time_of(cell: Cell | None) -> str:
    """Median with the quartiles in milliseconds."""
    if cell is None:
        return ""
    if "failed" in cell:
        return "fails"
    low, high = cell["quartiles"]
    return f"{short(cell['ms'])} ({short(low)}–{short(high)})"


def timed_cells(cells: Cells) -> Cells:
    """Latencies of networks, without memory and text encoders, by scale."""
    found = {k: c for k, c in cells.items() if "engine" in c and not k.startswith("memory | ")}
    return dict(sorted(found.items(), key=lambda item: "nsmlx".index(item[1]["scale"])))


def of_texts(cells: Iterable[Cell]) -> dict[int, Cell]:
    """By number of expressions; for a network that reads one at a time the others are computed (``reckoned``)."""
    return {c["texts"]: c for c in cells}


def reckoned(mine: dict[int, Cell], texts: int) -> str:
    """A cell's text; of a network that reads one expression at a time the product, marked as such."""
    one = mine.get(1)
    if texts not in mine and one and one.get("one_by_one") and "ms" in one:
        return f"{texts} × {short(one['ms'])} = {short(texts * one['ms'])}"
    return time_of(mine.get(texts))


def latency(cells: Cells) -> str:
    """Every network in every engine: milliseconds by number of expressions, size, operations and peak memory."""
    timed = timed_cells(cells)
    texts = sorted({c["texts"] for c in timed.values()})
    head = ["network", "engine", "px", *(f"{t} sent." for t in texts), "parameters", "GFLOPs at 1", "peak MB at 1"]
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for c in timed.values():
        groups.setdefault((c["name"], c["engine"], c["imgsz"]), []).append(c)
    rows = []
    for (name, engine, size), group in groups.items():
        mine = of_texts(group)
        first = mine.get(texts[0], {})
        peak = cells.get(f"memory | {name} | {engine} | {size} | {texts[0]}", {}).get("peak_mb")
        star = "" if group[0]["exact"] else " *"
        millions = f"{first['parameters'] / 1e6:.2f} M" if "parameters" in first else ""
        operations = short(first["gflops"]) if "gflops" in first else ""
        rows.append([name, engine + star, str(size), *(reckoned(mine, t) for t in texts), millions, operations])
        rows[-1].append(f"{peak:.0f}" if peak else "")
    return markdown(head, rows)


def fastest(cells: Cells) -> str:
    """Each network in its fastest exact engine; ratios to one expression and to YOLOE-11 are of one run."""
    exact = [c for c in timed_cells(cells).values() if c["exact"] and "ms" in c]
    texts = sorted({c["texts"] for c in exact})
    best: dict[tuple[str, str, int], dict[int, Cell]] = {}
    for c in exact:
        mine = best.setdefault((c["name"], c["scale"], c["imgsz"]), {})
        if c["texts"] not in mine or c["ms"] < mine[c["texts"]]["ms"]:
            mine[c["texts"]] = c
    rows = []
    for (name, scale, size), mine in best.items():
        peer = best.get((f"YOLOE-11{scale}", scale, size), {}).get(1)
        one = mine.get(1)
        row = [name, str(size)]
        for t in texts:
            c = mine.get(t)
            growth = f", × {c['ms'] / one['ms']:.2f}" if c and one and t != 1 and c["run"] == one["run"] else ""
            row.append(f"{short(c['ms'])}{growth} ({c['engine']})" if c else "")
        row.append(f"{one['ms'] / peer['ms']:.2f}" if one and peer and one["run"] == peer["run"] else "")
        rows.append(row)
    head = ["network", "px", *(f"{t} sent., ms" for t in texts), "1 sent. / YOLOE-11 of the scale"]
    return markdown(head, rows)


def text(cells: Cells) -> str:
    """Text encoders: milliseconds by number of expressions."""
    mine = [c for k, c in cells.items() if k.startswith("text | ")]
    counts = sorted({c["texts"] for c in mine})
    rows = []
    for encoder in dict.fromkeys(c["encoder"] for c in mine):
        own = of_texts(c for c in mine if c["encoder"] == encoder)
        rows.append([encoder, *(time_of(own.get(t)) for t in counts)])
    return markdown(["text encoder", *(f"{t} sent., ms" for t in counts)], rows)


def scaling(cells: Cells) -> str:
    """Cost over image size and number of expressions, relative to YOLOE-11 of the same point."""
    lines = []
    for axis, along, title in (("sizes", "imgsz", "px, 1 sentence"), ("texts", "texts", "sentences")):
        mine = [c for c in cells.values() if c["axis"] == axis]
        for scale, engine in dict.fromkeys((c["scale"], c["engine"]) for c in mine):
            own = {(c["name"], c[along]): c for c in mine if (c["scale"], c["engine"]) == (scale, engine)}
            points = sorted({x for _, x in own})
            peer = f"YOLOE-11{scale}"
            rows = []
            for name in dict.fromkeys(name for name, _ in own):
                row = [name]
                for x in points:
                    c, reference = own.get((name, x)), own.get((peer, x))
                    ratio = f", × {c['ms'] / reference['ms']:.2f}" if c and reference and name != peer else ""
                    row.append(short(c["ms"]) + ratio if c else "")
                rows.append(row)
            lines.append(markdown([f"{engine}, ms by {title}", *map(str, points)], rows))
    return "\n\n".join(lines)


def asking(cells: Cells) -> str:
    """Expressions per second with the image encoded once and with a full forward for each."""
    mine = [c for c in cells.values() if c["axis"] == "asking"]
    rows = [
        [c["name"], str(c["texts"]), *(short(v) for v in c["expressions per second"]), f"{c['gain']:.2f}"]
        for c in sorted(mine, key=lambda c: (c["name"], c["texts"]))
    ]
    return markdown(["network", "sentences of a picture", "encoded once, /s", "a forward each, /s", "gain"], rows)


def training(cells: Cells) -> str:
    """Training steps: seconds, parts and relation to YOLOE-11."""
    mine = [c for k, c in cells.items() if k.startswith("step | ")]
    parts = list(mine[0]["parts_ms"]) if mine else []
    rows = []
    for c in mine:
        peer = f"times YOLOE-11{c['scale']}"
        row = [c["name"], c["precision"], time_of(c), short(c["cpu_ms"]), *(short(c["parts_ms"][p]) for p in parts)]
        rows.append([*row, f"{c[peer]:.2f}", f"{c[f'{peer}, cpu']:.2f}"])
    head = ["network", "precision", "step, ms", "CPU, ms", *parts, "× YOLOE-11", "× YOLOE-11, CPU"]
    return markdown(head, rows)


def loading(cells: Cells) -> str:
    """Loaders: milliseconds per batch."""
    mine = [c for k, c in cells.items() if k.startswith("loader | ")]
    rows = [[c["name"], str(c["imgsz"]), str(c["batch"]), time_of(c), short(c["cpu_ms"])] for c in mine]
    return markdown(["loader", "px", "batch", "a batch, ms", "CPU, ms"], rows)


def exports(cells: Cells) -> str:
    """Engines with the bundled weights: what they answer on the test split, and milliseconds."""
    names = list(next(iter(cells.values()))["test"])
    rows = [[c["engine"], *(f"{c['test'][n]:.1f}" for n in names), time_of(c)] for c in cells.values()]
    return markdown(["engine", *names, "a picture with two sentences, ms"], rows)


TABLES: dict[str, tuple[str, Callable[[Cells], str]]] = {
    "latency": ("latency.json", latency),
    "fastest": ("latency.json", fastest),
    "eight": ("latency-8bit.json", latency),
    "text": ("latency.json", text),
    "scaling": ("scaling.json", scaling),
    "asking": ("scaling.json", asking),
    "training": ("training-step.json", training),
    "loading": ("training-step.json", loading),
    "exports": ("exports.json", exports),
}


def tables(folder: Path) -> dict[str, str]:
    """All tables whose record is in the folder, by name."""
    found = {}
    for name, (file, write) in TABLES.items():
        if (folder / file).exists():
            found[name] = write(json.loads((folder / file).read_text(encoding="utf-8"))["cells"])
    return found


def put(page: str, found: dict[str, str]) -> str:
    """Put tables between their marks in a page; a table without marks in it is left out."""
    for name, table in found.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        page = between.sub(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", page)
    return page


def main() -> None:
    """Print the tables or put them into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    found = tables(options.results)
    if options.into:
        write_atomic(options.into, put(options.into.read_text(encoding="utf-8"), found))
    else:
        print("\n\n".join(f"## {name}\n\n{table}" for name, table in found.items()))


if __name__ == "__main__":
    main()
