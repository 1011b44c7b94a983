"""Results as a tidy table: one row per expression and box, and one row for an expression without a box."""

from __future__ import annotations

from typing import Any

from ultralytics.engine.results import Results

from optisar_yolo.utils import need

LIBRARIES = ("polars", "pandas")
COLUMNS = {
    "text": "str", "answered": "bool", "confidence": "float", "x1": "float", "y1": "float", "x2": "float",
    "y2": "float", "rank": "int", "track": "int", "note": "str", "image": "str",
}  # fmt: skip
"""Columns and their types. Names are those of the tables that ``optisar batch`` writes."""


def tidy_rows(result: Results, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
    """Return the rows of a result's ``to_df``, in the order of the expressions, the best box first."""
    boxes = result.boxes
    found: dict[int, list[tuple[float, list[float], int | None]]] = {}
    if boxes is not None and len(boxes):
        ids = boxes.id.int().tolist() if boxes.id is not None else [None] * len(boxes)
        places = (boxes.xyxyn if normalize else boxes.xyxy).tolist()
        for j, conf, place, track in zip(boxes.cls.int().tolist(), boxes.conf.tolist(), places, ids, strict=True):
            found.setdefault(j, []).append((conf, place, track))
    rows: list[dict[str, Any]] = []
    for j, text in result.names.items():
        common = {"image": str(result.path), "text": text}
        note = getattr(result, "notes", {}).get(text)
        ranked = sorted(found.get(j, []), key=lambda box: -box[0])
        for rank, (conf, place, track) in enumerate(ranked, 1):
            corners = dict(zip(("x1", "y1", "x2", "y2"), (round(v, decimals) for v in place), strict=True))
            rows.append(
                common | {"rank": rank, "confidence": round(conf, decimals)} | corners
                | {"answered": True, "track": track, "note": note}
            )  # fmt: skip
        if not ranked:
            rows.append({**dict.fromkeys(COLUMNS), **common, "answered": False, "note": note})
    return rows


def table_of(rows: list[dict[str, Any]], library: str = "polars") -> Any:
    """Return rows as a data frame with the same columns and types, however few rows there are.

    Args:
        rows: As of :func:`tidy_rows`.
        library: ``"polars"``, which comes with Ultralytics, or ``"pandas"``.

    Raises:
        ValueError: Another library.
        MissingExtraError: The library is not installed.
    """
    if library not in LIBRARIES:
        raise ValueError(f"library='{library}': it must be one of {', '.join(LIBRARIES)}")
    need(library)
    if library == "pandas":
        import pandas as pd

        kinds = {"str": "string", "int": "Int64", "float": "float64", "bool": "bool"}
        return pd.DataFrame({n: pd.Series([row[n] for row in rows], dtype=kinds[kind]) for n, kind in COLUMNS.items()})
    import polars as pl

    types = {"str": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
    return pl.DataFrame(rows, schema={name: types[kind] for name, kind in COLUMNS.items()})
