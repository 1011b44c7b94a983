"""Sensitivity to the expression: results for true expressions against the same ones with a word exchanged.

1. :func:`probe_expressions` draws reworded expressions for each true one: one per kind of word (orientation, modality,
   size, …), seeded by image and caption, from those that boxes and caption prove false of the expression's object. An
   expression that the boxes contradict gets none, because its rewording cannot be verified. Another rank, another side
   of a landmark and another shade are false by the wording itself (:mod:`optisar_yolo.language.exchanges`).
2. :func:`run_probes` grounds true and reworded expressions and records the scores around the true box.
3. :class:`SensitivityScores` computes three figures:

   * Discrimination: how often the true expression scores higher than the false one *at the true box*. An expression's
     score there is its highest logit over a set of anchors that both share: those whose box has IoU >= 0.5 with the
     true box for either expression; where there are none, those whose centre lies in the true box (at least the nearest
     one). Ties count half, so that a model that ignores the expression gets 0.5.
   * Listening: how often the box of a true expression has a higher IoU than that of the expression with left and right,
     or top and bottom, exchanged. It is computed over *hard* expressions (another object of the category is in the
     image) that name a direction. Ties, also of two boxes without overlap, count half. An expression counts once, with
     the mean over its one or two exchanges. The exchanged expression is not verified: where it stays true, as for a
     ship in the middle, this moves the figure towards 0.5.
   * Rejection: how many expressions proven false of *every* labelled object get a box at the threshold (false alarms),
     and how many of the true ones that they were made from get a right one (IoU >= 0.5). The area under the ROC curve
     compares the confidences of the two groups without a threshold.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.utils.tal import make_anchors

from optisar_yolo.data import ImageRecord, to_canvas, to_image
from optisar_yolo.engine.calibrate import Calibration, ece, fit, roc_auc
from optisar_yolo.engine.grounding import CanvasImages, KnownExpressions, NetworkRunner, ground, outputs
from optisar_yolo.engine.metrics import RIGHT_IOU, is_hard, overlap
from optisar_yolo.language import (
    BUILT_IN,
    CONTRASTS,
    KINDS,
    LabelledObjects,
    Vocabulary,
    contrasts,
    flip,
    swap,
    truths_of_variant,
)
from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.text import TextFeatureCache

MIRROR = "mirror"  # kind of an expression whose directions are all exchanged
TIE = 1e-3  # difference of two scores or IoUs below which they are equal: rounding differs between batches
FIGURES = ("discrimination", "discrimination_hard", "false_alarm", "found", "auc")
RULES = {
    "discrimination": "share of pairs whose true expression scores higher at the true box than its swap; ties half",
    "discrimination_hard": "the same, where another object of the category is in the image",
    "listening": "share of hard expressions whose true wording finds a box of higher IoU than the mirrored one; "
    "ties half",
    "false_alarm": "share of expressions false of every labelled object that get a box at the threshold",
    "found": "share of the true expressions they were made from that get a right one (IoU >= 0.5) at the threshold",
    "auc": "area under the ROC curve of the confidences of these two groups",
    "ece": "expected calibration error over all expressions and one such false expression each",
}


class ProbeExpression(NamedTuple):
    """A reworded expression.

    Attributes:
        text: The expression.
        kind: Kind of the exchanged word, or `MIRROR`.
        false_of_object: It is proven false of the expression's object, and its score at that box is compared.
        false_of_all: It is proven false of every labelled object: no box should be found.
        fit: A calibration is fitted on it; at most one per true expression, of those that are false of every object.
    """

    text: str
    kind: str
    false_of_object: bool = False
    false_of_all: bool = False
    fit: bool = False


class ProbeResult(NamedTuple):
    """What an expression finds: its best box, and its scores around the true box.

    Attributes:
        box: [4] xyxy on the canvas.
        conf: Raw confidence.
        logits: [A] over the anchors, or None where only the best box is known.
        near: bool [A], the anchor's box has IoU >= 0.5 with the true one.
        inside: bool [A], the anchor's centre lies in the true box, or is the nearest to its centre.
    """

    box: np.ndarray
    conf: float
    logits: Tensor | None = None
    near: Tensor | None = None
    inside: Tensor | None = None


def probe_expressions(
    caption: str, index: int, objects: LabelledObjects, key: str, own: Sequence[str] = ()
) -> list[ProbeExpression]:
    """Draw the reworded expressions of an expression: at most two per kind of word, and two with mirrored directions.

    Args:
        caption: The expression.
        index: Its object.
        objects: All labelled objects of its image.
        key: Seed.
        own: All expressions of the image, which are taken to be true whatever the boxes prove.

    Returns:
        The reworded expressions; empty where no word can be exchanged.
    """
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    chosen: list[ProbeExpression] = []
    for kind in KINDS if objects.truth(caption, index) is not False else ():
        verdicts = {
            v.text: truths_of_variant(v, caption, [index], objects)
            for v in swap(caption, [kind], objects.vocabulary)
            if v.text not in own
        }
        false = [t for t, verdict in verdicts.items() if verdict[index] is False]
        if not false:
            continue
        absent = [t for t in false if all(v is False for v in verdicts[t])]
        drawn = false[int(rng.integers(len(false)))]
        chosen.append(ProbeExpression(drawn, kind, false_of_object=True, false_of_all=drawn in absent))
        if absent and drawn not in absent:
            chosen.append(ProbeExpression(absent[int(rng.integers(len(absent)))], kind, false_of_all=True))
    if usable := [i for i, probe in enumerate(chosen) if probe.false_of_all]:
        i = usable[int(rng.integers(len(usable)))]
        chosen[i] = chosen[i]._replace(fit=True)
    chosen += _contrasts(caption, index, objects, key, own)
    mirrored = (flip(caption, h, not h, objects.vocabulary) for h in (True, False))
    return chosen + [ProbeExpression(t, MIRROR) for t in mirrored if t is not None and t != caption]


def _contrasts(
    caption: str, index: int, objects: LabelledObjects, key: str, own: Sequence[str]
) -> list[ProbeExpression]:
    """Draw one variant per kind of those that the wording proves false, except where the boxes prove it true."""
    if objects.truth(caption, index) is False:
        return []
    rng = np.random.default_rng(zlib.crc32(f"{key}/contrast".encode()))
    chosen: list[ProbeExpression] = []
    for kind in CONTRASTS:
        texts = [v.text for v in contrasts(caption, objects.vocabulary) if v.kind == kind and v.text not in own]
        texts = [t for t in texts if objects.truth(t, index) is not True]
        if texts:
            drawn = texts[int(rng.integers(len(texts)))]
            others = [truth for i, truth in enumerate(objects.truths(drawn)) if i != index]
            absent = all(truth is False for truth in others) and not objects.may_mean_unlisted(drawn)
            # What has no box may be meant as well: only what the boxes judge of the others can be false of all.
            chosen.append(ProbeExpression(drawn, kind, false_of_object=True, false_of_all=bool(others) and absent))
    return chosen


def margin(true: ProbeResult, false: ProbeResult) -> float:
    """Return the score of the true minus that of the false expression at the true box; NaN without logits."""
    if true.logits is None or true.near is None or true.inside is None or false.logits is None or false.near is None:
        return math.nan
    near = true.near | false.near
    where = near if bool(near.any()) else true.inside
    return float(true.logits[where].max() - false.logits[where].max())


def run_probes(
    model: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    rows: Tensor,
    texts: Tensor,
    targets: Tensor | None,
) -> list[ProbeResult]:
    """Ground expressions, and record their scores around true boxes.

    Args:
        model: The network.
        encoded: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
        targets: [N, 4] true boxes, xyxy on the canvas; None: best boxes alone.

    Returns:
        One result per expression. An exported model gives best boxes alone.
    """
    if targets is None or isinstance(model, NetworkRunner) or isinstance(encoded, CanvasImages):
        boxes, confs = ground(model, encoded, rows, texts)
        return [ProbeResult(b, float(c)) for b, c in zip(_array(boxes[:, 0]), _array(confs[:, 0]), strict=True)]
    found: list[ProbeResult] = []
    for part, preds in outputs(model, encoded, rows, texts):
        best, conf = model.head.decode(preds)
        logits = preds["scores"][:, 0].float()  # [n, A]
        every = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
        boxes = model.head.boxes_at(preds, every)  # [n, A, 4]
        anchors, strides = make_anchors(preds["feats"], model.head.stride, 0.5)
        centres = anchors * strides  # [A, 2]
        for j, target in enumerate(targets[part]):
            near = box_iou(target[None], boxes[j])[0] >= RIGHT_IOU
            inside = ((centres >= target[:2]) & (centres <= target[2:])).all(1)
            inside[(centres - (target[:2] + target[2:]) / 2).square().sum(1).argmin()] = True
            found.append(ProbeResult(_array(best[j, 0, 0]), float(conf[j, 0, 0]), logits[j], near, inside))
    return found


class SensitivityProbe:
    """Grounds the expressions of :func:`probe_expressions` beside a validation, and collects the results.

    Args:
        model: The network.
        text_features: Its text encoder.
        names: Category names by index.
        device: Of the network's inputs.
        full: Ground all of them; otherwise only those that a calibration is fitted on.
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
        full: bool = True,
        vocabulary: Vocabulary = BUILT_IN,
    ) -> None:
        self.model, self.text_features, self.names = model, text_features, tuple(names)
        self.vocabulary = vocabulary.including(self.names)
        self.device, self.full = device, full
        self.scores = SensitivityScores()

    def __call__(
        self,
        encoded: Encoded | CanvasImages,
        row: int,
        image: ImageRecord,
        pairs: Sequence[tuple[int, int]],
        conf: np.ndarray,
        iou: np.ndarray,
        extent: np.ndarray,
        canvas: tuple[int, int],
    ) -> None:
        """Add one image.

        Args:
            encoded: Encoded images.
            row: Index of the image in them.
            image: Its record.
            pairs: (object, number of the expression) of its N expressions.
            conf: [N] raw confidence of each expression's box.
            iou: [N] IoU of each box.
            extent: [4] of the image in its canvas.
            canvas: Height and width of the canvas.
        """
        size = (image.width, image.height)
        names = [self.names[c] for c in image.categories]
        objects = LabelledObjects(image.boxes, names, size, self.vocabulary, unlisted=image.unlisted)
        own = [c for captions in image.captions for c in captions]
        hard = is_hard(image.categories)
        runs: list[tuple[int, ProbeExpression | None]] = []  # (expression, its rewording); None: the expression itself
        for e, (o, n) in enumerate(pairs):
            caption = image.captions[o][n]
            probes = probe_expressions(caption, o, objects, f"{image.path.name}/{o}/{caption}", own)
            if not self.full:
                probes = [p for p in probes if p.fit]
            elif any(p.false_of_object for p in probes):
                runs.append((e, None))
            runs += [(e, p) for p in probes if p.kind != MIRROR or hard[o]]
        first = self.scores.add(conf, iou >= RIGHT_IOU, hard[[o for o, _ in pairs]])
        if not runs:
            return
        captions = [p.text if p else image.captions[pairs[e][0]][pairs[e][1]] for e, p in runs]
        boxes = np.stack([image.boxes[pairs[e][0]] for e, _ in runs])
        shares = to_canvas(boxes, size, extent)
        targets = torch.from_numpy(shares * np.tile(np.array(canvas[::-1], np.float32), 2)).to(self.device)
        rows = torch.full((len(runs),), row, device=self.device)
        texts = self.text_features(captions).to(self.device)
        found = run_probes(self.model, encoded, rows, texts, targets if self.full else None)
        pred = to_image(np.stack([r.box for r in found]), size, extent, canvas)
        inter, union = overlap(pred, boxes, np.broadcast_to(np.array(size, float), (len(runs), 2)))
        true: ProbeResult | None = None
        for (e, p), result, reached in zip(runs, found, inter / union, strict=True):
            if p is None:
                true = result
            elif p.kind == MIRROR:
                self.scores.mirror(first + e, float(iou[e]) - float(reached))
            else:
                gap = margin(true, result) if p.false_of_object and true is not None else math.nan
                self.scores.pair(first + e, p.kind, gap, result.conf if p.false_of_all else math.nan, p.fit)


class Pair(NamedTuple):
    """A true expression against a false one.

    Attributes:
        expression: Number of the true one.
        kind: Kind of the exchanged word.
        margin: Score of the true minus that of the false one at the true box; NaN if not compared there.
        conf: Raw confidence of the false one where it is false of every labelled object, else NaN.
    """

    expression: int
    kind: str
    margin: float
    conf: float


class SensitivityScores:
    """Collects the results of true, false and mirrored expressions."""

    def __init__(self) -> None:
        self.conf: list[float] = []  # per expression, as the next two
        self.right: list[bool] = []
        self.hard: list[bool] = []
        self.pairs: list[Pair] = []
        self.fit_conf: list[float] = []  # of the false expressions that a calibration is fitted on
        self.mirrored: dict[int, list[float]] = {}  # expression: IoU gain of its true wording, per exchange

    def add(self, conf: np.ndarray, right: np.ndarray, hard: np.ndarray) -> int:
        """Add an image's N expressions.

        Args:
            conf: [N] raw confidences of their boxes.
            right: bool [N], the box is right.
            hard: bool [N], another object of the category is in the image.

        Returns:
            Number of the first of them.
        """
        first = len(self.conf)
        self.conf += [float(c) for c in conf]
        self.right += [bool(r) for r in right]
        self.hard += [bool(h) for h in hard]
        return first

    def pair(self, expression: int, kind: str, margin: float, conf: float, fitted: bool) -> None:
        """Add a false expression (see `Pair`); `fitted`: a calibration is fitted on it."""
        self.pairs.append(Pair(expression, kind, margin, conf))
        if fitted:
            self.fit_conf.append(conf)

    def mirror(self, expression: int, gain: float) -> None:
        """Add the IoU gain of an expression over one of its mirrored wordings."""
        self.mirrored.setdefault(expression, []).append(gain)

    def merge(self, other: SensitivityScores) -> None:
        """Add the results of another process; its expressions come after the ones here."""
        first = len(self.conf)
        self.conf += other.conf
        self.right += other.right
        self.hard += other.hard
        self.pairs += [pair._replace(expression=first + pair.expression) for pair in other.pairs]
        self.fit_conf += other.fit_conf
        for expression, gains in other.mirrored.items():
            self.mirrored.setdefault(first + expression, []).extend(gains)

    def observations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return raw confidences [N], right [N] and true [N] of all expressions and their false ones for fitting."""
        false = len(self.fit_conf)
        conf = np.array(self.conf + self.fit_conf, np.float64)
        right = np.array(self.right + [False] * false, bool)
        return conf, right, np.arange(len(conf)) < len(self.conf)

    def fit(self, **about: Any) -> Calibration:
        """Fit a calibration to the observations (see :func:`optisar_yolo.engine.calibrate.fit`)."""
        return fit(*self.observations(), **about)

    def errors(self, calibration: Calibration | None) -> dict[str, float]:
        """Return the expected calibration errors of raw and, with a calibration, of calibrated confidences."""
        conf, right, _ = self.observations()
        after = {} if calibration is None else {"ece": ece(calibration(conf), right)}
        return {"ece_raw": ece(conf, right), **after}

    def figures(self, threshold: float, calibration: Calibration | None = None) -> dict[str, Any]:
        """Compute all figures.

        Args:
            threshold: Confidence threshold, calibrated where there is a calibration.
            calibration: The model's, if it has one.

        Returns:
            ``threshold``, ``listening`` and ``listening_count``, ``ece_raw`` and ``ece``, and ``rows``: one record per
            kind with a pair, and "all", with `FIGURES` (NaN where there is nothing to count) and the counts ``pairs``,
            ``pairs_hard`` and ``false``.
        """
        kinds = [k for k in (*KINDS, *CONTRASTS) if any(p.kind == k for p in self.pairs)]
        rows = [{"kind": k, **self._row([p for p in self.pairs if p.kind == k], threshold, calibration)} for k in kinds]
        rows.append({"kind": "all", **self._row(self.pairs, threshold, calibration)})
        wins = [_mean([_win(g) for g in gains]) for gains in self.mirrored.values()]
        return {
            "threshold": threshold,
            "listening": _mean(wins),
            "listening_count": len(wins),
            **self.errors(calibration),
            "rows": rows,
        }

    def _row(self, pairs: list[Pair], threshold: float, calibration: Calibration | None) -> dict[str, float]:
        compared = [p for p in pairs if not math.isnan(p.margin)]
        hard = [p for p in compared if self.hard[p.expression]]
        absent = [p for p in pairs if not math.isnan(p.conf)]
        origin = sorted({p.expression for p in absent})
        false, true = np.array([p.conf for p in absent]), np.array([self.conf[e] for e in origin])
        if calibration is not None:
            false, true = calibration(false), calibration(true)
        right = np.array([self.right[e] for e in origin], bool)
        return {
            "discrimination": _mean([_win(p.margin) for p in compared]),
            "discrimination_hard": _mean([_win(p.margin) for p in hard]),
            "false_alarm": _mean(list(false >= threshold)),
            "found": _mean(list(right & (true >= threshold))),
            "auc": roc_auc(true, false),
            "pairs": len(compared),
            "pairs_hard": len(hard),
            "false": len(absent),
        }


def flat(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures by their names for callbacks and loggers, such as ``metrics/discrimination(orientation)``."""
    named = {f"metrics/{name}({row['kind']})": row[name] for row in figures["rows"] for name in FIGURES}
    named["metrics/listening(hard)"] = figures["listening"]
    return named | {f"metrics/{k}(all)": figures[k] for k in ("ece_raw", "ece") if k in figures}


def table(figures: dict[str, Any]) -> str:
    """Return a monospace table in percent."""
    heads = ("true > swap", "hard", "pairs", "false alarm", "found", "AUC", "false")
    width = max(len(row["kind"]) for row in figures["rows"])
    lines = [" " * width + "".join(f"{h:>12}" for h in heads)]
    for row in figures["rows"]:
        shown = [row["discrimination"], row["discrimination_hard"], row["pairs"]]
        shown += [row["false_alarm"], row["found"], row["auc"], row["false"]]
        lines.append(f"{row['kind']:<{width}}" + "".join(f"{_cell(v):>12}" for v in shown))
    lines.append(
        f"mirrored wording: in {_cell(figures['listening'])} % of {figures['listening_count']} hard expressions the "
        f"true wording finds the better box (50: chance); threshold {figures['threshold']:.3g}"
    )
    errors = [f"{k} {figures[k]:.3f}" for k in ("ece_raw", "ece") if k in figures]
    return "\n".join([*lines, "calibration error: " + ", ".join(errors)])


def _win(gain: float) -> float:
    """Return 1 for a gain, 0 for a loss, 0.5 for a tie."""
    return 0.5 if abs(gain) <= TIE else float(gain > 0)


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else "-" if math.isnan(value) else f"{100 * value:.2f}"


def _array(values: Tensor) -> Any:
    return values.float().cpu().numpy()
