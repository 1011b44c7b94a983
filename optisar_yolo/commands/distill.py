"""``optisar distill``: train the small text encoder from a larger one."""

from __future__ import annotations

import json
from typing import Any

from optisar_yolo.text import DistillConfig
from optisar_yolo.utils import Command, Option, options_of

COMMAND = Command(
    "distill",
    "train a small text encoder (pocket) from a sentence-transformers teacher",
    options=(
        Option("corpus", "file", None, "JSON or text files with expressions, or folders of them, with commas",
               example="captions.json", required=True),
        Option("teacher", "name", None, "sentence-transformers model: name or folder",
               example="all-MiniLM-L6-v2", required=True),
        Option("out", "file", None, "folder for the weights, the tokenizer and a record", example="pocket",
               required=True),
        Option("unseen", "file", None, "files with expressions that measure the agreement with the teacher"),
        Option("cache", "file", None, "file that keeps the teacher's vectors for further runs"),
        *options_of(DistillConfig),
    ),
    example="corpus=captions.json teacher=all-MiniLM-L6-v2 out=pocket",
)  # fmt: skip


def main(values: dict[str, Any]) -> None:
    """Distil an encoder and print its record.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        ValueError: Corpus or teacher cannot be used.
    """
    from optisar_yolo.text import distill

    settings = DistillConfig(**{o.name: values[o.name] for o in options_of(DistillConfig)})
    unseen = str(values["unseen"]).split(",") if values["unseen"] else None
    corpus = str(values["corpus"]).split(",")
    record = distill(corpus, values["teacher"], values["out"], unseen, settings, cache=values["cache"])
    shown = ("parameters", "bytes", "texts", "agreement", "ranking", "seconds")
    print(json.dumps({k: record[k] for k in shown}, indent=1))
