"""Sheets of answers (the paper's Fig. 10): the surest right ones, and the surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from optisar_yolo.data import Case
from optisar_yolo.engine.calibrate import RIGHT
from optisar_yolo.visualize import draw_sheet, save

COUNT = 12  # cases of a sheet


def write_sheets(cases: Sequence[Case], modalities: Sequence[str], folder: Path, count: int = COUNT) -> list[Path]:
    """Write ``right.png`` with right answers and ``failures.png`` with wrong ones, the surest first.

    Args:
        cases: Answers of a validation.
        modalities: The modality of each.
        folder: Where to.
        count: Cases per sheet.

    Returns:
        The sheets; one without cases is left out.
    """
    files = []
    for name, right in (("right", True), ("failures", False)):
        pairs = [p for p in zip(cases, modalities, strict=True) if (p[0].iou >= RIGHT) == right]
        if not pairs:
            continue
        chosen = surest([case for case, _ in pairs], [modality for _, modality in pairs], count)
        kind = f"right ones (IoU of at least {RIGHT})" if right else f"failures (IoU below {RIGHT})"
        title = f"The {len(chosen)} surest of {len(pairs)} {kind}, {len(cases)} expressions in all"
        files.append(save(draw_sheet(chosen, title), folder / f"{name}.png"))
    return files


def surest(cases: Sequence[Case], modalities: Sequence[str], count: int) -> list[Case]:
    """Pick the most confident cases: as many of each modality as there are, and images new as long as there are any.

    Args:
        cases: All cases.
        modalities: The modality of each.
        count: Cases to pick at most.

    Returns:
        The chosen cases, by falling confidence; cases without a box come last.
    """
    queues: dict[str, list[Case]] = {}
    for case, modality in zip(cases, modalities, strict=True):
        queues.setdefault(modality, []).append(case)
    for modality, queue in queues.items():
        seen: set[Path] = set()
        new: list[Case] = []
        again: list[Case] = []
        for case in sorted(queue, key=_confidence, reverse=True):
            (again if case.path in seen else new).append(case)
            seen.add(case.path)
        queues[modality] = new + again
    longest = max(map(len, queues.values()), default=0)
    turns = [queue[i] for i in range(longest) for _, queue in sorted(queues.items()) if i < len(queue)]
    return sorted(turns[:count], key=_confidence, reverse=True)


def _confidence(case: Case) -> float:
    return case.conf if math.isfinite(case.conf) else -1.0
