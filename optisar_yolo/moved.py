"""Modules and names that moved: the old ones work, and say once what to write instead.

A checkpoint names the modules of its classes, and programs of users name ours. The finder here stands last on the meta
path, so that it is asked only for modules that do not exist; this file is read only then.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "optisar_yolo"

MODULES = {  # old to new; what stands in an old package moved with it, unless it is named itself
    "arguments": "utils.arguments",
    "build": "construction",
    "checkpoint": "engine.checkpoint",
    "cli": "commands.main",
    "data.cards": "data.config",
    "data.pixels": "data.images",
    "data.render": "synthetic.render",
    "data.scenery": "synthetic",
    "data.textbank": "text.cache",
    "demo": "commands.demo",
    "distill": "text.distillation",
    "distill.lexicon": "language.lexicon",
    "distill.paraphrase": "language.generate",
    "engine.asking": "engine.grounding",
    "engine.banks": "engine.grounding",
    "engine.benchmark": "export.benchmark",
    "engine.cases": "data.cases",
    "engine.draw": "visualize.draw",
    "engine.export": "export.export",
    "engine.exported": "export.exported",
    "engine.formats": "export.formats",
    "engine.graphs": "export.graphs",
    "engine.page": "visualize.page",
    "engine.quantise": "export.quantise",
    "engine.runtimes": "export.runtimes",
    "engine.scene": "engine.encoded_image",
    "engine.score": "evaluation.score",
    "engine.sheet": "visualize.sheet",
    "engine.textgraph": "export.textgraph",
    "engine.tracing": "export.tracing",
    "engine.zeroshot": "evaluation.zeroshot",
    "explain.command": "explain.explainer",
    "explain.explanation": "explain.explainer",
    "explain.frame": "visualize.frame",
    "explain.look": "explain.explainer",
    "explain.panels": "visualize.panels",
    "explain.record": "explain.pages",
    "explain.routing": "engine.routing",
    "explain.sheets": "engine.answer_sheets",
    "explain.split": "explain.maps",
    "explain.survey": "engine.routing_survey",
    "extras": "utils.extras",
    "files": "utils.files",
    "identify": "plugin.identify",
    "importing": "paper",
    "meaning": "language.verify",
    "nn.build": "nn.yaml",
    "nn.compare": "nn.rerank",
    "nn.encoder": "text.encoder",
    "nn.fused": "nn.fuse",
    "nn.mobileclip": "text.mobileclip",
    "nn.parts": "nn.model",
    "nn.plmoe_fitted": "paper.plmoe_fitted",
    "nn.pocket": "text.pocket",
    "nn.position": "nn.head",
    "nn.sppf": "nn.yaml",
    "nn.text": "text.encoders",
    "nn.tgdf_closed": "paper.tgdf_closed",
    "nn.window": "nn.head",
    "ranks": "utils.distributed",
    "reproduce": "paper",
    "resources": "plugin.resources",
    "rewording": "language.paraphrase",
    "scene": "geo",
    "scene.command": "commands.scene",
    "scene.compass": "language.compass",
    "scene.quicklook": "geo.outputs",
    "scene.rules": "language.query",
    "scene.state": "geo.run",
    "settings": "plugin.settings",
    "turning": "language.transform",
    "wording": "language.parser",
}

NAMES: dict[tuple[str, str], str] = {  # (module as it is now, old name) to new name
    ("", "Scene"): "EncodedImage",
    ("explain", "Answer"): "ExplainedBox",
    ("explain.explainer", "Answer"): "ExplainedBox",
    ("nn.rerank", "CandidateComparison"): "CandidateReranker",
    ("geo", "SceneOptions"): "RasterOptions",
    ("geo", "SceneResult"): "RasterResult",
    ("geo", "ground_scene"): "ground_raster",
    ("geo.options", "SceneOptions"): "RasterOptions",
    ("geo.outputs", "SceneResult"): "RasterResult",
    ("geo.run", "ground_scene"): "ground_raster",
}


def new_module(old: str) -> str | None:
    """Return the full name of the module that took the place of one, or None."""
    tail, rest = old.removeprefix(PACKAGE + "."), ""
    while tail:
        if tail in MODULES:
            return f"{PACKAGE}.{MODULES[tail]}{rest}"
        tail, _, last = tail.rpartition(".")
        rest = f".{last}{rest}"
    return None


def renamed(module: str, name: str) -> Any:
    """Return what a module calls otherwise now, with a warning.

    Args:
        module: Full name of the module as it is now.
        name: An old name.

    Raises:
        AttributeError: There is no such name, nor was there.
    """
    new = NAMES.get((module.removeprefix(PACKAGE).lstrip("."), name))
    if new is None:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    warnings.warn(f"{module}.{name} is now {module}.{new}", FutureWarning, stacklevel=3)
    return getattr(importlib.import_module(module), new)


class Loader:
    """Makes a module that hands over the names of the one that took its place."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the module; an empty path leaves its old submodules to the finder."""
        module = ModuleType(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module, and say where it went."""
        new = importlib.import_module(self.new)

        def __getattr__(name: str) -> Any:
            try:
                return getattr(new, name)
            except AttributeError:
                return renamed(self.new, name)

        module.__doc__, module.__getattr__ = f"Moved to `{self.new}`.", __getattr__  # type: ignore[method-assign]
        warnings.warn(
            f"{module.__name__} is now {self.new}", FutureWarning, stacklevel=2
        )  # frames of the import system do not count


def find_spec(fullname: str) -> ModuleSpec | None:
    """Return the spec of a module that moved, or None."""
    new = new_module(fullname)
    if new is None or importlib.util.find_spec(new) is None:
        return None
    return ModuleSpec(fullname, Loader(new), is_package=True)  # type: ignore[arg-type]  # the two methods are enough
