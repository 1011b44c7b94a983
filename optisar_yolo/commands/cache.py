"""``optisar cache``: the graphs that prediction on a CPU keeps for itself."""

from __future__ import annotations

import time
from typing import Any

from optisar_yolo.utils import BUNDLED_MODEL, Command, Option

HELP = "show, clear or fill the cache of graphs that engine= runs"

COMMANDS = {
    "show": Command("cache show", "list the graphs: weights, size, when they were used, milliseconds by engine"),
    "clear": Command("cache clear", "remove all graphs; they are made again when they are needed"),
    "make": Command(
        "cache make",
        "make the graph of a weights file and try the engines now, so that the first prediction uses the fastest",
        options=(
            Option("model", "file", BUNDLED_MODEL, "weights"),
            Option("imgsz", "int", None, "long side of images in the trial; that of training by default", low=32),
            Option("threads", "int", None, "threads of the trial; those of PyTorch by default", low=1),
            Option("background", "bool", False, "at the lowest priority, and not where another process does it"),
        ),
        example="model=best.pt",
    ),
}


def main(name: str, values: dict[str, Any]) -> None:
    """Run one of the commands.

    Args:
        name: A key of :data:`COMMANDS`.
        values: Its options.

    Raises:
        FileNotFoundError: No such weights.
        ValueError: Weights that cannot be used, or give no graph.
        MissingExtraError: No engine is installed.
    """
    from optisar_yolo.export import GraphCache

    cache = GraphCache()
    if name == "make":
        _make(cache, values)
    elif name == "clear":
        size = sum(entry.size for entry in cache.entries())
        print(f"{cache.clear()} graphs removed, {size / 1e6:.0f} MB ({cache.root})")
    else:
        entries = cache.entries()
        print(
            f"{cache.root}: {len(entries)} graphs, {sum(e.size for e in entries) / 1e6:.0f} MB of "
            f"{cache.limit / 1e6:.0f}"
        )
        for entry in entries:
            print(
                f"  {entry.about.get('weights') or 'unnamed weights'}  {entry.size / 1e6:.1f} MB  version "
                f"{entry.about.get('version')}  used {time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.used))}"
            )
            for times in cache.trials(entry.path.name).values():
                print("    " + ", ".join(f"{engine} {ms:.1f} ms" for engine, ms in times.items()))


def _make(cache: Any, values: dict[str, Any]) -> None:
    """Make a graph and try the engines."""
    import os

    import torch

    from optisar_yolo.api import OptiSAR
    from optisar_yolo.export import PACKAGE, ExportError, installed, key_of, make_graph, needs_torch, try_engines
    from optisar_yolo.nn import GroundingModel
    from optisar_yolo.utils import locked, need

    if not installed():
        need("onnx")
        need(PACKAGE["onnx"])
    if values["background"] and hasattr(os, "nice"):
        os.nice(19)
    if values["threads"]:
        torch.set_num_threads(values["threads"])
    opened = OptiSAR(values["model"])
    if not isinstance(opened.model, GroundingModel):
        raise ValueError(f"{values['model']}: an export is a graph already; give the weights that it was made from")
    if reason := needs_torch(opened.model):
        raise ValueError(f"{values['model']}: no graph can be made: {reason}")
    key, imgsz = key_of(opened.model), values["imgsz"] or opened.imgsz
    with locked(cache.root / f"{key}.making.lock", wait=not values["background"]) as mine:
        if mine is None:
            return
        try:
            make_graph(opened.model, key, cache, str(opened.model_name).replace("\\", "/").rpartition("/")[2], imgsz)
        except ExportError as error:
            raise ValueError(f"{values['model']}: {error}") from error
        times = try_engines(opened.model, key, cache, imgsz, torch.get_num_threads())
    print(f"{values['model']}: " + ", ".join(f"{engine} {ms:.1f} ms" for engine, ms in times.items()))
