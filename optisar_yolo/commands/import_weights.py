"""``optisar import-weights``: the weights that the authors published, as a network of ours with the same arithmetic."""

from __future__ import annotations

from typing import Any

from optisar_yolo.utils import Command, Option, UsageError

COMMAND = Command(
    "import-weights",
    "import the authors' published checkpoint as .safetensors; nothing in the file is executed",
    options=(
        Option("model", "file", None, "the authors' checkpoint", example="official.pt", required=True),
        Option("save", "file", None, "file to write; by default named after the scale", example="mine.safetensors"),
        Option("late", "bool", False, "leave out the text branches of the pyramid, where the text does not reach it"),
        Option("fixed_patch", "bool", False, "patches that do not follow the image's size, so that it can be exported"),
    ),
    first="model",
    example="official.pt late=True",
)


def main(values: dict[str, Any]) -> None:
    """Import a checkpoint.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: A target that is no ``.safetensors``.
        CheckpointError: A file that cannot be used.
        ValueError: ``late`` for a network whose text reaches the pyramid.
    """
    save = values["save"]
    if save is not None and not str(save).endswith(".safetensors"):
        raise UsageError(f"save={save}: expected a name that ends in .safetensors")

    from optisar_yolo.paper import import_weights

    import_weights(values["model"], save, values["late"], values["fixed_patch"])
