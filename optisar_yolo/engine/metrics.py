"""Grounding metrics: Pr@0.5 to Pr@0.9, meanIoU and cumIoU, for optical images, SAR images and all.

An expression refers to one object and gets at most one box. IoU is computed in pixels of the original image, with boxes
clipped to it. As in visual grounding (TransVG's evaluation), a box is right at a threshold t if IoU >= t. A missing box
counts as IoU 0. In cumIoU = sum of intersections / sum of unions it counts with intersection 0 and the true box's area
as union.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.data import MODALITIES, ImageRecord
from optisar_yolo.utils import intersection_union, iou, write_atomic
from optisar_yolo.visualize import EvaluatedExpression

RIGHT_IOU = 0.5  # IoU from which a box is right, where one threshold decides
THRESHOLDS = (RIGHT_IOU, 0.6, 0.7, 0.8, 0.9)
FIGURES = (*(f"Pr@{t}" for t in THRESHOLDS), "meanIoU", "cumIoU")
GROUPS = ("all", *MODALITIES)  # of a data set that declares no further modalities
TITLES = {"sar": "SAR"}
_COLUMNS = ("iou", "inter", "union", "conf", "missing", "modality", "category", "hard", "kind")


def overlap(pred: np.ndarray, target: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intersection and union areas of paired boxes, clipped to their images.

    Args:
        pred: [N, 4] xyxy in pixels; a row with NaN or infinity, or without area, is a missing box.
        target: [N, 4] xyxy in pixels.
        size: [N, 2] width and height of each row's image.

    Returns:
        Intersections [N] and unions [N] in square pixels; without a box these are 0 and the target's area.
    """
    limit = np.tile(size, 2)  # [N, 4]: w, h, w, h
    found = np.isfinite(pred).all(axis=1, keepdims=True)
    return intersection_union(np.where(found, np.clip(pred, 0, limit), 0.0), np.clip(target, 0, limit))


def is_hard(categories: np.ndarray) -> np.ndarray:
    """Tell for each object of an image whether another object of its category is there too.

    Args:
        categories: [N] categories of all labelled objects of one image.

    Returns:
        bool [N].
    """
    categories = np.asarray(categories)
    return (categories[:, None] == categories[None, :]).sum(axis=1) > 1


class GroundingMetrics:
    """Collects one row per expression and computes the figures on demand. Holds plain lists, so that it can be pickled.

    Attributes:
        speed: Milliseconds per image by stage, filled in by the validator.
        save_dir: Folder of the validation run.
        extra: More figures for `results_dict`, by name, such as those of sensitivity.
        sections: More content for `to_json`, by name, such as "sensitivity" and "calibration".
        tables: More tables, which `table` puts below its own.
        modalities: The modalities, each of which is a group of expressions.
        more_rows: More records for `to_csv`, with ``section``, ``group`` and figures, which may be others.
    """

    def __init__(self, save_dir: str | Path | None = None, modalities: Iterable[str] = MODALITIES) -> None:
        """Start empty.

        Args:
            save_dir: Folder of the run, if any.
            modalities: Those of the data set.
        """
        self.modalities = tuple(modalities)
        self.save_dir = save_dir
        self.speed = {"preprocess": 0.0, "inference": 0.0, "loss": 0.0, "postprocess": 0.0}
        self.extra: dict[str, float] = {}
        self.sections: dict[str, Any] = {}
        self.tables: list[str] = []
        self.more_rows: list[dict[str, Any]] = []
        self._rows: dict[str, list[Any]] = {column: [] for column in _COLUMNS}

    def __len__(self) -> int:
        """Return the number of expressions."""
        return len(self._rows["iou"])

    def clear(self) -> None:
        """Remove all expressions."""
        for column in self._rows.values():
            column.clear()
        self.extra, self.sections, self.tables, self.more_rows = {}, {}, [], []

    def update(
        self,
        pred: np.ndarray | Sequence[Sequence[float] | None],
        target: np.ndarray,
        size: tuple[float, float] | np.ndarray,
        modality: str | Sequence[str],
        category: str | Sequence[str],
        conf: np.ndarray | Sequence[float] | None = None,
        hard: Sequence[bool] | np.ndarray | None = None,
        kind: str | Sequence[str] = "",
    ) -> np.ndarray:
        """Add the expressions of one image, or of several.

        Args:
            pred: Predicted boxes [N, 4], xyxy in pixels of the original image; None or a row of NaN is a missing box.
            target: True boxes [N, 4], likewise.
            size: Width and height of the original image, or [N, 2].
            modality: One of `modalities`, for all or for each expression.
            category: Category name, for all or for each.
            conf: Confidence of each predicted box; NaN or left out where there is none.
            hard: Whether another object of the category is in the image (see `is_hard`); None if not known.
            kind: The expression's kind ("position", "relation", ...), "" if not known.

        Returns:
            IoU of each expression, float64 [N].

        Raises:
            ValueError: Lengths differ, a true box has no area in its image, or a modality is none of `modalities`.
        """
        target = np.asarray(target, dtype=np.float64).reshape(-1, 4)
        n = len(target)
        nothing = (math.nan,) * 4
        pred = np.array([nothing if box is None else np.asarray(box, np.float64) for box in pred], np.float64)
        pred = pred.reshape(-1, 4)
        if len(pred) != n:
            raise ValueError(
                f"{len(pred)} predicted boxes for {n} true ones; give None for an expression without a box"
            )
        sizes = np.broadcast_to(np.asarray(size, dtype=np.float64), (n, 2))
        inter, union = overlap(pred, target, sizes)
        _, area = overlap(np.full_like(target, math.nan), target, sizes)
        if not (area > 0).all():
            row = int(np.argmin(area > 0))
            raise ValueError(f"true box {target[row].tolist()} has no area in its {sizes[row].tolist()} image")
        values = {
            "iou": (inter / union).tolist(),
            "inter": inter.tolist(),
            "union": union.tolist(),
            "conf": [math.nan] * n if conf is None else [float(c) for c in conf],
            "missing": (~np.isfinite(pred).all(axis=1)).tolist(),
            "modality": _each(modality, n),
            "category": _each(category, n),
            "hard": [None] * n if hard is None else np.array(hard, bool).tolist(),
            "kind": _each(kind, n),
        }
        for column, entries in values.items():
            if len(entries) != n:
                raise ValueError(f"{len(entries)} entries of '{column}' for {n} expressions")
        if unknown := set(values["modality"]) - set(self.modalities):
            known = ", ".join(f"'{m}'" for m in self.modalities[:-1]) + f" or '{self.modalities[-1]}'"
            raise ValueError(f"unknown modality '{unknown.pop()}'; expected {known}")
        for column, entries in values.items():
            self._rows[column].extend(entries)
        return inter / union

    def set_confidence(self, conf: np.ndarray) -> None:
        """Replace the confidences [N] of all expressions, in the order they were added. No figure depends on them.

        Raises:
            ValueError: Not one per expression.
        """
        if len(conf) != len(self):
            raise ValueError(f"{len(conf)} confidences for {len(self)} expressions")
        self._rows["conf"] = [float(c) for c in conf]

    def merge(self, other: GroundingMetrics) -> None:
        """Add the expressions of another process."""
        for column, entries in other._rows.items():
            self._rows[column].extend(entries)

    def column(self, name: str) -> np.ndarray:
        """Return one value per expression, in the order they were added: "iou", "conf", "missing", "modality"…, [N]."""
        return np.array(self._rows[name], dtype=object if name in ("modality", "category", "hard", "kind") else None)

    def figures(self, mask: np.ndarray | None = None) -> dict[str, float]:
        """Compute the figures of some expressions.

        Args:
            mask: bool [N] of the expressions to use; None for all.

        Returns:
            Pr@..., meanIoU and cumIoU in 0..1 (NaN without expressions), ``count``, and ``missing``: the number of
            expressions without a box.
        """
        chosen = np.ones(len(self), bool) if mask is None else np.asarray(mask, bool)
        ious, inter, union = (self.column(c).astype(np.float64)[chosen] for c in ("iou", "inter", "union"))
        count = {"count": len(ious), "missing": int(self.column("missing").astype(bool)[chosen].sum())}
        if not len(ious):
            return {name: math.nan for name in FIGURES} | count
        precise = {f"Pr@{t}": float((ious >= t).mean()) for t in THRESHOLDS}
        return precise | {"meanIoU": float(ious.mean()), "cumIoU": float(inter.sum() / union.sum())} | count

    @property
    def _groups(self) -> tuple[str, ...]:
        return ("all", *self.modalities)

    def groups(self) -> dict[str, dict[str, float]]:
        """Return the figures of all images and of those of each modality."""
        modality = self.column("modality")
        return {g: self.figures(None if g == "all" else modality == g) for g in self._groups}

    def rows(self) -> list[dict[str, Any]]:
        """Return one record per group: optical, SAR, all; each hard and easy; each kind of expression; each category.

        Each record has ``section`` ("modality", "difficulty", "kind" or "category"), ``group`` and the figures.
        """
        groups = self.groups()
        modality, category, kind, difficulty = (self.column(c) for c in ("modality", "category", "kind", "hard"))
        records = [("modality", TITLES.get(g, g), groups[g]) for g in (*self.modalities, "all")]
        for g in (*self.modalities, "all"):
            inside = (modality == g) | (g == "all")
            for flag, word in ((True, "hard"), (False, "easy")):
                if (mask := inside & (difficulty == flag)).any():
                    records.append(("difficulty", f"{TITLES.get(g, g)} {word}", self.figures(mask)))
        records += [("kind", k, self.figures(kind == k)) for k in sorted(set(kind) - {""})]
        records += [("category", c, self.figures(category == c)) for c in sorted(set(category))]
        return [{"section": section, "group": group, **figures} for section, group, figures in records]

    @property
    def keys(self) -> list[str]:
        """Names of the figures for callbacks and loggers."""
        return [f"metrics/{name}({group})" for group in self._groups for name in FIGURES]

    def mean_results(self) -> list[float]:
        """Return the figures in the order of `keys`."""
        groups = self.groups()
        return [groups[group][name] for group in self._groups for name in FIGURES]

    @property
    def fitness(self) -> float:
        """MeanIoU over all expressions; 0 without any."""
        return float(self.column("iou").mean()) if len(self) else 0.0

    @property
    def results_dict(self) -> dict[str, float]:
        """All figures by name, and ``fitness``; NaN for a modality without expressions."""
        return dict(zip(self.keys, self.mean_results(), strict=True)) | self.extra | {"fitness": self.fitness}

    def table(self, sections: Sequence[str] = ("modality",)) -> str:
        """Return a monospace table in percent.

        Args:
            sections: Sections to show, of "modality", "difficulty", "kind" and "category".
        """
        records = [r for r in self.rows() if r["section"] in sections]
        width = max([len(r["group"]) for r in records], default=0)
        lines = [" " * width + "".join(f"{name:>9}" for name in (*FIGURES, "count", "no box"))]
        shown = ""
        for record in records:
            if shown and record["section"] != shown:
                lines.append("")
            shown = record["section"]
            cells = ["-" if math.isnan(v := record[name]) else f"{100 * v:.2f}" for name in FIGURES]
            cells += [str(record["count"]), str(record["missing"])]
            lines.append(f"{record['group']:<{width}}" + "".join(f"{cell:>9}" for cell in cells))
        return "\n\n".join(["\n".join(lines), *self.tables])

    def to_json(self, path: str | Path | None = None) -> str:
        """Return all figures as JSON (0..1; null where there is none), and write it to a file if one is given."""
        rule = "a box is right at t if IoU >= t; a missing box counts as IoU 0; boxes are clipped to the original image"
        content = {"rule": rule, "fitness": self.fitness, "speed_ms": self.speed, "rows": self.rows(), **self.sections}
        text = json.dumps(_without_nan(content), indent=2) + "\n"
        if path is not None:
            write_atomic(path, text)
        return text

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return all figures as CSV (0..1; empty where there is none), and write it to a file if one is given."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        more = [name for record in self.more_rows for name in record]
        columns = tuple(dict.fromkeys(("section", "group", *FIGURES, "count", "missing", *more)))
        writer.writerow(columns)
        for record in _without_nan([*self.rows(), *self.more_rows]):
            writer.writerow([record.get(c) for c in columns])
        if path is not None:
            write_atomic(path, out.getvalue())
        return out.getvalue()


def expression_indices(image: ImageRecord) -> list[tuple[int, int]]:
    """Return the (object, number of its expression) pairs of all expressions of an image.

    An expression of a set ("the two ships on the left") is one, with the first of its objects.
    """
    return [
        (obj, n)
        for obj, captions in enumerate(image.captions)
        for n, text in enumerate(captions)
        if text not in image.sets or _members(image, text)[0] == obj
    ]


def score_image(
    metrics: GroundingMetrics,
    image: ImageRecord,
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    pred: np.ndarray,
    conf: np.ndarray,
) -> list[EvaluatedExpression]:
    """Compare the boxes of an image's expressions with its labelled objects.

    Args:
        metrics: Gets one row per expression.
        image: The image.
        names: Category names by index.
        pairs: N pairs of :func:`expression_indices`.
        pred: [N, 4] boxes, xyxy in pixels of the image; a row of NaN is a missing box.
        conf: [N] confidences; NaN for a missing box.

    Returns:
        One case per expression. The box of a set's expression is compared with the object of the set that it overlaps
        most.
    """
    hard = is_hard(image.categories)
    pairs = [_member(image, obj, n, box) for (obj, n), box in zip(pairs, pred, strict=True)]
    iou = metrics.update(
        pred,
        image.boxes[[obj for obj, _ in pairs]],
        (image.width, image.height),
        image.modality,
        [names[image.categories[o]] for o, _ in pairs],
        conf,
        [bool(hard[o]) for o, _ in pairs],
        [image.kinds[o][n] for o, n in pairs],
    )
    return [
        EvaluatedExpression(image.path, image.captions[o][n], image.boxes[o], pred[j], float(conf[j]), float(iou[j]))
        for j, (o, n) in enumerate(pairs)
    ]


def _members(image: ImageRecord, text: str) -> list[int]:
    """Return the objects that have a caption."""
    return [i for i, texts in enumerate(image.captions) if text in texts]


def _member(image: ImageRecord, obj: int, n: int, box: np.ndarray) -> tuple[int, int]:
    """Return an expression's object and number; of a set, the object that a box overlaps most."""
    text = image.captions[obj][n]
    if text not in image.sets or np.isnan(box).any():
        return obj, n
    members = _members(image, text)
    obj = members[int(np.argmax(iou(image.boxes[members], box)))]
    return obj, image.captions[obj].index(text)


def _each(value: str | Sequence[str], n: int) -> list[str]:
    return [value] * n if isinstance(value, str) else list(value)


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """Replace NaN by None, for JSON and CSV."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
