"""The record of a watched training: its file, its line in the log, and what it warns of."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optisar_yolo.data import MODALITIES
from optisar_yolo.engine.metrics import TITLES
from optisar_yolo.utils import write_atomic

Row = Mapping[str, float]

DEAD_SHARE = 0.01  # of a fair share of the patches
ENOUGH_PATCHES = 100  # a fair share in patches, below which an expert may be idle by chance
COLLAPSED_TOP, COLLAPSED_ENTROPY = 0.9, 0.1
CHANCE_EPOCHS, CHANCE_FACTOR = 3, 1.1
CLOSED_GATE = 0.02
EXPERT = re.compile(r"(?P<block>moe[^/]+)/expert(?P<expert>\d+)\((?P<modality>\w+)\)")
GATE = re.compile(r"(?P<fusion>fusion[^/]+)/(?P<kind>alpha|beta)\d+")


def read_record(path: str | Path) -> list[dict[str, float]]:
    """Read a record; empty cells are left out of their row.

    Args:
        path: Of the CSV.

    Returns:
        One dictionary per epoch; none where there is no file.

    Raises:
        ValueError: The file is no record of a training.
    """
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        try:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a record of a training ({error}); move it away to start a new one") from None
    if any("epoch" not in row for row in rows):
        raise ValueError(f"{path}: not a record of a training (no epoch); move it away to start a new one")
    return rows


def write_record(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write a record in one step; a column is there if any row has it, and NaN is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row.get(key, math.nan) for key in columns)
        writer.writerow("" if math.isnan(cell) else f"{cell:.6g}" for cell in cells)
    return write_atomic(path, out.getvalue())


def blocks_of(row: Row) -> list[str]:
    """Names of the PL-MoE blocks in a row of the record."""
    return list(dict.fromkeys(m["block"] for key in row if (m := EXPERT.fullmatch(key))))


def uses(row: Row, block: str, modality: str) -> list[float]:
    """Use of each expert by a modality over its fair share, [E]: 1 is as often as all others; [] without patches."""
    found = {int(m["expert"]): value for key, value in row.items() if (m := EXPERT.fullmatch(key))
             and (m["block"], m["modality"]) == (block, modality)}  # fmt: skip
    total = sum(found.values())  # the number of experts kept for a patch
    return [found[i] * len(found) / total for i in sorted(found)] if total else []


def gates(row: Row) -> dict[str, dict[str, list[float]]]:
    """Fusion gates by block, and in it by kind (alpha, beta): a value per head."""
    found: dict[str, dict[str, list[float]]] = {}
    for key, value in row.items():
        if match := GATE.fullmatch(key):
            found.setdefault(match["fusion"], {}).setdefault(match["kind"], []).append(value)
    return found


def summary(row: Row) -> str:
    """One line of the log about an epoch."""
    parts = []
    if "region/mean(all)" in row:
        own = row["region/mean(foreground)"]
        parts.append(
            f"region {100 * row['region/mean(all)']:.0f} %"
            + ("" if math.isnan(own) else f" (objects {100 * own:.0f} %)")
            + f", chance {100 * row['region/chance']:.0f} %"
        )
    for block in blocks_of(row):
        shares = [f"{TITLES.get(m, m)} {min(u):.2f}-{max(u):.2f}" for m in MODALITIES if (u := uses(row, block, m))]
        parts.append(
            f"{block} use/fair {', '.join(shares)}, busiest {100 * row[f'{block}/busiest']:.0f} %, "
            f"router entropy {row[f'{block}/router_entropy']:.2f}, balance {row[f'{block}/balance']:.2f}"
        )
    for name, kinds in gates(row).items():
        means = " ".join(f"{kind} {sum(v) / len(v):.2f}" for kind, v in kinds.items())
        parts.append(f"{name} {means} effect {row.get(f'{name}/effect', math.nan):.2f}")
    scales = [f"{value:.2f}" for key, value in row.items() if key.startswith("text_scale/")]
    parts.append(f"text scale {' '.join(scales)}")
    return "Monitor: " + "; ".join(parts)


def findings(row: Row, gains: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with an epoch.

    Args:
        row: Of the record.
        gains: Settings ``moe`` and ``region``.

    Yields:
        A key by which a finding is known again, and what to tell the user.
    """
    raise_moe = f"raise the gain of the balance loss (moe={max(2 * gains.moe, 1.5):g}, now {gains.moe:g})"
    for block in blocks_of(row):
        yield from _routing(row, block, raise_moe)
    if row["epoch"] >= CHANCE_EPOCHS and gains.region > 0 and "region/mean(all)" in row:
        share, chance = row["region/mean(all)"], row["region/chance"]
        if share <= CHANCE_FACTOR * chance:
            yield (
                "region",
                f"the region head is at chance after {row['epoch']:.0f} epochs ({100 * share:.0f} % of the cells, "
                f"chance {100 * chance:.0f} %): raise its gain (region={2 * gains.region:g}, now {gains.region:g}), "
                "or lower lr0 if the other losses do not fall either",
            )
    for name, kinds in gates(row).items():
        if all(abs(v) < CLOSED_GATE for values in kinds.values() for v in values):
            yield (
                name,
                f"both gates of {name} are closed (all below {CLOSED_GATE}): the text does not reach this map, and no "
                "gradient will open them again; start with gate_init 1 in the model's YAML, or lower lr0",
            )


def _routing(row: Row, block: str, remedy: str) -> Iterator[tuple[str, str]]:
    """Dead experts and collapsed routing of a block."""
    k = row[f"{block}/top_k"]
    kept = {m["expert"] for key in row if (m := EXPERT.fullmatch(key)) and m["block"] == block}
    experts, patches = len(kept), row[f"{block}/patches"]
    if experts < 2 or k >= experts:
        return  # nothing to choose
    if patches * k / experts >= ENOUGH_PATCHES:
        shares = [u for m in MODALITIES if (u := uses(row, block, m))]
        for i in range(experts):
            if all(u[i] < DEAD_SHARE for u in shares):
                yield (
                    f"{block}/expert{i}",
                    f"expert {i} of {block} is dead: kept for less than {100 * DEAD_SHARE:g} % of its fair share of "
                    f"the patches of this epoch; {remedy}",
                )
    busiest, entropy = row[f"{block}/busiest"], row[f"{block}/use_entropy"]
    if busiest > COLLAPSED_TOP or entropy < COLLAPSED_ENTROPY:
        yield (
            f"{block}/collapsed",
            f"the routing of {block} has collapsed: one expert is first for {100 * busiest:.0f} % of the patches "
            f"(entropy of the use {entropy:.2f} of 1); {remedy}",
        )
