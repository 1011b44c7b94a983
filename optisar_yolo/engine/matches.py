"""All that matches: every box of an expression that means several objects, against all labelled objects that it means.

1. :func:`match_expressions` makes the expressions of an image: one per category that it shows ("a ship"), each caption
   that several of its objects share (a set expression), and one category that it does not show.
2. :class:`MatchProbe` grounds them beside a validation and keeps all boxes of each, without duplicates.
3. :class:`MatchScores` compares them with the objects by **pycocotools**: the boxes of all expressions are pooled, as
   those of a category are in COCO. AP50 and AP50-95 need no threshold. Recall and precision (IoU >= 0.5) and the error
   of counts, the mean of abs(boxes - objects) over the expressions, hold at a confidence threshold.

An object that an expression may mean as well as not (a "ship" and a "boat" of one data set) is left out of account,
and so are the boxes on it. An expression that may mean an object without a box is not used.
"""

from __future__ import annotations

import contextlib
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from optisar_yolo.data import ImageRecord, to_image
from optisar_yolo.engine.calibrate import Calibration, CalibrationError, fit
from optisar_yolo.engine.grounding import (
    CANDIDATES,
    CanvasImages,
    KnownExpressions,
    NetworkRunner,
    distinct_boxes,
    ground,
)
from optisar_yolo.engine.metrics import RIGHT_IOU, TITLES
from optisar_yolo.language import BUILT_IN, LabelledObjects, Vocabulary, agree, mentions, read_notes
from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.text import TextFeatureCache

CATEGORY, SET, ABSENT = "category", "set", "absent"  # kinds of expressions
SEVERAL = frozenset(("plural", "quantifier", "numeral"))  # kinds of wording that mean several objects
MATCH_FIGURES = ("AP50", "AP50-95", "recall", "precision", "count_error")
MATCH_RULE = (
    "all boxes of category expressions ('a ship', of each category in an image) and of captions that several objects "
    "share, against all labelled objects that they mean; pycocotools, pooled over expressions; recall, precision and "
    "count_error (mean of |boxes - objects|) at the threshold, IoU >= 0.5; absent: share of categories that an image "
    "does not show, one per image, with a box at the threshold"
)


@dataclass(frozen=True)
class MatchExpression:
    """An expression that may mean several objects.

    Attributes:
        text: The expression.
        kind: `CATEGORY`, `SET` or `ABSENT`.
        category: Category name that a category expression was made of; that of the first object of a set.
        truth: int8 [N], of each labelled object: 1 it is meant, 0 it is not, -1 it may be.
    """

    text: str
    kind: str
    category: str
    truth: np.ndarray


def match_expressions(
    image: ImageRecord, names: Sequence[str], vocabulary: Vocabulary = BUILT_IN
) -> list[MatchExpression]:
    """Make the expressions of an image that mean all objects of a kind.

    Args:
        image: The image.
        names: Category names by index.
        vocabulary: The nouns of the data set.

    Returns:
        A category expression per noun that its objects have, in the order of the objects; then its set expressions;
        then, where there is one, a category that it does not show, drawn by the image's name.
    """
    vocabulary = vocabulary.including(names)
    own = [names[c] for c in image.categories]
    objects = LabelledObjects(image.boxes, own, (image.width, image.height), vocabulary, unlisted=image.unlisted)
    nouns = [vocabulary.noun_of(name) for name in own]
    made: list[MatchExpression] = []
    for noun, name in {noun: name for noun, name in zip(reversed(nouns), reversed(own), strict=True)}.items():
        meant = [vocabulary.means(noun, other) for other in nouns]
        made.append(MatchExpression(_mention(noun), CATEGORY, name, _truth(meant)))
    made.reverse()
    owners: dict[str, list[int]] = {}
    for i, captions in enumerate(image.captions):
        for caption in captions:
            owners.setdefault(caption, []).append(i)
    for caption, members in owners.items():
        if len(members) > 1:
            # "The two ships" are these. "A ship", said of two of three ships, may be the third one as well.
            several = SEVERAL.intersection(read_notes(caption).kinds)
            sure = [False if several else truth for truth in objects.truths(caption)]
            meant = [True if i in members else False if truth is False else None for i, truth in enumerate(sure)]
            made.append(MatchExpression(caption, SET, own[members[0]], _truth(meant)))
    made = [m for m in made if not objects.may_mean_unlisted(m.text)]
    seen = [*nouns, *(vocabulary.noun_of(name) for name in image.unlisted if name)]
    if "" in image.unlisted:
        return made
    absent = {
        noun: name
        for name in names
        if vocabulary.modality_of(name) in (image.modality, None)
        for noun in [vocabulary.noun_of(name)]
        if all(vocabulary.means(noun, other) is False for other in seen)
    }
    if absent:
        noun, name = list(absent.items())[zlib.crc32(image.path.name.encode()) % len(absent)]
        made.append(MatchExpression(_mention(noun), ABSENT, name, np.zeros(len(own), np.int8)))
    return made


def _mention(noun: str) -> str:
    """Return the expression of a category: "a ship"; "hay bales" and "rubble" take no article."""
    return agree(mentions(noun)[0].replace("A ", "a ").format(noun))


def _truth(meant: Sequence[bool | None]) -> np.ndarray:
    return np.array([-1 if m is None else int(m) for m in meant], np.int8)


class MatchProbe:
    """Grounds the expressions of :func:`match_expressions` beside a validation, and collects their boxes.

    Args:
        model: The network.
        text_features: Its text encoder.
        names: Category names by index.
        device: Of the network's inputs.
        vocabulary: The nouns of the data set.

    Attributes:
        scores: The results.
    """

    def __init__(
        self,
        model: GroundingModel | NetworkRunner,
        text_features: TextFeatureCache | KnownExpressions,
        names: Sequence[str],
        device: torch.device,
        vocabulary: Vocabulary = BUILT_IN,
    ) -> None:
        self.model, self.text_features, self.names = model, text_features, tuple(names)
        self.device, self.vocabulary = device, vocabulary
        self.scores = MatchScores()

    def __call__(
        self,
        encoded: Encoded | CanvasImages,
        row: int,
        image: ImageRecord,
        extent: np.ndarray,
        canvas: tuple[int, int],
    ) -> None:
        """Add one image.

        Args:
            encoded: Encoded images.
            row: Index of the image in them.
            image: Its record.
            extent: [4] of the image in its canvas.
            canvas: Height and width of the canvas.
        """
        expressions = match_expressions(image, self.names, self.vocabulary)
        if not expressions:
            return
        texts = self.text_features([e.text for e in expressions]).to(self.device)
        rows = torch.full((len(expressions),), row, device=self.device)
        boxes, confs = (t.float().cpu().numpy() for t in ground(self.model, encoded, rows, texts, CANDIDATES))
        for expression, box, conf in zip(expressions, boxes, confs, strict=True):
            xyxy = to_image(box, (image.width, image.height), extent, canvas)
            kept = distinct_boxes(xyxy, conf)
            self.scores.add(expression, image.modality, image.boxes, xyxy[kept], conf[kept])


@dataclass
class MatchedBoxes:
    """The boxes of one expression, best first, and the objects that it means.

    Attributes:
        kind: Of the expression.
        category: Its category name.
        modality: Of the image.
        targets: [N, 4] xyxy, the objects that it means or may mean.
        open: bool [N], objects that it may mean.
        boxes: [M, 4] xyxy.
        conf: [M] raw confidences.
        right: bool [M], the box is an object's (IoU >= 0.5), and no better box is; set by :meth:`MatchScores.compare`.
        ignored: bool [M], the box is on an object that the expression may mean.
    """

    kind: str
    category: str
    modality: str
    targets: np.ndarray
    open: np.ndarray
    boxes: np.ndarray
    conf: np.ndarray
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


class MatchScores:
    """Collects the boxes of expressions that mean several objects, and computes the figures on demand."""

    def __init__(self) -> None:
        self.results: list[MatchedBoxes] = []
        self._compared = 0

    def add(
        self, expression: MatchExpression, modality: str, objects: np.ndarray, boxes: np.ndarray, conf: np.ndarray
    ) -> None:
        """Add an expression.

        Args:
            expression: The expression.
            modality: Of its image.
            objects: [N, 4] xyxy, all labelled objects of the image.
            boxes: [M, 4] xyxy, found for it, without duplicates.
            conf: [M] raw confidences.
        """
        meant = expression.truth != 0
        order = np.argsort(-conf, kind="stable")
        self.results.append(
            MatchedBoxes(
                expression.kind,
                expression.category,
                modality,
                np.asarray(objects, np.float64)[meant],
                expression.truth[meant] < 0,
                np.asarray(boxes, np.float64)[order],
                np.asarray(conf, np.float64)[order],
            )
        )

    def merge(self, other: MatchScores) -> None:
        """Add the expressions of another process."""
        self.results += other.results
        self._compared = 0

    def compare(self) -> None:
        """Compare all boxes with the objects, in pycocotools' greedy way: the most confident first."""
        if self._compared == len(self.results):
            return
        evaluated = _coco(self.results, ious=(RIGHT_IOU,)).evalImgs
        for result, found in zip(self.results, evaluated, strict=True):
            n = len(result.conf)
            result.right, result.ignored = np.zeros(n, bool), np.zeros(n, bool)
            if found is not None and n:
                ignored = found["dtIgnore"][0].astype(bool)
                result.right, result.ignored = (found["dtMatches"][0] > 0) & ~ignored, ignored
        self._compared = len(self.results)

    def fit(self, **about: Any) -> Calibration:
        """Fit a calibration to all boxes, those of absent categories included, and a threshold of the highest F1.

        Raises:
            CalibrationError: None can be fitted, or not to the boxes of one expression.
        """
        if not self.results:
            raise CalibrationError("no expression means several objects: no calibration of all boxes can be fitted")
        if len(self.results) < 2:
            raise CalibrationError("one expression alone means several objects: no calibration can be fitted")
        self.compare()
        conf = np.concatenate([r.conf[~r.ignored] for r in self.results])
        right = np.concatenate([r.right[~r.ignored] for r in self.results])
        objects = sum(int((~r.open).sum()) for r in self.results)
        made = fit(conf, right, np.ones(len(conf), bool), objects, **about)
        absent = sum(r.kind == ABSENT for r in self.results)
        return replace(made, true=len(self.results) - absent, false=absent)

    def figures(self, threshold: float, calibration: Calibration | None = None) -> dict[str, Any]:
        """Compute all figures.

        Args:
            threshold: Confidence threshold, calibrated where there is a calibration.
            calibration: That of all boxes, if the model has one.

        Returns:
            ``threshold``; ``absent`` and ``absent_count``, the share of absent categories with a box and their number;
            and ``rows``: a record for each modality, "all", "sets" (where there are set expressions) and each category,
            with ``group``, ``of_category``, `MATCH_FIGURES` (NaN where there is nothing to count) and the counts
            ``expressions``, ``objects`` and ``boxes``. All rows but "sets" are of category expressions.
        """
        self.compare()
        above = [(r.conf if calibration is None else calibration(r.conf)) >= threshold for r in self.results]
        present = [i for i, r in enumerate(self.results) if r.kind == CATEGORY]
        absent = [bool(above[i].any()) for i, r in enumerate(self.results) if r.kind == ABSENT]
        groups = {
            TITLES.get(m, m): [i for i in present if self.results[i].modality == m]
            for m in dict.fromkeys(r.modality for r in self.results)
        }
        groups = {name: groups[name] for name in sorted(groups, key=str.lower)} | {"all": present}
        if sets := [i for i, r in enumerate(self.results) if r.kind == SET]:
            groups["sets"] = sets
        rows = [{"group": name, "of_category": False, **self._row(m, above)} for name, m in groups.items()]
        for category in sorted({self.results[i].category for i in present}):
            members = [i for i in present if self.results[i].category == category]
            rows.append({"group": category, "of_category": True, **self._row(members, above)})
        return {"threshold": threshold, "absent": _mean(absent), "absent_count": len(absent), "rows": rows}

    def _row(self, members: list[int], above: list[np.ndarray]) -> dict[str, float]:
        results = [self.results[i] for i in members]
        objects = sum(int((~r.open).sum()) for r in results)
        found = [int((r.right & above[i]).sum()) for i, r in zip(members, results, strict=True)]
        shown = [int((~r.ignored & above[i]).sum()) for i, r in zip(members, results, strict=True)]
        errors = [abs(n - int((~r.open).sum())) for n, r in zip(shown, results, strict=True)]
        precision = _average_precision(results) if objects else (math.nan, math.nan)
        return {
            "AP50": precision[0],
            "AP50-95": precision[1],
            "recall": sum(found) / objects if objects else math.nan,
            "precision": sum(found) / sum(shown) if sum(shown) else math.nan,
            "count_error": _mean(errors),
            "expressions": len(results),
            "objects": objects,
            "boxes": sum(shown),
        }


def _coco(results: Sequence[MatchedBoxes], ious: Sequence[float] | None = None) -> Any:
    """Evaluate boxes by pycocotools: each expression is an image of its own, and all are of one category.

    Args:
        results: The expressions' boxes and objects.
        ious: IoU thresholds; by default COCO's ten, 0.5 to 0.95.

    Returns:
        The ``COCOeval`` after ``evaluate``.
    """
    from pycocotools.coco import COCO  # only this evaluation needs it
    from pycocotools.cocoeval import COCOeval

    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, result in enumerate(results, 1):
        for (x1, y1, x2, y2), crowd in zip(result.targets.tolist(), result.open.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            truths.append(
                {"id": len(truths) + 1, "image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3],
                 "iscrowd": int(crowd)}
            )  # fmt: skip
        for (x1, y1, x2, y2), conf in zip(result.boxes.tolist(), result.conf.tolist(), strict=True):
            found.append(
                {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": conf}
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(results) + 1)],
            "annotations": truths,
            "categories": [{"id": 1, "name": "match"}],
        }
        truth.createIndex()
        boxes = truth.loadRes(found) if found else COCO()
        evaluation = COCOeval(truth, boxes, "bbox")
        evaluation.params.imgIds = list(range(1, len(results) + 1))
        evaluation.params.catIds = [1]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [CANDIDATES]
        if ious is not None:
            evaluation.params.iouThrs = np.array(ious)
        evaluation.evaluate()
    return evaluation


def _average_precision(results: Sequence[MatchedBoxes]) -> tuple[float, float]:
    """Return AP50 and AP50-95 of pooled expressions."""
    evaluation = _coco(results)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]  # [IoU thresholds, 101 recalls]
    return float(precision[0].mean()), float(precision.mean())


def flat_matches(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures of the groups by their names for callbacks and loggers, such as ``metrics/AP50(all)``."""
    rows = [row for row in figures["rows"] if not row["of_category"]]
    named = {f"metrics/{name}({row['group'].lower()})": row[name] for row in rows for name in MATCH_FIGURES}
    return named | {"metrics/absent_category(all)": figures["absent"]}


def match_table(figures: dict[str, Any]) -> str:
    """Return a monospace table, in percent but for the error of counts."""
    title = "all that matches"
    width = max([len(title), *(len(row["group"]) for row in figures["rows"])])
    heads = ("AP50", "AP50-95", "recall", "precision", "count error", "expressions", "objects")
    lines = [title.ljust(width) + "".join(f"{h:>12}" for h in heads)]
    for categories in (False, True):
        for row in figures["rows"]:
            if row["of_category"] == categories:
                cells = [_percent(row[name]) for name in MATCH_FIGURES[:4]]
                cells.append("-" if math.isnan(row["count_error"]) else f"{row['count_error']:.2f}")
                cells += [str(row["expressions"]), str(row["objects"])]
                lines.append(f"{row['group']:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
        lines += [] if categories else [""]
    lines.append(
        f"recall, precision and counts at confidence {figures['threshold']:.3g}; "
        f"{_percent(figures['absent'])} % of {figures['absent_count']} categories that an image does not show get a box"
    )
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
