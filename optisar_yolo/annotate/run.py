"""Zero-shot annotation of images: boxes and captions from a pool, for people to review (OptiSAR-Net++, Fig. 11).

1. Each image is encoded once, and all captions of the pool are scored on it (`match`).
2. Each box keeps its most confident caption that is not false of it (`choose`).
3. The result is COCO JSON with captions, the layout that ``optisar dataset`` and dataset configs read (`files`).
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from ultralytics.utils import LOGGER, TQDM, colorstr

from optisar_yolo.annotate.choose import Annotation, choose_annotations
from optisar_yolo.annotate.files import (
    AnnotatedFile,
    coco,
    counts_of,
    find_images,
    write_dataset_config,
    write_preview,
)
from optisar_yolo.annotate.match import CaptionMatches, match
from optisar_yolo.annotate.options import AnnotateOptions
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.api import OptiSAR
from optisar_yolo.data import DataError, modality_by_name
from optisar_yolo.engine import default_conf, text_features_for
from optisar_yolo.language import reword
from optisar_yolo.nn import GroundingModel
from optisar_yolo.utils import Journal, file_sha256, fingerprint, write_atomic
from optisar_yolo.version import __version__

PROGRESS = "progress.jsonl"  # the images that are done; it is removed when the run has finished


class Annotator:
    """A model and a pool, ready for images.

    Args:
        model: The model. Exports cannot be used, as they return one box per caption.
        pool: Captions.
        options: How to annotate.
        text_weights: Weights of the text encoder, where it does not bring its own.
        cache: Folder for the captions' features; None to keep them in memory.

    Raises:
        ValueError: An exported model, another text encoder than the model's, or an engine that cannot run the network.
        MissingExtraError: The engine that is asked for is not installed.
    """

    def __init__(
        self,
        model: OptiSAR,
        pool: Sequence[Caption],
        options: AnnotateOptions,
        text_weights: str | None = None,
        cache: Path | None = None,
    ) -> None:
        if not isinstance(model.model, GroundingModel):
            raise ValueError(f"{model.model_name}: an export gives one box per caption; annotate with its weights file")
        self.model, self.pool = model, list(pool)
        conf = default_conf(model.model) if options.conf is None else options.conf
        self.options = replace(options, conf=conf)
        if text_weights:
            model.overrides["text_weights"] = text_weights
        model.engine_network(options.engine)  # fails before the pool is encoded
        encoder = text_features_for(model.model, text_weights, cache)
        encoder.precompute([c.text for c in self.pool])  # type: ignore[union-attr]  # no export, so it is a TextFeatureCache
        self.texts: Tensor = encoder([c.text for c in self.pool])
        if model.model.guided:
            LOGGER.warning(
                f"text guides this network's pyramid: each image costs {len(self.pool)} runs of its neck, one per "
                "caption. A network without text in the pyramid (the bundled weights, optisar++n-late.yaml) needs one"
            )

    def __call__(self, path: Path, name: str) -> AnnotatedFile:
        """Annotate one image.

        Args:
            path: Its file.
            name: Its name in the annotations.

        Returns:
            The annotations; for a file that is no image, the problem.
        """
        o = self.options
        try:
            matches, size = self.find(path)
        except DataError as error:
            return AnnotatedFile(name, problem=str(error))
        dropped: Counter[str] = Counter()
        modality = o.modality or modality_by_name(path)
        objects = choose_annotations(
            matches, self.pool, size, modality, o.iou, o.max_det, o.verify, o.unique, dropped=dropped
        )
        return AnnotatedFile(name, *size, self._reworded(objects, name), dict(dropped))

    def _reworded(self, objects: list[Annotation], name: str) -> list[Annotation]:
        """Say a share of the captions in other words; the draws depend on the image's name."""
        if not self.options.reword:
            return objects
        rng = np.random.default_rng(zlib.crc32(name.encode(errors="surrogatepass")))
        words = self.pool[0].vocabulary
        said: dict[str, str] = {}  # the objects of a set keep one caption
        for text in dict.fromkeys(o.caption for o in objects):
            said[text] = reword(text, rng, words) if rng.random() < self.options.reword else text
        return [o._replace(caption=said[o.caption]) for o in objects]

    def find(self, path: Path) -> tuple[CaptionMatches, tuple[int, int]]:
        """Return all matches of a box and a caption above the threshold, and the image's width and height.

        Raises:
            DataError: The file is no image.
        """
        o = self.options
        assert o.conf is not None  # set at the start
        image = self.model.encode(path, self.options.imgsz, self.options.engine)
        size = (image.image.shape[1], image.image.shape[0])
        texts = self.texts.to(image.device)
        return match(image.model, image.encoded, texts, image.canvas, size, o.conf, o.topk, o.iou), size

    def expect(self, images: int) -> None:
        """Say how many images are ahead, so that a graph that pays is made from the start."""
        network = self.model.engine_network(self.options.engine)
        if network is not None:
            network.expect(images)

    def about(self) -> dict[str, Any]:
        """Return everything that the result depends on beside the images; the engine changes no result."""
        options = asdict(self.options)
        del options["engine"]
        weights = Path(self.model.ckpt_path) if self.model.ckpt_path else None
        return {
            "version": __version__,
            "model": Path(str(self.model.model_name)).name,
            "weights": file_sha256(weights)[:12] if weights and weights.is_file() else "",
            "captions": len(self.pool),
            "pool": fingerprint([list(c) for c in self.pool], digits=12),
            **options,
        }


@dataclass(frozen=True)
class AnnotateResult:
    """What a run wrote.

    Attributes:
        annotations: COCO JSON.
        counts: Content of ``summary.json`` without the settings.
        config: Dataset config; None where a category has no modality.
        preview: Sheet of annotated images; None where there is none.
    """

    annotations: Path
    counts: dict[str, Any]
    config: Path | None
    preview: Path | None

    def summary(self) -> str:
        """Return the counts as lines for the log."""
        c = self.counts
        lines = [
            f"{c['pictures']} images, {len(c['skipped'])} of them unreadable: {c['boxes']} boxes in "
            f"{c['pictures with boxes']} images, {c['different captions']} different captions"
        ]
        lines += [f"skipped: {problem}" for problem in list(c["skipped"].values())[:3]]
        lines += [f"{n:>8} x {reason}" for reason, n in c["dropped"].items()]
        if self.config is None and c["boxes"]:
            lines.append("no dataset config, as a category has no modality; set modality=optical or modality=sar")
        return "\n".join([*lines, f"Results saved to {colorstr('bold', self.annotations.parent)}"])


def annotate_images(
    annotator: Annotator,
    source: str | Path | Sequence[str | Path],
    folder: Path,
    resume: bool = False,
    preview: int = 12,
) -> AnnotateResult:
    """Annotate images, and write the result into a folder.

    Args:
        annotator: Model and pool.
        source: Folder, file, pattern or list of files.
        folder: Where ``annotations.json``, ``annotations.yaml`` (a dataset config), ``summary.json`` and
            ``preview.jpg`` go. Each appears when it is whole.
        resume: Continue a run that was interrupted there.
        preview: Images in the preview; 0 for none.

    Returns:
        Files and counts.

    Raises:
        DataError: No image, or none that can be read.
        ValueError: The run to be continued had other settings.
    """
    root, files = find_images(source)
    about = annotator.about()
    path, key = folder / PROGRESS, fingerprint(about)
    if not resume:
        path.unlink(missing_ok=True)
    elif path.is_file() and path.stat().st_size and not Journal.belongs(path, key):
        raise ValueError(
            f"{path}: begun with other settings, weights or captions; run with the same, or without resume=True"
        )
    names = {f: f.relative_to(root).as_posix() for f in files}
    with Journal(path, key) as journal:
        done = {image.file: image for image in map(AnnotatedFile.from_entry, journal)}
        todo = [f for f in files if names[f] not in done]
        if len(todo) < len(files):
            LOGGER.info(f"{len(files) - len(todo)} of {len(files)} images are done already")
        annotator.expect(len(todo))
        for file in TQDM(todo, desc="annotating", unit="image"):
            done[names[file]] = annotator(file, names[file])
            journal.add(asdict(done[names[file]]))
    images = [done[names[f]] for f in files]
    counts = counts_of(images)
    if len(counts["skipped"]) == len(images):
        raise DataError(f"{source}: none of {len(images)} images can be read; the first: {images[0].problem}")
    content = coco(images, {"description": "machine-made annotations, not checked by a person", **about})
    target = write_atomic(folder / "annotations.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    write_atomic(folder / "summary.json", json.dumps({**about, **counts}, ensure_ascii=False, indent=1) + "\n")
    config = write_dataset_config(folder / "annotations.yaml", root, target, [c["name"] for c in content["categories"]])
    sheet = write_preview(folder / "preview.jpg", root, images, preview) if preview else None
    path.unlink()
    return AnnotateResult(target, counts, config, sheet)
