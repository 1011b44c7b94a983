"""What the order of values in memory costs: networks for inference with the channels first and with the channels last.

    python benchmarks/channels.py [--scales n s m] [--repeats 15] [--threads 2]

adds to benchmarks/results/channels.json: milliseconds from picture tensor to the best box of one sentence in PyTorch,
both forms called in turn, and by how much their boxes and confidences differ. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from engines import picture, sentences
from ours import Ours
from timing import RESULTS, about, add_to_record, interleaved, pin, summary

from optisar_yolo.engine.asking import ask
from optisar_yolo.nn.model import GroundingModel, fused_copy

CASES = ((640, 1), (320, 1), (320, 16))  # side of the pictures, how many


def compare(scale: str, kind: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Measure a network in both orders, each case by itself."""
    ours = Ours(scale, kind, Path(gettempdir()), torch.get_num_threads())
    last = fused_copy(ours.build())
    forms = {"first": copy.deepcopy(last).to(memory_format=torch.contiguous_format), "last": last}
    text = sentences(1, ours.text_dim)[0]
    cells = {}
    for side, count in CASES:
        img, rows = picture(side).repeat(count, 1, 1, 1), torch.arange(count)

        @torch.inference_mode()
        def call(
            model: GroundingModel, img: torch.Tensor = img, rows: torch.Tensor = rows
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return ask(model, model.encode(img), rows, text.repeat(len(rows), 1))

        (boxes, conf), (other_boxes, other_conf) = (call(forms[name]) for name in ("first", "last"))
        taken = interleaved({name: lambda model=model: call(model) for name, model in forms.items()}, repeats)
        before, after = (summary(taken[name]) for name in ("first", "last"))
        cells[f"{ours.name} | {side} | {count} pictures"] = {
            "channels first": before,
            "channels last": after,
            "ratio": round(after["ms"] / before["ms"], 3),
            "boxes differ by": float((boxes - other_boxes).abs().max()),
            "confidences differ by": float((conf - other_conf).abs().max()),
        }
    return cells


def main() -> None:
    """Measure, print and add to the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scales", nargs="+", default=["n", "s", "m"], choices=list("nsmlx"))
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    pin(args.threads)
    torch.set_flush_denormal(True)  # random weights make many, which processors are slow on
    run = about(args.threads)
    for scale in args.scales:
        for kind in ("", "-late"):
            cells = compare(scale, kind, args.repeats)
            add_to_record(RESULTS / "channels.json", run, cells)
            for name, cell in cells.items():
                print(f"{name}: {cell['channels first']['ms']} -> {cell['channels last']['ms']} ms, x {cell['ratio']}")


if __name__ == "__main__":
    main()
