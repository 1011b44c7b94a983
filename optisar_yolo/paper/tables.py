"""The cells of the paper's tables: network, training data and settings of each (Sect. V-B and V-C)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PUBLISHED = Path(__file__).with_name("published.yaml")

GROUPS = ("optical", "SAR", "all")
FIGURES = ("Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "meanIoU", "cumIoU")
"""Figures of a validation. They stand here too, so that the help of the command does not import PyTorch."""

SHORT = ("Pr@0.5", "Pr@0.7", "Pr@0.9", "meanIoU", "cumIoU")
"""Figures of the modalities in Table I."""


class ReproduceError(ValueError):
    """A table that cannot be run or written with these options; the message says what to do."""


@dataclass(frozen=True)
class Cell:
    """One training of a table.

    Attributes:
        name: Short name, as in ``cells=30,60``.
        title: What it is, for the table.
        share: Percent of the training images.
        bare: Percent of the training expressions that are replaced by their category's name.
        network: Changes to the model's description (see ``networks.change``).
        settings: Training settings that the table fixes.
    """

    name: str
    title: str
    share: int = 100
    bare: int = 0
    network: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        name: As on the command line.
        title: Its subject.
        cells: Its trainings.
        columns: (group, figure) of the measured figures, such as ("optical", "meanIoU").
        data: Packaged dataset config of the data set that the paper uses.
        about: Key of that data set in the published figures.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    columns: tuple[tuple[str, str], ...]
    data: str = "optsar.yaml"
    about: str = "optsar"

    @property
    def forced(self) -> set[str]:
        """Settings that belong to the table's cells, not to the budget."""
        return {key for cell in self.cells for key in cell.settings}

    def cell(self, name: str) -> Cell:
        """Return a cell by name.

        Raises:
            ReproduceError: There is none of the name.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise ReproduceError(f"{self.name} has no cell '{name}'; it has {', '.join(c.name for c in self.cells)}")


def _of(groups: tuple[str, ...], figures: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Columns: every figure of every group."""
    return tuple((group, figure) for group in groups for figure in figures)


def _experts(experts: int, top_k: int, patch: int | str) -> Cell:
    """A cell of Table VI."""
    level = {1: "token level", "image": "image level"}.get(patch, f"patches of {patch}")
    network = {"experts": experts, "top_k": top_k, "patch": patch}
    return Cell(f"{experts}-{top_k}-{patch}", f"{experts} experts, top {top_k}, {level}", network=network)


_PLAIN = {"position": False, "candidates": 0}  # the paper's networks have neither
_NO_FUSION = _PLAIN | {"fusion": False}
_BARE = {"describe": 0.0}  # no expression made from the boxes, which would undo the replacing

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "table1",
            "OptSAR-RSVG, optical, SAR and all",
            (Cell("full", "all training images"),),
            (*_of(GROUPS[:2], SHORT), *_of(("all",), FIGURES)),
        ),
        Table(
            "table2",
            "data efficiency: 30, 60 and 100 % of the training images",
            tuple(Cell(str(share), f"{share} % of the training images", share=share) for share in (30, 60, 100)),
            _of(GROUPS, ("meanIoU",)),
        ),
        Table(
            "table3",
            "spatial localization: 0, 10 and 30 % of the training expressions replaced by category names",
            tuple(
                Cell(str(bare), f"{bare} % of the training expressions are bare names", bare=bare, settings=_BARE)
                for bare in (0, 10, 30)
            ),
            _of(GROUPS, ("meanIoU",)),
        ),
        Table(
            "table4",
            "DIOR-RSVG, official split, 20 categories",
            (Cell("full", "all training images"),),
            _of(("all",), FIGURES),
            data="dior-rsvg.yaml",
            about="dior",
        ),
        Table(
            "table5",
            "components: adversarial sampling, PL-MoE, semantic injection",
            (
                Cell(
                    "baseline",
                    "backbone, neck, contrastive head; random negatives",
                    network=_NO_FUSION | {"experts": 0},
                    settings={"negatives": "random", "region": 0.0},
                ),
                Cell(
                    "sampling",
                    "+ adversarial negatives",
                    network=_NO_FUSION | {"experts": 0},
                    settings={"negatives": "proven", "region": 0.0},
                ),
                Cell("experts", "+ PL-MoE", network=_NO_FUSION, settings={"negatives": "proven", "region": 0.0}),
                Cell(
                    "full",
                    "+ TGDF-SSA and region head",
                    network=_PLAIN,
                    settings={"negatives": "proven", "region": 1.0},
                ),
            ),
            _of(("all",), ("meanIoU", "cumIoU")),
        ),
        Table(
            "table6",
            "experts, top-k and routing granularity of PL-MoE",
            (
                _experts(2, 2, 2),
                _experts(4, 2, 2),
                _experts(8, 1, 2),
                _experts(8, 3, 2),
                _experts(8, 2, 1),
                _experts(8, 2, "image"),
                _experts(8, 2, 4),
                _experts(8, 2, 2),
            ),
            _of(("all",), ("meanIoU", "cumIoU")),
        ),
    )
}


@functools.cache
def published() -> dict[str, Any]:
    """Return the paper's figures: the content of ``published.yaml``."""
    content: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return content
