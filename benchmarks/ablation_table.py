"""The ablation's record as a table: mean over the seeds, and the range between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("meanIoU", "modality/all", "meanIoU"), ("Pr@0.5", "modality/all", "Pr@0.5"),
    ("optical", "modality/optical", "meanIoU"), ("optical Pr@0.5", "modality/optical", "Pr@0.5"),
    ("SAR", "modality/SAR", "meanIoU"), ("SAR Pr@0.5", "modality/SAR", "Pr@0.5"),
    ("hard", "difficulty/all hard", "meanIoU"), ("position", "kind/position", "meanIoU"),
    ("extreme", "kind/extreme", "meanIoU"), ("reworded", "reworded", "meanIoU"),
    ("listening", "sensitivity", "listening(hard)"),
    ("true > swap", "sensitivity", "discrimination(orientation)"),
    ("hard, true > swap", "sensitivity", "discrimination_hard(orientation)"),
)  # fmt: skip


def cell(values: list[float]) -> str:
    """Mean in percent with half the range of the seeds."""
    mean = 100 * sum(values) / len(values)
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {50 * (max(values) - min(values)):.1f}"


def write_table(record: Path, order: list[str]) -> str:
    """Write the Markdown table beside the record, one section per budget, and return it."""
    runs: list[dict[str, Any]] = json.loads(record.read_text(encoding="utf-8"))["runs"] if record.exists() else []
    lines = [
        "# Ablation",
        "",
        "Test split of optsar-real: real images, rule-generated expressions. Percent; mean over",
    ]
    lines += [
        "the seeds ± half of their range. Record: [ablation.json](ablation.json), `python benchmarks/ablation.py`."
    ]
    for budget in {json.dumps(r["budget"], sort_keys=True): r["budget"] for r in runs}.values():
        mine = [r for r in runs if r["budget"] == budget]
        lines += ["", "## " + ", ".join(f"{k} {v}" for k, v in budget.items()), ""]
        lines += ["| variant | seeds | " + " | ".join(c[0] for c in COLUMNS) + " | what it is |"]
        lines += ["|---" * (len(COLUMNS) + 3) + "|"]
        for name in [n for n in order if any(r["variant"] == n for r in mine)]:
            own = [r for r in mine if r["variant"] == name]
            cells = [cell([r["figures"][group][key] for r in own]) for _, group, key in COLUMNS]
            lines.append(f"| {name} | {len(own)} | " + " | ".join(cells) + f" | {own[0]['note']} |")
    text = "\n".join(lines) + "\n"
    record.with_suffix(".md").write_text(text, encoding="utf-8")
    return text
