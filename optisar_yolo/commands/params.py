"""``optisar params``: the parameter counts of the five scales."""

from __future__ import annotations

from typing import Any

from optisar_yolo.utils import Command

COMMAND = Command("params", "parameter counts of the five scales")


def main(values: dict[str, Any]) -> None:
    """Print the parameter counts of the five scales."""
    from optisar_yolo.nn import count_table

    print(count_table())
