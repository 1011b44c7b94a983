"""Time of fused networks in PyTorch with channels-first and with channels-last memory format.

    python benchmarks/channels.py [--scales n s m] [--repeats 15] [--threads 2]

adds to benchmarks/results/channels.json: milliseconds from image tensor to the best box of one expression in PyTorch,
both forms called in turns, and by how much their boxes and confidences differ. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from engines import expressions, image
from ours import Ours
from timing import RESULTS, about, add_to_record, interleaved, pin, summary

from optisar_yolo.engine.grounding import ground
from optisar_yolo.nn.model import GroundingModel

CASES = ((640, 1), (320, 1), (320, 16))  # side of the images, how many


@torch.inference_mode()
def best(model: GroundingModel, img: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ground the expression [1, D] in B images: the best box of each and its confidence."""
    return ground(model, model.encode(img), torch.arange(len(img)), text.expand(len(img), -1))


def measure(scale: str, kind: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Measure a network in both memory formats, case by case."""
    ours = Ours(scale, kind, Path(gettempdir()), torch.get_num_threads())
    forms = {"first": copy.deepcopy(ours.fused).to(memory_format=torch.contiguous_format), "last": ours.fused}
    text = expressions(1, ours.text_dim)[0]
    cells = {}
    for side, count in CASES:
        img = image(side).repeat(count, 1, 1, 1)
        calls = {name: partial(best, model, img, text) for name, model in forms.items()}
        (boxes, conf), (other_boxes, other_conf) = calls["first"](), calls["last"]()
        taken = interleaved(calls, repeats)
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
    run = about(args.threads)
    for scale in args.scales:
        for kind in ("", "-late"):
            cells = measure(scale, kind, args.repeats)
            add_to_record(RESULTS / "channels.json", run, cells)
            for name, cell in cells.items():
                print(f"{name}: {cell['channels first']['ms']} -> {cell['channels last']['ms']} ms, x {cell['ratio']}")


if __name__ == "__main__":
    main()
