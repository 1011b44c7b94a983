"""Sphinx extension: the public names of a room, and pages that lie elsewhere in the repository.

1. ``.. room:: geo`` documents every name that ``optisar_yolo/geo/__init__.pyi`` lists, in its order, by autodoc.
2. A page with the line ``<!-- site: ../CHANGELOG.md -->`` shows that file there. On GitHub it is a page with a link.
3. A link to a file outside of docs/ (``../examples/quickstart.py``) leads to the page that shows it, or else to a copy
   of the file. A link to a folder becomes plain text.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import optisar_yolo

PACKAGE = Path(optisar_yolo.__file__).resolve().parent
SHOWN = re.compile(r"^<!-- site: (\S+) -->$", re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```[^\n]*$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def names_of(room: str) -> dict[str, str]:
    """Return the names that the public interface of a room lists, each with the module that defines it."""
    tree = ast.parse((PACKAGE / room / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"optisar_yolo.{room}.{node.module}" for node in imports for alias in node.names}


def comment_of(module: str, name: str) -> list[str]:
    """Return the lines of the docstring that follows a constant."""
    return ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name), [])


class Room(SphinxDirective):
    """Documents the public names of a room; to be used in reStructuredText."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the documentation of classes, functions and constants."""
        room = self.arguments[0]
        module = importlib.import_module(f"optisar_yolo.{room}")
        lines: list[str] = []
        for name, origin in names_of(room).items():
            value: Any = getattr(module, name)
            target = f"optisar_yolo.{room}.{name}"
            if inspect.isclass(value):
                lines += [f".. autoclass:: {target}", "   :members:", ""]
            elif callable(value):
                lines += [f".. autofunction:: {target}", ""]
            else:
                lines += [f".. py:data:: {target}", "", *(f"   {line}" for line in comment_of(origin, name)), ""]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, node)
        return node.children


def shown_pages(docs: Path) -> dict[Path, Path]:
    """Return the files that a page of the site shows, with their pages."""
    found = {}
    for page in sorted(docs.rglob("*.md")):
        for target in SHOWN.findall(page.read_text(encoding="utf-8")):
            found[(page.parent / target).resolve()] = page
    return found


def with_links(text: str, origin: Path, page: Path, pages: dict[Path, Path], docs: Path) -> str:
    """Return Markdown whose links work on the site.

    Args:
        text: The text of a file.
        origin: Folder of that file, where its links start.
        page: The page that shows it.
        pages: As of :func:`shown_pages`.
        docs: Folder of the pages.
    """

    def replaced(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        file = (origin / target).resolve()
        if file in pages or docs in file.parents:
            return f"[{label}]({os.path.relpath(pages.get(file, file), page.parent)}{anchor})"
        if file.is_file() and file.suffix in (".png", ".jpg"):
            return f"[{label}]({os.path.relpath(file, page.parent)})"
        if file.is_file():
            return f"[{label}](path:{os.path.relpath(file, page.parent)})"
        return label if file.exists() else match[0]  # what does not exist is for Sphinx to report

    parts = FENCED.split(text)
    return "".join(part if i % 2 else LINK.sub(replaced, part) for i, part in enumerate(parts))


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Put the files that a page shows into it, and make its links work."""
    page = Path(app.env.doc2path(docname)).resolve()
    docs = Path(app.srcdir).resolve()
    pages = shown_pages(docs)
    if match := SHOWN.search(content[0]):
        file = (page.parent / match[1]).resolve()
        app.env.note_dependency(str(file))
        body = with_links(file.read_text(encoding="utf-8"), file.parent, page, pages, docs)
        rest = content[0][match.end() :]
        content[0] = body + with_links(rest, page.parent, page, pages, docs)
    else:
        content[0] = with_links(content[0], page.parent, page, pages, docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the reader of pages."""
    app.add_directive("room", Room)
    app.connect("source-read", read)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
