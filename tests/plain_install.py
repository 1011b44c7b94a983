"""Runs commands where only what `pip install optisar-yolo` installs can be imported: python plain_install.py LINES.

LINES is a JSON list of command lines, each a list of words. Prints the exit status of each.

Every top-level module that belongs to other packages alone is hidden. What belongs to the plain install follows from
the requirements of the installed packages, from optisar-yolo on, without extras.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALWAYS = {"optisar_yolo", "pip", "setuptools", "pkg_resources", "_distutils_hack"}


def plain_packages() -> set[str]:
    """Return the names of the packages that a plain install brings."""
    found: set[str] = set()
    waiting = [("optisar-yolo", frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(canonicalize_name(name))
        for line in lines:
            wanted = Requirement(line)
            marks = [{"extra": extra} for extra in (*extras, "")]
            if wanted.marker is None or any(wanted.marker.evaluate(mark) for mark in marks):
                waiting.append((wanted.name, frozenset(wanted.extras)))
    return found


def other_modules() -> set[str]:
    """Return the top-level modules that a plain install does not bring."""
    plain = plain_packages()
    owners = metadata.packages_distributions().items()
    return {m for m, names in owners if not plain & {canonicalize_name(n) for n in names}} - ALWAYS


class Hiding:
    """A finder of modules that does not find some.

    Args:
        finder: The finder that finds them.
        names: Top-level names of what it shall not find.
    """

    def __init__(self, finder: Any, names: set[str]) -> None:
        self.finder, self.names = finder, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Find a module that is not hidden."""
        hidden = fullname.partition(".")[0] in self.names
        return None if hidden else self.finder.find_spec(fullname, path, target)


if __name__ == "__main__":
    hidden = other_modules()
    for name in [n for n in sys.modules if n.partition(".")[0] in hidden]:
        del sys.modules[name]
    sys.meta_path[:] = [Hiding(f, hidden) if f is PathFinder else f for f in sys.meta_path]
    from optisar_yolo.commands.main import main

    for words in json.loads(sys.argv[1]):
        print("status", main(words), " ".join(words), flush=True)
