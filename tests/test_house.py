"""The house in order: doors open, one meaning per class name, no endless files."""

from __future__ import annotations

import ast
import collections
import importlib
from pathlib import Path

import pytest

import optisar_yolo

PACKAGE = Path(optisar_yolo.__file__).parent
ROOMS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.pyi"))
LONGEST = 500  # lines of a file


def test_there_are_rooms() -> None:
    assert {"data", "engine", "geo", "language", "nn", "text", "utils"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_door_is_there(room: str) -> None:
    module = importlib.import_module(f"optisar_yolo.{room}")
    listed = [
        alias.name
        for node in ast.parse((PACKAGE / room / "__init__.pyi").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(listed) == sorted(module.__all__) and len(listed) == len(set(listed))
    modules = {p.stem for p in (PACKAGE / room).iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    for name in listed:
        assert getattr(module, name) is not None
        assert name not in modules, "a module of that name would stand in its place"


def test_a_class_name_has_one_meaning() -> None:
    found = collections.Counter(
        node.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in found.items() if count > 1]


def test_no_file_is_longer_than_a_reader_stands() -> None:
    lengths = {p.name: p.read_text(encoding="utf-8").count("\n") for p in PACKAGE.rglob("*.py")}
    assert not {name: n for name, n in lengths.items() if n > LONGEST}
