"""``optisar annotate``: images without labels get boxes and captions from a pool, for people to look through.

Fig. 11 of OptiSAR-Net++, zero-shot annotation. Each image is encoded once, all captions of the pool are scored on it,
and each box keeps the surest caption that is not false of it. The result is COCO JSON with captions, the layout that
``optisar dataset`` and dataset configs read.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from ultralytics.utils import LOGGER, RUNS_DIR, TQDM, colorstr
from ultralytics.utils.files import increment_path
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.annotate.choose import VERIFY, annotated
from optisar_yolo.annotate.files import Done, Progress, coco, find_images, summary, write_dataset_config, write_preview
from optisar_yolo.annotate.match import Found, match
from optisar_yolo.annotate.pool import KINDS, Caption, load_pool
from optisar_yolo.api import OptiSAR
from optisar_yolo.data import MODALITIES, DataError, modality_by_name
from optisar_yolo.engine import checked_bank, default_conf
from optisar_yolo.nn import GroundingModel
from optisar_yolo.utils import BUNDLED_MODEL, SettingError, require, typed, write_atomic
from optisar_yolo.version import __version__

DEFAULTS: dict[str, Any] = {
    "source": "", "pool": "", "model": "", "split": "train", "column": "caption", "conf": float, "iou": 0.5, "topk": 5,
    "max_det": 300, "verify": "drop", "unique": False, "modality": "", "imgsz": 0, "device": "", "text_weights": "",
    "project": "", "name": "annotate", "exist_ok": False, "resume": False, "preview": 12,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How images are annotated.

    Attributes:
        conf: Least confidence; None for the threshold of the model's calibration.
        iou: IoU above which two boxes are the same object.
        topk: Boxes per caption and image at most.
        max_det: Boxes per image at most.
        verify: What happens to captions that the boxes disprove: "drop", "strip" (their place is left out) or "off".
        unique: Say a caption of one box of an image only.
        modality: "optical" or "sar" for all images; None: by the name's prefix, else by what the captions say.
        imgsz: Long side of images in the network; None for that of training.

    Raises:
        SettingError: A value out of range.
    """

    conf: float | None = None
    iou: float = 0.5
    topk: int = 5
    max_det: int = 300
    verify: str = "drop"
    unique: bool = False
    modality: str | None = None
    imgsz: int | None = None

    def __post_init__(self) -> None:
        for key in ("conf", "iou"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise SettingError(f"'{key}={value}' is not valid: it must be a number from 0 to 1")
        for key, low in (("topk", 1), ("max_det", 1), ("imgsz", 32)):
            value = getattr(self, key)
            if value is not None and value < low:
                raise SettingError(f"'{key}={value}' is not valid: it must be a whole number of at least {low}")
        for key, known in (("verify", VERIFY), ("modality", (None, *MODALITIES))):
            if getattr(self, key) not in known:
                choices = ", ".join(str(k) for k in known if k)
                raise SettingError(f"'{key}={getattr(self, key)}' is not valid: it must be one of {choices}")


class Result(NamedTuple):
    """What a run wrote: COCO JSON, the counts, and the dataset config and the preview where there are any."""

    annotations: Path
    counts: dict[str, Any]
    config: Path | None
    preview: Path | None


class Annotator:
    """A model and a pool, ready for images.

    Args:
        model: The model; exports cannot be used, they give one box per caption.
        pool: Captions.
        settings: How to annotate.
        text_weights: Weights of the text encoder, where it does not bring its own.
        cache: Folder for the captions' features; None to keep them in memory.

    Raises:
        ValueError: An exported model, or another text encoder than the model's.
    """

    def __init__(
        self,
        model: OptiSAR,
        pool: Sequence[Caption],
        settings: Settings,
        text_weights: str | None = None,
        cache: Path | None = None,
    ) -> None:
        if not isinstance(model.model, GroundingModel):
            raise ValueError(f"{model.model_name}: an export gives one box per caption; annotate with its weights file")
        self.model, self.pool = model, list(pool)
        conf = default_conf(model.model) if settings.conf is None else settings.conf
        self.settings = replace(settings, conf=conf)
        if text_weights:
            model.overrides["text_weights"] = text_weights
        bank = checked_bank(model.model, text_weights, cache)
        bank.precompute([c.text for c in self.pool])  # type: ignore[union-attr]  # no export, so it is a TextBank
        self.texts: Tensor = bank([c.text for c in self.pool])
        if model.model.guided:
            LOGGER.warning(
                f"text guides this network's pyramid: each image costs {len(self.pool)} runs of its neck, one per "
                "caption. A network without text in the pyramid (the bundled weights, optisar++n-late.yaml) looks once"
            )

    def __call__(self, path: Path, name: str) -> Done:
        """Annotate one image.

        Args:
            path: Its file.
            name: Its name in the annotations.

        Returns:
            What was found; for a file that is no image, the problem.
        """
        s = self.settings
        try:
            found, size = self.find(path)
        except DataError as error:
            return Done(name, problem=str(error))
        dropped: Counter[str] = Counter()
        modality = s.modality or modality_by_name(path)
        rules: dict[str, Any] = {"iou": s.iou, "max_det": s.max_det, "verify": s.verify, "unique": s.unique}
        return Done(name, *size, annotated(found, self.pool, size, modality, **rules, dropped=dropped), dict(dropped))

    def find(self, path: Path) -> tuple[Found, tuple[int, int]]:
        """Return all pairs of box and caption that are sure enough, and the image's width and height.

        Raises:
            DataError: The file is no image.
        """
        s = self.settings
        assert s.conf is not None
        scene = self.model.encode(path, s.imgsz)
        size = (scene.image.shape[1], scene.image.shape[0])
        net: Any = scene.model
        encoded: Any = scene.encoded
        return match(net, encoded, self.texts.to(scene.device), scene.canvas, size, s.conf, s.topk), size

    def about(self) -> dict[str, Any]:
        """Return what decides the result, but for the images."""
        digest = hashlib.sha256(json.dumps([list(c) for c in self.pool]).encode()).hexdigest()
        weights = Path(self.model.ckpt_path) if self.model.ckpt_path else None
        sha = hashlib.sha256(weights.read_bytes()).hexdigest()[:12] if weights and weights.is_file() else ""
        return {
            "version": __version__,
            "model": Path(str(self.model.model_name)).name,
            "weights": sha,
            "captions": len(self.pool),
            "pool": digest[:12],
            **asdict(self.settings),
        }


def annotate(
    annotator: Annotator,
    source: str | Path | Sequence[str | Path],
    folder: Path,
    resume: bool = False,
    preview: int = 12,
) -> Result:
    """Annotate images, and write the result into a folder.

    Args:
        annotator: Model and pool.
        source: Folder, file, pattern or list of files.
        folder: Where ``annotations.json``, ``annotations.yaml`` (a dataset config), ``summary.json`` and
            ``preview.jpg`` go. Each appears when it is whole.
        resume: Go on with a run that was interrupted there.
        preview: Images in the preview; 0 for none.

    Returns:
        Files and counts.

    Raises:
        DataError: No image, or none that can be read.
        ValueError: The run to go on with had other settings.
    """
    root, files = find_images(source)
    about = annotator.about()
    progress = Progress(folder / "progress.jsonl", about, resume)
    names = [f.relative_to(root).as_posix() for f in files]
    finished = False
    try:
        todo = [(f, n) for f, n in zip(files, names, strict=True) if n not in progress.done]
        if len(todo) < len(files):
            LOGGER.info(f"{len(files) - len(todo)} of {len(files)} images are done already")
        for path, name in TQDM(todo, desc="annotating", unit="picture"):
            progress.add(annotator(path, name))
        done = [progress.done[name] for name in names]
        counts = summary(done)
        if len(counts["skipped"]) == len(done):
            raise DataError(f"{source}: none of {len(done)} images can be read; the first: {done[0].problem}")
        result = _write(folder, root, done, about, counts, preview)
        finished = True
    finally:
        progress.close(finished)
    return result


def _write(
    folder: Path, root: Path, done: list[Done], about: dict[str, Any], counts: dict[str, Any], preview: int
) -> Result:
    """Write all files of a run that has finished."""
    content = coco(done, {"description": "machine-made annotations, not checked by a person", **about})
    target = write_atomic(folder / "annotations.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_atomic(folder / "summary.json", json.dumps({**about, **counts}, ensure_ascii=False, indent=1) + "\n")
    config = write_dataset_config(folder / "annotations.yaml", root, target, [c["name"] for c in content["categories"]])
    sheet = write_preview(folder / "preview.jpg", root, done, preview) if preview else None
    return Result(target, counts, config, sheet)


def report(result: Result) -> str:
    """Return the counts as lines for the log."""
    c = result.counts
    lines = [
        f"{c['pictures']} images, {len(c['skipped'])} of them unreadable: {c['boxes']} boxes in "
        f"{c['images with boxes']} images, {c['different captions']} different captions"
    ]
    lines += [f"skipped: {problem}" for problem in list(c["skipped"].values())[:3]]
    lines += [f"{n:>8} x {reason}" for reason, n in c["dropped"].items()]
    if result.config is None and c["boxes"]:
        lines.append("no dataset config, as a category has no modality: say modality=optical or modality=sar")
    return "\n".join([*lines, f"Results saved to {colorstr('bold', result.annotations.parent)}"])


def main(options: dict[str, str]) -> None:
    """Run ``optisar annotate source=… pool=…``.

    Args:
        options: See docs/annotate.md.

    Raises:
        UsageError: No source or pool, or a value of a wrong type.
        ValueError: A value out of range, or input that cannot be used.
    """
    o = typed(options, DEFAULTS)
    require("annotate", o, {"source": "source=pictures", "pool": "pool=captions.txt"}, f"; a pool is {KINDS}")
    settings = Settings(
        o["conf"],
        o["iou"],
        o["topk"],
        o["max_det"],
        o["verify"],
        o["unique"],
        o["modality"] or None,
        o["imgsz"] or None,
    )
    find_images(o["source"])  # before anything is loaded
    pool = load_pool(o["pool"], o["split"], o["column"])
    model = OptiSAR(o["model"] or BUNDLED_MODEL)
    device = select_device(o["device"], verbose=False)
    if isinstance(model.model, torch.nn.Module):
        model.model.to(device)
    annotator = Annotator(model, pool, settings, o["text_weights"] or None, Path(o["pool"]).absolute().parent)
    folder = Path(o["project"] or RUNS_DIR / "annotate") / o["name"]
    folder = folder if o["resume"] else increment_path(folder, exist_ok=o["exist_ok"])
    LOGGER.info(f"{len(pool)} captions, confidence {annotator.settings.conf:.3g}, into {folder}")
    LOGGER.info(report(annotate(annotator, o["source"], folder, o["resume"], o["preview"])))
