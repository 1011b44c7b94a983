"""Modules and names that moved: the old ones work, and say once what to write instead.

A checkpoint names the modules of its classes, and programs of users name ours. The finder here stands last on the meta
path, so that it is asked only for modules that do not exist; this file is read only then.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "optisar_yolo"

MODULES = {  # old to new; what stands in an old package moved with it, unless it is named itself
    "annotate.annotate": "annotate.run",
    "arguments": "utils.options",
    "batch.command": "commands.batch",
    "batch.folder": "batch.storage",
    "batch.parts": "batch.manifest",
    "batch.places": "batch.storage",
    "batch.session": "batch.run",
    "build": "construction",
    "build.boxwords": "construction.describing",
    "distill.measure": "text.distillation.distill",
    **dict.fromkeys(("build.builder", "build.commands"), "commands.dataset"),
    **dict.fromkeys(("build.checking", "build.checking.leaks", "build.checking.validate"), "construction.validating"),
    **dict.fromkeys(("build.checking.expressions", "build.checking.findings"), "construction.split_checks"),
    "build.checking.figures": "construction.figures",
    "build.checking.inspecting": "construction.split_checks",
    "build.checking.stats": "construction.statistics",
    "build.checking.vocabulary": "construction.figures",
    **dict.fromkeys(("build.cleaning", "build.cleaning.clean", "build.cleaning.naming"), "construction.cleaning"),
    "build.cleaning.objects": "construction.cleaning",
    "build.cleaning.unify": "construction.finer_words",
    **dict.fromkeys(("build.review.journal", "build.review.queue"), "construction.review.decisions"),
    "build.review.server": "construction.review.page",
    **dict.fromkeys(("build.screening", "build.screening.data", "build.screening.folds"), "construction.screening"),
    "build.screening.screen": "construction.screening",
    "build.screening.training": "construction.detector",
    **dict.fromkeys(("build.sources.coco", "build.sources.lists", "build.sources.records"), "construction.formats"),
    **dict.fromkeys(("build.sources.voc", "build.sources.yolo"), "construction.formats"),
    **dict.fromkeys(("build.sources", "build.sources.importer"), "construction.importing"),
    "build.sources.pickled": "construction.pickled",
    "build.sources.pictures": "construction.image_files",
    **dict.fromkeys(("build.transforms", "build.transforms.transform"), "construction.transforming"),
    "build.transforms.balance": "construction.transforming",
    **dict.fromkeys(("build.transforms.copies", "build.transforms.rewrite"), "construction.copies"),
    "build.transforms.verify": "construction.copies",
    **dict.fromkeys(("build.transforms.llm", "build.transforms.llm_cache"), "construction.rewrite_llm"),
    "build.transforms.rewrite_llm": "construction.rewrite_llm",
    **dict.fromkeys(("build.writing", "build.writing.write"), "construction.writing"),
    **dict.fromkeys(("build.writing.coco", "build.writing.files", "build.writing.voc"), "construction.written_files"),
    "build.writing.placing": "construction.image_files",
    "build.writing.split": "construction.splitting",
    "checkpoint": "engine.checkpoint",
    "cli": "commands.main",
    "data.background": "data.compose",
    "data.cards": "data.config",
    "data.checks": "data.records",
    "data.copy_paste": "data.compose",
    "data.loader": "data.sampler",
    "data.mosaic": "data.compose",
    "data.pixels": "data.images",
    "data.radiometry": "data.augment",
    "data.render": "synthetic.render",
    "data.scenery": "synthetic",
    "data.scenery.canvas": "synthetic.optical",
    "data.scenery.stamps": "synthetic.objects",
    "data.textbank": "text.cache",
    "demo": "commands.demo",
    "distill": "text.distillation",
    "distill.lexicon": "language.vocabulary",
    "distill.paraphrase": "language.generate",
    "engine.asking": "engine.grounding",
    "engine.banks": "engine.grounding",
    "engine.benchmark": "export.benchmark",
    "engine.cases": "visualize.sheet",
    "engine.draw": "visualize.draw",
    "engine.export": "export.export",
    "engine.exported": "export.exported",
    "engine.formats": "export.export",
    "engine.graphs": "export.graphs",
    "engine.judging": "engine.metrics",
    "engine.monitor_log": "engine.monitor",
    "engine.page": "visualize.page",
    "engine.quantise": "export.quantise",
    "engine.runtimes": "export.runtimes",
    "engine.saving": "engine.checkpoint",
    "engine.scene": "api",
    "engine.score": "evaluation.score",
    "engine.sources": "engine.predict",
    "engine.sheet": "visualize.sheet",
    "engine.textgraph": "export.export",
    "engine.tracing": "export.graphs",
    "engine.wordscore": "engine.sensitivity",
    "engine.zeroshot": "evaluation.zeroshot",
    "explain.command": "explain.explainer",
    "explain.explanation": "explain.explainer",
    "explain.frame": "visualize.frame",
    "explain.look": "explain.explainer",
    "explain.panels": "visualize.figures",
    "explain.record": "explain.pages",
    "explain.routing": "engine.routing",
    "explain.sheets": "engine.report",
    "explain.split": "explain.maps",
    "explain.survey": "engine.routing",
    "extras": "utils.extras",
    "files": "utils.files",
    "identify": "plugin.identify",
    "importing": "paper",
    "importing.equals": "paper.release",
    "importing.names": "paper.release",
    "meaning": "language.verify",
    "nn.build": "nn.yaml",
    "nn.compare": "nn.rerank",
    "nn.encoder": "text.encoder",
    "nn.fused": "nn.fuse",
    "nn.mobileclip": "text.mobileclip",
    "nn.parts": "nn.model",
    "nn.plmoe_fitted": "paper.blocks",
    "nn.pocket": "text.pocket",
    "nn.position": "nn.head",
    "nn.sppf": "nn.yaml",
    "nn.text": "text.encoders",
    "nn.tgdf_closed": "paper.blocks",
    "nn.window": "nn.head",
    "ranks": "utils.distributed",
    "reproduce": "paper",
    "reproduce.commands": "paper.runs",
    "reproduce.record": "paper.runs",
    "resources": "plugin.resources",
    "rewording": "language.paraphrase",
    "scene": "geo",
    "scene.command": "commands.scene",
    "scene.compass": "language.compass",
    "scene.quicklook": "geo.outputs",
    "scene.rules": "language.query",
    "scene.state": "geo.run",
    "serve.answers": "serve.grounder",
    "serve.gate": "serve.middleware",
    "serve.maps": "serve.outputs",
    "serve.metrics": "serve.middleware",
    "serve.models": "serve.app",
    "serve.results": "serve.outputs",
    "serve.run_app": "commands.app",
    "serve.run_service": "commands.serve",
    "serve.schema": "serve.service",
    "serve.session": "serve.grounder",
    "settings": "plugin.settings",
    "turning": "language.transform",
    "wording": "language.parser",
}

NAMES: dict[tuple[str, str], str] = {  # (module as it is now, old name) to new name, in another module to module:name
    ("data.records", "load_card"): "data.config:load_dataset_config",
    ("", "Scene"): "EncodedImage",
    ("language.parser", "Meaning"): "ParsedExpression",
    ("language", "RasterQuery"): "ObjectQuery",
    ("language.query", "Query"): "ObjectQuery",
    ("language.query", "RasterQuery"): "ObjectQuery",
    ("language.verify", "Scene"): "LabelledObjects",
    ("explain", "Answer"): "ExplainedBox",
    ("explain.explainer", "Answer"): "ExplainedBox",
    ("api", "Scene"): "EncodedImage",
    ("data.config", "Card"): "DatasetConfig",
    ("data.config", "card_names"): "dataset_names",
    ("data.config", "load_card"): "load_dataset_config",
    ("data.images", "read_encoded"): "decode_image",
    ("evaluation.score", "Scored"): "ScoredPredictions",
    ("evaluation.score", "score"): "score_predictions",
    ("nn.rerank", "CandidateComparison"): "CandidateReranker",
    ("text.cache", "TextBank"): "TextFeatureCache",
    ("geo", "SceneOptions"): "RasterOptions",
    ("geo", "SceneResult"): "RasterResult",
    ("geo", "ground_scene"): "ground_raster",
    ("geo.options", "SceneOptions"): "RasterOptions",
    ("geo.outputs", "SceneResult"): "RasterResult",
    ("geo.run", "ground_scene"): "ground_raster",
    ("serve.grounder", "Answer"): "ExpressionResult",
    ("serve.grounder", "Engine"): "Grounder",
    ("serve.grounder", "Prepared"): "PreparedImage",
    ("serve.grounder", "Question"): "GroundingRequest",
    ("serve.grounder", "Remembered"): "LRUCache",
    ("serve.grounder", "Seen"): "CachedImage",
    ("synthetic.render", "draw"): "render_image",
    ("synthetic.render", "render"): "render_dataset",
    ("visualize.draw", "draw"): "draw_predictions",
    ("visualize.sheet", "Case"): "EvaluatedExpression",
    ("visualize.sheet", "sheet"): "draw_sheet",
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
    where, _, new = new.rpartition(":")
    where = f"{PACKAGE}.{where}" if where else module
    warnings.warn(f"{module}.{name} is now {where}.{new}", FutureWarning, stacklevel=3)
    return getattr(importlib.import_module(where), new)


def with_former_names(module: str, load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that loads names as `load` does, and hands over former ones with a warning."""

    def __getattr__(name: str) -> Any:
        try:
            return load(name)
        except AttributeError:
            return renamed(module, name)

    return __getattr__


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
            if (self.new.removeprefix(PACKAGE).lstrip("."), name) in NAMES:  # so that the warning names the user's line
                return renamed(self.new, name)
            return getattr(new, name)

        module.__doc__, module.__getattr__ = f"Moved to `{self.new}`.", __getattr__  # type: ignore[method-assign]
        warnings.warn(
            f"{module.__name__} is now {self.new}", FutureWarning, stacklevel=2
        )  # frames of the import system do not count


def find_spec(fullname: str) -> ModuleSpec | None:
    """Return the spec of a module that moved, or None."""
    new = new_module(fullname)
    try:
        if new is None or importlib.util.find_spec(new) is None:
            return None
    except ModuleNotFoundError:  # a name that an old module does not have, looked for as a module below it
        return None
    return ModuleSpec(fullname, Loader(new), is_package=True)  # type: ignore[arg-type]  # the two methods are enough
