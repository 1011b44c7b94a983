"""``optisar info``: what weights know, or what is installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any

from optisar_yolo.utils import EXTRAS, Command, Option, UsageError

COMMAND = Command(
    "info",
    "print what weights know: categories, words, sizes, data, figures; without model=, versions, extras and folders",
    options=(
        Option("model", "file", None, "weights or an export; also the name of packaged weights", example="best.pt"),
        Option(
            "data",
            "file",
            None,
            "dataset config of the weights' training: what it teaches is written into them, in place of what they say",
            example="optsar.yaml",
        ),
        Option("save", "file", None, "weights file to write with data=; by default the weights' own, of packaged ones "
               "their name here"),
        Option("sizes", "ints", None, "with data=: smallest and largest long side in training, pixels; that of the "
               "weights by default", low=32, counts=(2,)),
        Option("epochs", "int", None, "with data=: length of the training", low=1),
        Option("licence", "name", None, "with data=: licence of the data; that of the dataset configs by default"),
        Option("figures", "file", None, "with data=: metrics.json of a validation, or a record of grounding.py"),
    ),
    first="model",
    example="optisar++n-pocket.safetensors",
)  # fmt: skip


def main(values: dict[str, Any]) -> None:
    """Print facts of weights, after writing them where ``data`` is given; or of the installation.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: Options that need another.
        FileNotFoundError: No such weights.
        ValueError: Weights, a dataset config or figures that cannot be used.
    """
    writing = [k for k in ("save", "sizes", "epochs", "licence", "figures") if values[k] is not None]
    if values["model"] is None:
        if writing or values["data"] is not None:
            raise UsageError(f"{(writing or ['data'])[0]}= needs model=, the weights to write into")
        print("\n".join(installation()))
        return
    if values["data"] is None and writing:
        raise UsageError(f"{writing[0]}= needs data=, the dataset config that the weights were trained on")
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.engine import facts_lines

    path = _written(values) if values["data"] is not None else values["model"]
    print("\n".join(facts_lines(OptiSAR(path).model, path)))


def _written(values: dict[str, Any]) -> Path:
    """Write what the data of a training teaches into its weights, and return the file."""
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.engine import BUNDLED, facts_of_data, find_weights, store_facts

    source = find_weights(values["model"])
    save = Path(values["save"] or (source.name if source.parent == BUNDLED else source))
    imgsz = OptiSAR(source).imgsz
    facts = facts_of_data(values["data"], values["sizes"] or (imgsz, imgsz), values["epochs"])
    if values["licence"]:
        facts["licence"] = values["licence"]
    if values["figures"]:
        facts["figures"] = _figures(Path(values["figures"]))
    return store_facts(source, save, facts)


def _figures(path: Path) -> dict[str, Any]:
    """Read figures: of one validation, or of several by name.

    Raises:
        ValueError: The file holds none.
    """
    from optisar_yolo.engine import figures_of_rows

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); give the metrics.json of a validation") from error
    parts = {path.parent.name or path.stem: content} if isinstance(content, dict) and "rows" in content else content
    found = {}
    for name, part in parts.items() if isinstance(parts, dict) else ():
        rows = part.get("rows", list(part.values())) if isinstance(part, dict) else []
        if figures := figures_of_rows(row for row in rows if isinstance(row, dict)):
            found[name] = figures
    if not found:
        raise ValueError(f"{path}: no figures; give the metrics.json of a validation, or a record of grounding.py")
    return found


def installation() -> list[str]:
    """Return versions, extras, devices and folders of this installation, as lines for people."""
    import torch
    from ultralytics.utils import SETTINGS, USER_CONFIG_DIR

    from optisar_yolo.engine import BUNDLED
    from optisar_yolo.version import __version__

    packages = ("ultralytics", "torch", "torchvision", "numpy", "opencv-python", "rasterio")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    extras: dict[str, list[str]] = {}
    for package, (extra, _) in EXTRAS.items():
        extras.setdefault(extra, []).append(package)
    cuda = [f"{i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    lines = [
        f"optisar-yolo {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"with         {versions}",
    ]
    for extra, needed in extras.items():
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        state = f"not installed ({', '.join(missing)}): pip install 'optisar-yolo[{extra}]'" if missing else "installed"
        lines.append(f"extra        {extra}: {state}")
    lines += [
        f"devices      {', '.join([f'cpu ({torch.get_num_threads()} threads)', *cuda])}",
        f"weights      {', '.join(sorted(p.name for p in BUNDLED.glob('*.safetensors')))} in {BUNDLED}",
    ]
    lines += [f"folder       {what}: {SETTINGS[what]}" for what in ("datasets_dir", "weights_dir", "runs_dir")]
    lines.append(f"folder       settings, and text features where a data set's folder is read-only: {USER_CONFIG_DIR}")
    return lines


def _version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
