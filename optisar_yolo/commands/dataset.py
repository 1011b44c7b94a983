"""``optisar dataset``: build a grounding data set step by step, or all steps of a recipe (``build``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.utils import Command, Option, UsageError

HELP = "build a grounding data set, step by step or from a recipe"

COMMON = (
    Option("work", "file", "dataset-build", "folder in which the steps keep their samples and manifests"),
    Option("from", "name", None, "step to read from; by default the nearest earlier one", example="clean"),
    Option("dry_run", "bool", False, "count, and write nothing"),
    Option("jobs", "int", 2, "threads", low=0),
    Option("seed", "int", 0, "seed of random draws", low=0),
)
"""Options of every step."""

RECIPE = Option(
    "recipe",
    "file",
    None,
    "YAML file, or a packaged recipe: optsar-rsvg.yaml, dior-rsvg.yaml, opt-rsvg.yaml, own-boxes.yaml",
    example="optsar-rsvg.yaml",
    required=True,
)
ROOT = Option("root", "file", ".", "folder that holds the sources")
DATA = Option("data", "file", None, "dataset config, or the folder of one", example="OptSAR-RSVG", required=True)


def _step(name: str, help: str, *options: Option, example: str = "") -> Command:
    return Command(f"dataset {name}", help, (*options, *COMMON), example=example)


COMMANDS = {
    "import": _step(
        "import", "read the sources of a recipe", RECIPE, ROOT, example="recipe=optsar-rsvg.yaml root=/data work=build"
    ),
    "clean": _step(
        "clean",
        "drop what cannot be right, unify categories and their words",
        Option("pixels", "bool", False, "decode every image, not only its header"),
        Option("hash", "bool", True, "drop an image whose file equals an earlier one's"),
        Option(
            "ambiguous",
            "name",
            "flag",
            "captions of several objects of an image: flag the objects, drop the captions, or keep them",
            choices=("flag", "drop", "keep"),
        ),
    ),
    "describe": _step(
        "describe",
        "write unambiguous expressions for objects without any",
        Option("each", "int", 1, "expressions per object, each with another claim", low=1),
        Option(
            "modality",
            "float",
            None,
            "share of the expressions that name the modality; by default half of them, and none where the set has one",
            low=0,
            high=1,
        ),
        Option("sets", "bool", True, "objects that nothing singles out get one of several objects: 'the two ships …'"),
        Option("colours", "bool", True, "name a colour that is measurable and tells an object from the others"),
        Option("reword", "float", 0.0, "share of the expressions that are said in other words", low=0, high=1),
    ),
    "screen": _step(
        "screen",
        "train a detector on k folds and flag boxes that it does not find",
        Option("model", "file", "yolo11n.yaml", "architecture or weights of a stock detector"),
        Option("folds", "int", 5, "number of folds", low=2),
        Option("epochs", "int", 30, "epochs of each training", low=1),
        Option("imgsz", "int", 640, "long side of images in the detector", low=32),
        Option("batch", "int", 16, "images in a batch", low=1),
        Option("device", "name", None, "as in Ultralytics", example="cpu"),
        Option("iou", "float", 0.3, "annotations whose best detection overlaps less are flagged", low=0.001, high=1),
    ),
    "review": _step(
        "review",
        "accept, correct or reject flagged objects in the browser",
        Option("port", "int", 8080, "port of the page", low=1, high=65535),
        Option("host", "name", "127.0.0.1", "address of the page"),
        Option("show", "name", "flagged", "objects on the page and in the export", choices=("flagged", "all")),
        Option("by", "name", "", "name of the reviewer, for the log of decisions", example="ann"),
        Option("browser", "bool", True, "open the page in the browser"),
        Option("apply", "bool", False, "write the samples as decided, without the page"),
        Option("export", "file", None, "COCO JSON file to write, for other tools", example="todo.json"),
        Option("import", "file", None, "COCO JSON file that another tool changed, to read back", example="done.json"),
        Option("images", "bool", False, "link the images of the export into a folder beside it", old=("pictures",)),
    ),
    "transform": _step(
        "transform",
        "mirror and turn images of rare categories, rewrite their captions",
        Option("target", "int", 0, "objects that rare categories are to reach; 0: the median of the categories", low=0),
        Option("rewrite", "name", "rules", "how captions are rewritten", choices=("rules", "llm")),
        Option("replace", "bool", True, "replace a caption that cannot be rewritten by another unambiguous expression"),
        Option("model", "name", "gpt-4o", "language model (rewrite=llm)"),
        Option("llm_url", "name", None, "OpenAI-compatible endpoint", example="http://localhost:11434/v1"),
        Option("tries", "int", 3, "requests for a caption", low=1),
        Option("fallback", "name", "drop", "captions that the model does not rewrite", choices=("drop", "rules")),
        Option("timeout", "float", 60.0, "seconds to wait for a reply", low=0.001),
        Option("retries", "int", 5, "repetitions of a failed request", low=0),
        Option("max_requests", "int", 0, "limit of requests; 0: none", low=0),
        Option("price_in", "float", 0.0, "price of a million prompt tokens, to report the cost", low=0),
        Option("price_out", "float", 0.0, "price of a million completion tokens", low=0),
    ),
    "split": _step(
        "split",
        "assign images to train, val and test",
        Option("ratio", "name", "8:1:1", "shares of train, val and test"),
        Option(
            "by",
            "name",
            "image",
            "image: stratified by category; source: keep the sources' own splits; picture: former name of image",
            choices=("image", "source", "picture"),
        ),
    ),
    "write": _step(
        "write",
        "write images, COCO JSON, VOC XML and YOLO labels",
        Option("to", "file", "OptSAR-RSVG", "folder of the data set"),
        Option("link", "bool", True, "link unchanged image files where the disk allows it, instead of copying them"),
        Option("format", "name", "jpg", "format of images that are transformed or converted", choices=("jpg", "png")),
        Option("replace", "bool", False, "delete another build's files in the folder"),
    ),
    "validate": _step(
        "validate",
        "check a written data set",
        DATA,
        Option("strict", "bool", False, "warnings, and counts that differ from the recipe's released ones, are errors"),
        Option("recipe", "file", None, "recipe whose released counts are compared", example="optsar-rsvg.yaml"),
        Option("hash", "bool", True, "compare the content of images"),
    ),
    "stats": _step(
        "stats",
        "numbers and figures of a written data set",
        DATA,
        Option("out", "file", None, "folder of the results; by default stats in the work folder", example="figures"),
    ),
    "build": _step(
        "build",
        "all steps of a recipe; steps that are up to date are not run again",
        RECIPE,
        ROOT,
        Option("to", "file", None, "folder of the data set; by default the recipe's name", example="OptSAR-RSVG"),
        example="recipe=optsar-rsvg.yaml root=/data to=OptSAR-RSVG",
    ),
}


def main(name: str, values: dict[str, Any]) -> int:
    """Run a step, or all steps of a recipe.

    Args:
        name: A key of :data:`COMMANDS`.
        values: The options of the command.

    Returns:
        Exit status.

    Raises:
        DataError: Input that cannot be used.
    """
    if name == "build":
        return _build(values)
    from optisar_yolo import construction

    own = {("decisions" if key == "import" else key): value for key, value in values.items()}
    common = [own.pop(option.name) for option in COMMON]
    step = getattr(construction, f"{name}_step")
    return int(step(construction.WorkFolder(Path(common[0]), *common[1:]), **own) or 0)


def _build(values: dict[str, Any]) -> int:
    """Run `import` and the steps that a recipe names, in their order, and return the first exit status but 0.

    Raises:
        DataError: A step's input cannot be used, or the recipe gives a step an option or value that it does not have.
    """
    from ultralytics.utils import LOGGER

    from optisar_yolo.construction import STEPS, load_recipe
    from optisar_yolo.data import DataError

    recipe = load_recipe(values["recipe"])
    to = values["to"] or recipe.name
    config = str(Path(to) / f"{recipe.name.lower()}.yaml")
    common = {o.name: values[o.name] for o in COMMON} | {"from": None}
    given: dict[str, dict[str, Any]] = {
        "import": {"recipe": values["recipe"], "root": values["root"]},
        "write": {"to": to},
        "validate": {"data": config, "recipe": values["recipe"]},
        "stats": {"data": config},
    }
    planned = {}
    for step in ("import", *(s for s in STEPS if s in recipe.build)):
        try:  # all of them before the first is run
            planned[step] = COMMANDS[step].values(common | given.get(step, {}) | dict(recipe.build.get(step) or {}))
        except UsageError as error:
            raise DataError(f"{values['recipe']}: step {step}: {error}") from error
    for step, options in planned.items():
        if values["dry_run"] and step != "import":
            LOGGER.info(f"{step}: would run with {recipe.build[step] or 'its defaults'}")
        elif status := main(step, options):
            return status
    return 0
