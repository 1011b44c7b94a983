"""Calibration of confidences: Platt scaling, a confidence threshold, and their errors.

A network's raw score ranks boxes; it is not the probability that a box is right. Calibration makes it one
(IoU >= 0.5): ``sigmoid(a * logit(raw) + b)`` (Platt, 1999).

1. :func:`fit` takes the best boxes of a split's true expressions, and of expressions proven false of every object.
2. :func:`fit_platt` fits a and b by logistic regression. As a > 0, the order of boxes and all grounding figures stay.
3. :func:`best_threshold` finds the threshold of the highest F1.

The probability holds for the mix of true and false expressions that it was fitted on.

A model has a second calibration for all boxes of an expression that means several objects ("all ships"; see
:mod:`optisar_yolo.engine.matches`). Both have one form; the functions take the name of the attribute that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

DEFAULT_CONF = 0.05  # confidence threshold of a model without calibration
BINS = 15  # of equal width, for the calibration error (Guo et al., 2017)
ATTRIBUTE = "calibration"  # attribute of a network, and key in the metadata of its files
MATCH_ATTRIBUTE = "match_calibration"  # the same for all boxes of an expression that means several objects
EPSILON = 1e-7  # a raw confidence of 0 or 1 is rounding: single precision has nothing between 1 - EPSILON / 2 and 1


class CalibrationError(ValueError):
    """No calibration can be fitted, or a stored one cannot be read."""


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        a: Slope on the logit of the raw confidence; above 0.
        b: Offset.
        threshold: Threshold of the calibrated confidence, that of the highest F1 (see `best_threshold`).
        data: Name of the dataset config that it was fitted on.
        split: Its split.
        imgsz: Long side of the images in the network, pixels.
        true: Number of true expressions that it was fitted on.
        false: Number of false ones.
        ece_before: Expected calibration error of the raw confidences, on the same expressions.
        ece_after: That of the calibrated confidences.
        f1: F1 at the threshold.
    """

    a: float
    b: float
    threshold: float
    data: str = ""
    split: str = ""
    imgsz: int = 0
    true: int = 0
    false: int = 0
    ece_before: float = math.nan
    ece_after: float = math.nan
    f1: float = math.nan

    def __call__(self, conf: np.ndarray) -> np.ndarray:
        """Return calibrated confidences of raw ones, in the same shape; NaN (no box) stays NaN."""
        return _sigmoid(self.a * logit(conf) + self.b)

    def raw(self, conf: np.ndarray) -> np.ndarray:
        """Return the raw confidences of calibrated ones, the inverse of a call."""
        return _sigmoid((logit(conf) - self.b) / self.a)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file's metadata, without those that are NaN."""
        return {k: v for k, v in asdict(self).items() if not (isinstance(v, float) and math.isnan(v))}

    @classmethod
    def from_dict(cls, values: Any, source: str | Path = "calibration") -> Calibration | None:
        """Read the result of `to_dict`; entries of later versions are ignored.

        Args:
            values: The dictionary, or None for no calibration.
            source: Name of its file, for messages.

        Raises:
            CalibrationError: a, b or the threshold is missing or no usable number.
        """
        if values is None:
            return None
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values} if isinstance(values, dict) else {}
        needed = [known.get(k) for k in ("a", "b", "threshold")]
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in needed) or known["a"] <= 0:
            raise CalibrationError(f"{source}: unusable calibration {values}; calibrate the model again")
        return cls(**known)

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"calibration on {self.data} {self.split}, {self.true} true and {self.false} false expressions: "
            f"a={self.a:.3f} b={self.b:.3f}, error {self.ece_before:.3f} -> {self.ece_after:.3f}, "
            f"threshold {self.threshold:.3f} (F1 {self.f1:.3f})"
            f"{'; rough: the error did not fall on so few expressions' if self.ece_after >= self.ece_before else ''}"
        )


def calibration_of(model: Any, attribute: str = ATTRIBUTE) -> Calibration | None:
    """Return a network's calibration, or None; with `MATCH_ATTRIBUTE` that of all boxes of an expression."""
    return Calibration.from_dict(getattr(model, attribute, None), type(model).__name__)


def match_calibration_of(model: Any) -> Calibration | None:
    """Return the calibration of all boxes of an expression; that of best boxes where a network has no other."""
    return calibration_of(model, MATCH_ATTRIBUTE) or calibration_of(model)


def attach(model: Any, calibration: Calibration | None, attribute: str = ATTRIBUTE) -> None:
    """Set a network's calibration, as plain values that any version can unpickle; None removes it."""
    setattr(model, attribute, None if calibration is None else calibration.to_dict())


def calibrations(model: Any) -> dict[str, dict[str, Any]]:
    """Return the calibrations of a network by attribute, for the metadata of its files."""
    found = {name: calibration_of(model, name) for name in (ATTRIBUTE, MATCH_ATTRIBUTE)}
    return {name: calibration.to_dict() for name, calibration in found.items() if calibration is not None}


def attach_all(model: Any, meta: Mapping[str, Any], source: str | Path) -> None:
    """Set the calibrations of a network from a file's metadata.

    Args:
        model: The network.
        meta: The metadata.
        source: The file, for messages.

    Raises:
        CalibrationError: One of them is unusable.
    """
    for name in (ATTRIBUTE, MATCH_ATTRIBUTE):
        attach(model, Calibration.from_dict(meta.get(name), source), name)


def default_conf(model: Any) -> float:
    """Return the confidence threshold of a model where the caller sets none."""
    calibration = calibration_of(model)
    return DEFAULT_CONF if calibration is None else calibration.threshold


def default_match_conf(model: Any) -> float:
    """Return the confidence threshold of all boxes of an expression where the caller sets none."""
    calibration = match_calibration_of(model)
    return DEFAULT_CONF if calibration is None else calibration.threshold


def logit(conf: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) as float64, finite for 0 and 1."""
    p = np.clip(np.asarray(conf, np.float64), EPSILON, 1 - EPSILON)
    return np.log(p) - np.log1p(-p)


def fit(conf: np.ndarray, right: np.ndarray, true: np.ndarray, wanted: int | None = None, **about: Any) -> Calibration:
    """Fit a calibration.

    Args:
        conf: [N] raw confidences of the best box of each expression.
        right: bool [N], the expression is true and the box is right.
        true: bool [N], the expression is true.
        wanted: How many boxes there are to find, for F1; by default one for each true expression.
        **about: ``data``, ``split`` and ``imgsz``.

    Raises:
        CalibrationError: All boxes are right, or none is, or right boxes are not more confident than wrong ones.
    """
    conf, right, true = np.asarray(conf, np.float64), np.asarray(right, bool), np.asarray(true, bool)
    if not 0 < right.sum() < len(right):
        raise CalibrationError(f"{int(right.sum())} of {len(right)} boxes are right: no calibration can be fitted")
    a, b = fit_platt(logit(conf), right)
    if a <= 0:
        raise CalibrationError("right boxes are not more confident than wrong ones: no calibration can be fitted")
    after = Calibration(a, b, 0.0)(conf)
    threshold, f1 = best_threshold(after, right, int(true.sum()) if wanted is None else wanted)
    return Calibration(
        a,
        b,
        threshold,
        true=int(true.sum()),
        false=int((~true).sum()),
        ece_before=ece(conf, right),
        ece_after=ece(after, right),
        f1=f1,
        **about,
    )


def fit_platt(x: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Fit a logistic regression of `right` on a logit, by Newton's method with step halving.

    Targets are Platt's, (n+ + 1) / (n+ + 2) and 1 / (n- + 2) in place of 1 and 0, so that a solution exists where the
    two classes are separable.

    Args:
        x: [N] logits.
        right: bool [N], with both values.

    Returns:
        a and b of sigmoid(a * x + b).
    """
    up, down = int(right.sum()), int((~right).sum())
    y = np.where(right, (up + 1) / (up + 2), 1 / (down + 2))
    centre, spread = float(x.mean()), float(x.std()) or 1.0  # Newton needs few steps on standardised values
    design = np.stack([(x - centre) / spread, np.ones_like(x)], 1)  # [N, 2]

    def loss(w: np.ndarray) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - y * z).mean())

    w = np.array([0.0, math.log((up + 1) / (down + 1))])
    for _ in range(100):
        p = _sigmoid(design @ w)
        gradient = design.T @ (p - y) / len(x)
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(x) + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size /= 2
        w = w - size * step
    return float(w[0] / spread), float(w[1] - w[0] * centre / spread)


def best_threshold(conf: np.ndarray, right: np.ndarray, true: int) -> tuple[float, float]:
    """Return the threshold of the highest F1, and that F1.

    Precision is the share of right boxes among those above the threshold, recall the share of true expressions that get
    a right box above it. F1 weighs a wrong box like a missing one; other costs need another ``conf``. Of equal F1 the
    highest threshold is taken. It lies between two confidences, so that rounding moves no box across it.

    Args:
        conf: [N] confidences.
        right: bool [N].
        true: How many of the expressions are true.
    """
    order = np.argsort(-conf, kind="stable")
    sorted_conf, hits = conf[order], np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(conf) + 1) + true)
    last = np.append(sorted_conf[1:] < sorted_conf[:-1], True)  # a threshold keeps all boxes of one confidence, or none
    best = int(np.argmax(np.where(last, f1, -1.0)))
    below = sorted_conf[best + 1] if best + 1 < len(conf) else 0.0
    return float((sorted_conf[best] + below) / 2), float(f1[best])


def ece(conf: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error: mean gap between confidence and accuracy over bins of equal width.

    Args:
        conf: [N] confidences, 0..1.
        right: bool [N].
        bins: Number of bins, weighted by their counts.

    Returns:
        0..1, or NaN for N = 0.
    """
    if not len(conf):
        return math.nan
    which = np.minimum((np.asarray(conf, np.float64) * bins).astype(int), bins - 1)
    gaps = np.bincount(which, np.asarray(conf, np.float64) - np.asarray(right, np.float64), bins)
    return float(np.abs(gaps).sum() / len(conf))


def roc_auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative; ties count half."""
    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(ordered)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))  # no overflow at either end
