"""Settings of a distillation, which are options of ``optisar distill`` too."""

from __future__ import annotations

from dataclasses import dataclass

from optisar_yolo.utils import check_options, option


@dataclass(frozen=True)
class DistillConfig:
    """Settings of a distillation; ``options_of(DistillConfig)`` says what each one is.

    Raises:
        SettingError: A value out of range.
    """

    steps: int = option(600, "int", "optimiser steps", low=1)
    # The token table learns at a quarter of the rate, so that words in no expression keep their place among the others.
    lr: float = option(1e-3, "float", "peak learning rate of the layers", low=0)
    meanings: int = option(7000, "int", "generated meanings, each with a variant that differs in one slot", low=1)
    wordings: int = option(4, "int", "wordings of each generated meaning", low=1)
    pairs: int = option(48, "int", "pairs of a meaning and its variant in a step", low=1)
    real: int = option(96, "int", "expressions of the corpus in a step", low=1)
    generic: int = option(128, "int", "texts of random vocabulary words in a step", low=1)
    rank: float = option(4.0, "float", "weight of the ranking loss", low=0)
    margin: float = option(0.15, "float", "cosine by which a rewording must be nearer than any other meaning", low=0)
    temperature: float = option(0.05, "float", "softness of the ranking loss, in cosine", low=1e-6)
    noise: float = option(0.1, "float", "standard deviation of the noise on token vectors, relative to theirs", low=0)
    seed: int = option(0, "int", "seed of every random draw", low=0)

    def __post_init__(self) -> None:
        check_options(self)
