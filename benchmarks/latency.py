"""What asking an image T expressions costs: our networks beside other detectors that take text, in every engine.

    python benchmarks/latency.py [--scales n s m] [--imgsz 640] [--texts 1 8 32] [--repeats 7] [--threads 2]
                                 [--only NAME ...] [--int8 optisar++m-late=FOLDER] [--memory] [--folder FOLDER]

adds to benchmarks/results/latency.json. One call is image tensor to boxes and confidences; text encoding is measured
apart. All networks of a scale are called round robin, so that what else the machine does falls on all alike; a figure
is a median with quartiles. Weights are random. ``--memory`` measures, instead of time, the peak memory of a process
that does nothing else. ``--only`` keeps the contestants whose "name | engine" contains one of the words.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from engines import INEXACT, PYTORCH, Ask, Contestant
from ours import KINDS, Ours
from peers import NEED, caption, has_transformers, of_transformers, stock
from timing import RESULTS, about, add_to_record, interleaved, pin, summary
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.utils import LOGGER

from optisar_yolo.text import load_text_encoder

BESIDE = "m"  # the scale that networks without scales are measured beside


def contestants(options: argparse.Namespace, scale: str, folder: Path) -> list[Contestant]:
    """All that are measured together: our networks of a scale and their peers, those asked for."""
    int8 = dict(word.partition("=")[::2] for word in options.int8)
    found: list[Contestant] = []
    for kind in KINDS:
        given = int8.get(f"optisar++{scale}{kind}")
        found += Ours(scale, kind, folder, options.threads, Path(given) if given else None).contestants()
    for model in stock(scale, folder, options.threads):
        found += model.contestants()
    if scale == BESIDE and has_transformers():
        found += of_transformers(own_sizes=not options.alike)
    elif scale == BESIDE:
        LOGGER.warning(f"left out: {NEED}")
    return [c for c in found if not options.only or any(word in c.key for word in options.only)]


def plan(chosen: list[Contestant], imgsz: int, texts: list[int]) -> list[tuple[Contestant, int, int]]:
    """What is measured of each: (contestant, image size, expressions)."""
    cells = []
    for c in chosen:
        for size in dict.fromkeys((imgsz, *c.sizes)):
            cells += [(c, size, t) for t in ([1] if c.one_by_one else texts)]
    return cells


def name_of(c: Contestant, imgsz: int, texts: int) -> str:
    """Name of a measurement in the record."""
    return f"{c.key} | {imgsz} | {texts}"


def describe(c: Contestant, imgsz: int, texts: int) -> dict[str, Any]:
    """What a measurement is of."""
    cell = {"name": c.name, "scale": c.scale, "engine": c.engine, "imgsz": imgsz, "texts": texts}
    cell |= {"exact": c.engine not in INEXACT, "one_by_one": c.one_by_one}
    return cell | ({"own way": c.own} if c.own else {})


def counted(ground: Ask) -> float:
    """Operations of a call in units of 1e9, of convolutions and matrix products (a multiply and an add are two)."""
    with FlopCounterMode(display=False) as counter:
        ground()
    return round(counter.get_total_flops() / 1e9, 2)


def time_scale(options: argparse.Namespace, scale: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Measure one scale; the measurements by name."""
    cells: dict[str, dict[str, Any]] = {}
    calls: dict[str, Ask] = {}
    for c, size, texts in plan(contestants(options, scale, folder), options.imgsz, options.texts):
        name = name_of(c, size, texts)
        print(f"preparing {name}", flush=True)
        try:
            call = c.prepare(size, texts)
            boxes, conf = call()
        except RuntimeError as error:  # an engine that cannot run a network says so in its place
            LOGGER.warning(f"{name}: {error}")
            cells[name] = describe(c, size, texts) | {"failed": str(error).strip().splitlines()[-1]}
            continue
        assert boxes.shape == (texts, 4) and conf.shape == (texts,), f"{name}: {boxes.shape}, {conf.shape}"
        calls[name], cells[name] = call, describe(c, size, texts)
        if c.engine == PYTORCH:
            cells[name]["gflops"] = counted(call)
            if c.network is not None:
                cells[name]["parameters"] = sum(p.numel() for p in c.network(size, texts).parameters())
    taken = interleaved(calls, options.repeats, options.seconds, lambda text: print(f"{scale}: {text}", flush=True))
    for name, runs in taken.items():
        cells[name] |= summary(runs)
    return cells


def time_text(texts: list[int], repeats: int) -> dict[str, dict[str, Any]]:
    """Measure encoding of expressions: our packaged encoder and those of peers, random, as far as they are here."""
    words = ["the {} ship in the upper left beside the long pier", "the {} storage tank at the bottom of the picture"]
    pocket = load_text_encoder("pocket")
    calls: dict[str, Callable[[], object]] = {}
    whose: dict[str, tuple[str, int]] = {}

    def add(encoder: str, t: int, call: Callable[[], object]) -> None:
        calls[f"text | {encoder} | {t}"] = call
        whose[f"text | {encoder} | {t}"] = (encoder, t)

    for t in texts:
        said = [words[i % 2].format(("white", "grey", "small", "large")[i % 4] + str(i)) for i in range(t)]
        add("pocket (ours)", t, lambda said=said: pocket.encode(said))
        if has_transformers():
            from transformers import BertConfig, BertModel, Owlv2TextConfig
            from transformers.models.owlv2.modeling_owlv2 import Owlv2TextModel

            bert = BertModel(BertConfig()).eval()
            clip = Owlv2TextModel(Owlv2TextConfig()).eval()
            ids = torch.cat([caption(i) for i in range(t)])
            add("BERT-base (Grounding DINO)", t, lambda m=bert, ids=ids: m(input_ids=ids))
            add("CLIP's (OWLv2-B; YOLO-World's is as large)", t, lambda m=clip, ids=ids: m(input_ids=ids))
    with torch.inference_mode():
        taken = interleaved(calls, repeats)
    return {k: {"encoder": whose[k][0], "texts": whose[k][1]} | summary(v) for k, v in taken.items()}


def peak() -> float:
    """Most memory that this process has held so far, in MB."""
    unit = 1024 if sys.platform != "darwin" else 1  # Linux counts KiB, macOS bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def child(options: argparse.Namespace, folder: Path) -> None:
    """Run one contestant alone in its process with more and more expressions, and print the peak memory after each."""
    found: dict[str, float] = {"imports alone": peak()}
    chosen = [c for s in options.scales for c in contestants(options, s, folder) if c.key == options.child]
    for c, size, texts in plan(chosen, options.imgsz, sorted(options.texts)):
        call = c.prepare(size, texts)
        call()
        call()
        found[name_of(c, size, texts)] = peak()
    print(json.dumps(found))


def memory(options: argparse.Namespace, scale: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Measure the peak memory of every contestant of a scale in a process of its own."""
    cells: dict[str, dict[str, Any]] = {}
    for c in contestants(options, scale, folder):
        base = [sys.executable, __file__, "--child", c.key, "--scales", scale, "--folder", str(folder), "--alike"]
        base += ["--imgsz", str(options.imgsz), "--threads", str(options.threads), "--int8", *options.int8]
        base += ["--texts", *map(str, options.texts)]
        # the first process writes the exports, which takes memory of its own; the second finds them
        for _ in range(1 if c.engine.startswith(PYTORCH) else 2):
            done = subprocess.run(base, capture_output=True, text=True)
        if done.returncode:
            LOGGER.warning(f"{c.key}: {done.stderr.strip().splitlines()[-1]}")
            continue
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        imports = found.pop("imports alone")
        for name, megabytes in found.items():
            size, texts = map(int, name.split(" | ")[-2:])
            described = describe(c, size, texts) | {"peak_mb": megabytes, "imports_mb": imports}
            cells[f"memory | {name}"] = described
        print(c.key, found, flush=True)
    return cells


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scales", nargs="+", default=["n", "s", "m"], choices=list("nsmlx"))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 8, 32], help="expressions of one image")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--seconds", type=float, default=6, help="of one contestant, after which it sits rounds out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--int8", nargs="*", default=[], metavar="MODEL=FOLDER", help="OpenVINO int8 exports")
    parser.add_argument("--alike", action="store_true", help="no image sizes but --imgsz")
    parser.add_argument("--memory", action="store_true", help="measure peak memory, not time")
    parser.add_argument("--folder", type=Path, help="keep exports there; a temporary one by default")
    parser.add_argument("--out", type=Path, default=RESULTS / "latency.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> None:
    """Measure and write; a scale is written as soon as it is done."""
    options = arguments()
    pin(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.child:
            child(options, folder)
            return
        run = about(options.threads)
        measure = memory if options.memory else time_scale
        for scale in options.scales:
            add_to_record(options.out, run, measure(options, scale, folder))
            gc.collect()
        if not options.memory and not options.only:
            add_to_record(options.out, run, time_text(options.texts, options.repeats))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
