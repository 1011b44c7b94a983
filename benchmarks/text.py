"""Measure the bundled text encoder against its teacher and write `results/text-pocket.json`.

Run from the repository root:

    python benchmarks/text.py teacher=FOLDER unseen=FILES [seen=FILES] [threads=1] [out=FILE]

`teacher` is a sentence-transformers name or folder (all-MiniLM-L6-v2 for the bundled weights); `unseen` are JSON or
text files of expressions (split by commas), of which those in `seen` files (the training corpus) are left out.
Agreement is the cosine to the teacher. Ranking is the share of expressions that are nearer to a rewording in reserved
words, which no training text has, than to an expression of another meaning. The speed of both encoders is measured in
turns, so that other load of the machine affects both.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

from optisar_yolo.text import load_text_encoder
from optisar_yolo.text.distillation.corpus import ranking_triples, read_corpus
from optisar_yolo.text.distillation.distill import agreement, ranking
from optisar_yolo.text.pocket import BUNDLED, PocketEncoder
from optisar_yolo.utils import split_words, write_atomic

ROUNDS = 7
EXPRESSIONS = 256


def main(args: dict[str, str]) -> dict[str, object]:
    """Measure, and write the record.

    Args:
        args: See above.

    Raises:
        SystemExit: `teacher` or `unseen` is missing.
    """
    if not {"teacher", "unseen"} <= set(args):
        raise SystemExit(
            "usage: python benchmarks/text.py teacher=FOLDER unseen=FILES [seen=FILES] [threads=1] [out=FILE]"
        )
    torch.set_num_threads(int(args.get("threads", 1)))
    pocket = PocketEncoder()
    teacher = load_text_encoder(f"sbert:{args['teacher']}")
    seen = set(read_corpus(args["seen"].split(","))) if "seen" in args else set()
    texts = sorted(set(read_corpus(args["unseen"].split(","))) - seen)
    triples = [t for triple in ranking_triples(1000, seed=1) for t in triple]
    both = {"pocket": pocket, "teacher": teacher}
    ranks = {k: ranking(e.encode(triples).view(-1, 3, e.width)) for k, e in both.items()}
    agree = agreement(pocket.encode(texts), teacher.encode(texts))

    sample = texts[:: max(1, len(texts) // EXPRESSIONS)][:EXPRESSIONS]
    times: dict[str, list[float]] = {k: [] for k in both}
    for _ in range(ROUNDS):
        for k, e in both.items():
            start = time.perf_counter()
            e.encode(sample)
            times[k].append(time.perf_counter() - start)
    record: dict[str, object] = {
        "parameters": sum(p.numel() for p in pocket.net.parameters()),
        "bytes": {f.name: f.stat().st_size for f in sorted(BUNDLED.iterdir())},
        "fingerprint": pocket.fingerprint,
        "unseen_expressions": len(texts),
        "agreement": agree,
        "ranking_questions": len(triples) // 3,
        "ranking": ranks,
        "sentences_per_second": {k: round(len(sample) / statistics.median(v), 1) for k, v in times.items()},
        "sentences_per_second_range": {k: [round(len(sample) / f(v), 1) for f in (max, min)] for k, v in times.items()},
        "speed_ratio": round(
            statistics.median(t / p for p, t in zip(times["pocket"], times["teacher"], strict=True)), 2
        ),
        "threads": torch.get_num_threads(),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
    }
    out = Path(args.get("out", Path(__file__).parent / "results" / "text-pocket.json"))
    write_atomic(out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    return record


if __name__ == "__main__":
    main(split_words(sys.argv[1:]))
