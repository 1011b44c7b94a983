"""Parts of a network by name, the same in the record of a training and in what explains an answer."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def named_parts(net: Any, kind: type[Kind], prefix: str) -> dict[str, Kind]:
    """Find the parts of a kind in a network, by prefix and number of their row: ``moe8``, then ``moe8.1``."""
    found: dict[str, Kind] = {}
    for row in net.model:
        for n, part in enumerate(m for m in row.modules() if isinstance(m, kind)):
            found[f"{prefix}{row.i}" + (f".{n}" if n else "")] = part
    return found
