"""The figures of :mod:`optisar_yolo.engine.sensitivity`, from what was asked and found."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from optisar_yolo.engine.calibrate import Calibration, ece, fit, roc_auc
from optisar_yolo.language import KINDS

TIE = 1e-3  # of two scores or IoUs: below it lies the rounding of sums over other batches
FIGURES = ("discrimination", "discrimination_hard", "false_alarm", "found", "auc")
RULES = {
    "discrimination": "share of pairs whose true expression scores higher at the true box than its swap; ties half",
    "discrimination_hard": "the same, where another object of the category is in the image",
    "listening": "share of hard expressions whose true wording finds a box of higher IoU than the mirrored one; "
    "ties half",
    "false_alarm": "share of expressions false of every labelled object that get an answer at the threshold",
    "found": "share of the true expressions they were made from that get a right one (IoU >= 0.5) at the threshold",
    "auc": "area under the ROC curve of the confidences of these two groups",
    "ece": "expected calibration error over all expressions and one such false expression each",
}


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


class WordScores:
    """Collects answers to true, false and mirrored expressions."""

    def __init__(self) -> None:
        self.conf: list[float] = []  # per expression, as the next two
        self.right: list[bool] = []
        self.hard: list[bool] = []
        self.pairs: list[Pair] = []
        self.fit_conf: list[float] = []  # of the false expressions that a calibration is fitted on
        self.mirrored: dict[int, list[float]] = {}  # expression -> IoU won by its true wording, per exchange

    def add(self, conf: np.ndarray, right: np.ndarray, hard: np.ndarray) -> int:
        """Add an image's N expressions.

        Args:
            conf: [N] raw confidences of their answers.
            right: bool [N].
            hard: bool [N].

        Returns:
            Number of the first.
        """
        first = len(self.conf)
        self.conf += [float(c) for c in conf]
        self.right += [bool(r) for r in right]
        self.hard += [bool(h) for h in hard]
        return first

    def pair(self, expression: int, kind: str, margin: float, conf: float, fitted: bool) -> None:
        """Add a false expression (see `Pair`); fitted: a calibration is fitted on it."""
        self.pairs.append(Pair(expression, kind, margin, conf))
        if fitted:
            self.fit_conf.append(conf)

    def mirror(self, expression: int, gain: float) -> None:
        """Add the IoU that an expression wins over one of its mirrored wordings."""
        self.mirrored.setdefault(expression, []).append(gain)

    def merge(self, other: WordScores) -> None:
        """Add what another process has collected; its expressions come after ours."""
        first = len(self.conf)
        self.conf += other.conf
        self.right += other.right
        self.hard += other.hard
        self.pairs += [pair._replace(expression=first + pair.expression) for pair in other.pairs]
        self.fit_conf += other.fit_conf
        for expression, gains in other.mirrored.items():
            self.mirrored.setdefault(first + expression, []).extend(gains)

    def observations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return raw confidences [N], right [N] and true [N] of all expressions and one false expression for each."""
        false = len(self.fit_conf)
        conf = np.array(self.conf + self.fit_conf, np.float64)
        right = np.array(self.right + [False] * false, bool)
        return conf, right, np.arange(len(conf)) < len(self.conf)

    def fit(self, **about: Any) -> Calibration:
        """Fit a calibration to the observations (see :func:`optisar_yolo.engine.calibrate.fit`)."""
        return fit(*self.observations(), **about)

    def errors(self, calibration: Calibration | None) -> dict[str, float]:
        """Return the expected calibration error of raw and, with a calibration, calibrated confidences."""
        conf, right, _ = self.observations()
        after = {} if calibration is None else {"ece": ece(calibration(conf), right)}
        return {"ece_raw": ece(conf, right), **after}

    def figures(self, threshold: float, calibration: Calibration | None = None) -> dict[str, Any]:
        """Compute all figures.

        Args:
            threshold: Least confidence of an answer, calibrated where there is a calibration.
            calibration: Of the model, if it has one.

        Returns:
            ``threshold``, ``listening`` and ``listening_count``, ``ece_raw`` and ``ece``, and ``rows``: one record per
            kind with a pair, and "all", with `FIGURES` (NaN where there is nothing to count) and the counts ``pairs``,
            ``pairs_hard`` and ``false``.
        """
        kinds = [k for k in KINDS if any(p.kind == k for p in self.pairs)]
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
    """Return the figures under names for callbacks and loggers, ``metrics/discrimination(orientation)`` and so on."""
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
        f"listening {_cell(figures['listening'])} of {figures['listening_count']} hard expressions with a direction "
        f"(50: words are ignored); threshold {figures['threshold']:.3g}"
    )
    errors = [f"{k} {figures[k]:.3f}" for k in ("ece_raw", "ece") if k in figures]
    return "\n".join([*lines, "calibration error: " + ", ".join(errors)])


def _win(gain: float) -> float:
    """1 for a win, 0 for a defeat, a half for a tie."""
    return 0.5 if abs(gain) <= TIE else float(gain > 0)


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else "-" if math.isnan(value) else f"{100 * value:.2f}"
