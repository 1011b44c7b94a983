"""Sphinx configuration of the documentation: ``make docs`` builds it into ``build/docs``, where warnings are errors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from optisar_yolo.version import __version__  # noqa: E402

project = "optisar-yolo"
author = "The optisar-yolo contributors"
project_copyright = f"{author}, AGPL-3.0-or-later"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
    "rooms",
]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md", "_ext"]  # index.md includes README.md, which GitHub shows for the folder

myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_fence_as_directive = ["mermaid"]
myst_enable_extensions = ["colon_fence"]

# Packages of extras: a page about a part of the package is built without the part's extra.
OPTIONAL = (
    "bokeh", "fastapi", "gradio", "limits", "nicegui", "openai", "prometheus_client", "pyarrow", "ray", "starlette",
    "uvicorn",
)  # fmt: skip
autodoc_mock_imports = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"optisar-yolo {release}"
html_static_path: list[str] = []
html_show_sourcelink = False
templates_path: list[str] = []
