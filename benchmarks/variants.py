"""The variants of the ablation: their models and settings, and what each one tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optisar_yolo.paper.networks import change

Edit = Callable[[dict[str, Any]], None]
FUSION = (5, 8, 11)  # indices of the fusion rows among the rows of "head"


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        note: What it is, for the table.
        model: Packaged model YAML it starts from.
        settings: Arguments of the training.
        edits: Changes to the model's description.
    """

    note: str
    model: str = "optisar++.yaml"
    settings: dict[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()


def changed(**parts: Any) -> Edit:  # noqa: ANN401
    """Remove parts or set arguments of the head, as `optisar reproduce` does."""
    return lambda model: change(model, parts)


def with_experts(model: dict[str, Any]) -> None:
    """Put PL-MoE into row 8."""
    model["backbone"][8] = [-1, 2, "PLMoE", [1024, 8, 2, 8, 2]]


def closed_gates(model: dict[str, Any]) -> None:
    """Set both gates to 0, where the release starts and stays: the blocks do not depend on the text."""
    for row in FUSION:
        model["head"][row][3] = [model["head"][row][3][0], 256, 4, 32, 0.0]


OURS: dict[str, Any] = {"neg_ratio": 1.5, "reword": 0.3, "describe": 0.5, "choice": 0.5}
PLAIN: dict[str, Any] = {"reword": 0.0, "describe": 0.0, "choice": 0.0}  # the captions as they are, the paper's losses
PAPER: dict[str, Any] = PLAIN | {"neg_ratio": 0.5}
RELEASED: dict[str, Any] = PAPER | {
    "negatives": "released", "guide": "union", "rewrite": False, "fliplr": 0.5, "flipud": 0.0, "mosaic": 1.0,
    "close_mosaic": 1, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "scale": 0.5,
}  # fmt: skip


VARIANTS: dict[str, Variant] = {
    "released": Variant("the release: gates 0, its sampling, flips and mosaic that falsify captions",
                        "optisar++-released.yaml", RELEASED),
    "baseline": Variant("YOLOE's recipe: no experts, no fusion, random negatives; captions stay true",
                        "optisar++-baseline.yaml", PLAIN | {"negatives": "random", "region": 0.0}),
    "adversarial": Variant("baseline + adversarial negatives, proven (ratio 0.5)",
                           "optisar++-baseline.yaml", PAPER | {"region": 0.0}),
    "experts": Variant("adversarial + PL-MoE", "optisar++-baseline.yaml", PAPER | {"region": 0.0}, (with_experts,)),
    "paper": Variant("experts + TGDF-SSA + region head: the paper's method, made to work",
                     "optisar++.yaml", PAPER, (changed(position=False, candidates=0),)),
    "ours": Variant("all of it", settings=OURS),
    "no-position": Variant("ours without the position code", settings=OURS, edits=(changed(position=False),)),
    "no-choice": Variant("ours without the choice loss", settings=OURS | {"choice": 0.0}),
    "no-describe": Variant("ours without expressions derived from boxes", settings=OURS | {"describe": 0.0}),
    "no-reword": Variant("ours without rewording", settings=OURS | {"reword": 0.0}),
    "ratio-0.5": Variant("ours with the paper's ratio of adversarial negatives", settings=OURS | {"neg_ratio": 0.5}),
    "random-negatives": Variant("ours with random negatives only", settings=OURS | {"negatives": "random"}),
    "false-captions": Variant("ours, but flips leave the captions as they are", settings=OURS | {"rewrite": False}),
    "no-experts": Variant("ours without PL-MoE", settings=OURS, edits=(changed(experts=0),)),
    "no-fusion": Variant("ours without TGDF-SSA", settings=OURS, edits=(changed(fusion=False),)),
    "closed-gates": Variant("ours with both gates at 0: TGDF-SSA without text", settings=OURS, edits=(closed_gates,)),
    "guide-any": Variant("ours, the fusion guided by any expression of the list", settings=OURS | {"guide": "any"}),
    "guide-union": Variant("ours, the fusion guided by all expressions at once", settings=OURS | {"guide": "union"}),
    "guide-weighted": Variant("ours, guided by any expression, whose own scores count five times",
                              settings=OURS | {"guide": "any", "guide_gain": 5.0}),
    "no-region": Variant("ours without the region loss", settings=OURS | {"region": 0.0}),
    "compare": Variant("ours with the reranker", settings=OURS, edits=(changed(candidates=24),)),
    "compare-no-fusion": Variant("ours with the reranker, without TGDF-SSA: optisar++-late.yaml",
                                 "optisar++-late.yaml", OURS),
    "late-random-negatives": Variant("compare-no-fusion with random negatives only",
                                     "optisar++-late.yaml", OURS | {"negatives": "random"}),
    "late-false-captions": Variant("compare-no-fusion, but flips leave the captions as they are",
                                   "optisar++-late.yaml", OURS | {"rewrite": False}),
    "late-no-describe": Variant("compare-no-fusion without expressions derived from boxes",
                                "optisar++-late.yaml", OURS | {"describe": 0.0}),
    "late-no-reword": Variant("compare-no-fusion without rewording", "optisar++-late.yaml", OURS | {"reword": 0.0}),
    "late-no-region": Variant("compare-no-fusion without the region loss",
                              "optisar++-late.yaml", OURS | {"region": 0.0}),
}  # fmt: skip
