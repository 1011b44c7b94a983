"""``optisar zeroshot``: what zero-shot grounders of Hugging Face answer to the expressions of a data set.

Each model is asked its own way, and gives one box per expression, the one that it scores highest:

* Grounding DINO and MM Grounding DINO read a caption with the image: an expression, in lower case and with a full
  stop, is a caption of its own. A box scores what its best token does, special tokens included, as in the library's own
  post-processing.
* OWLv2 and OWL-ViT look for several short queries: the expressions of an image are its queries. A query holds 16
  tokens; longer expressions are cut, and counted in a warning.

The answers are judged as those of ``val`` are, and go to a JSON file that ``optisar score`` reads
(:mod:`optisar_yolo.engine.predictions`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, clip_boxes_to_image
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.data import Case, DatasetConfig, ImageRecord, load_dataset_config, load_split, read_image
from optisar_yolo.engine import GroundingMetrics, judge, write_predictions
from optisar_yolo.plugin import numbers
from optisar_yolo.text import offline_switch
from optisar_yolo.utils import MissingExtraError

DEFAULTS: dict[str, Any] = {
    "model": None, "data": None, "split": "test", "save": "predictions.json", "batch": 4, "device": None,
    "fraction": 1.0,
}  # fmt: skip
_NUMBERS = {"batch": int, "fraction": float}
# One name of each line must be there; what a released folder holds.
NEEDED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.txt", "vocab.json"),
)
EXAMPLES = "IDEA-Research/grounding-dino-tiny or google/owlv2-base-patch16-ensemble"


class ZeroShotError(ValueError):
    """A model that cannot be loaded or asked; the message says what is missing and where to put it."""


class ZeroShotGrounder:
    """A model of transformers that finds boxes for text.

    Args:
        source: Folder with the model's files, or its name on the Hugging Face hub.
        device: As ultralytics takes it.
        batch: Captions in one forward, of models that read one caption with the image.

    Attributes:
        name: The model's name.
        read: Different expressions asked so far, of an image each.
        cut: How many of them were longer than what the model reads.

    Raises:
        ZeroShotError: Files are missing or broken, or the model is of a family that is not known here.
        MissingExtraError: The package transformers is not installed.
    """

    def __init__(self, source: str | Path, device: str | None = None, batch: int = 4) -> None:
        config, self.processor, net = load(str(source))
        self.name, self.batch = str(source), max(batch, 1)
        self.device = select_device(device, verbose=False)
        self.net = net.to(self.device).float().eval()
        self.ground: Callable[..., tuple[Tensor, Tensor]] = getattr(self, FAMILIES[config.model_type])
        self.square = config.model_type == "owlv2"  # images are padded to a square, and boxes are shares of that
        text = getattr(config, "text_config", config)
        self.tokens = int(getattr(config, "max_text_len", 0) or text.max_position_embeddings)
        self.read = self.cut = 0

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ask an image.

        Args:
            image: uint8 [h, w, 3] BGR.
            texts: N expressions, N >= 1.

        Returns:
            The best box of each expression, float32 [N, 4] xyxy in pixels, and its confidence [N].
        """
        from PIL import Image

        h, w = image.shape[:2]
        pixels = self.processor.image_processor(Image.fromarray(image[..., ::-1].copy()), return_tensors="pt")
        boxes, conf = self.ground(pixels.to(self.device), list(texts))
        scale = (max(h, w),) * 2 if self.square else (w, h)
        boxes = box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([*scale, *scale])
        return clip_boxes_to_image(boxes, (h, w)).cpu().numpy(), conf.cpu().numpy()

    def _tokenised(self, texts: list[str], padding: bool | str) -> Any:
        whole = self.processor.tokenizer(texts, verbose=False)["input_ids"]
        self.read += len(texts)
        self.cut += sum(len(ids) > self.tokens for ids in whole)
        limits = {"padding": padding, "truncation": True, "max_length": self.tokens}
        return self.processor.tokenizer(texts, return_tensors="pt", **limits).to(self.device)

    def _by_caption(self, pixels: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
        """A row of the batch per caption: best boxes [N, 4] cxcywh in shares of the image, and confidences [N]."""
        boxes, conf = [], []
        for start in range(0, len(texts), self.batch):
            captions = [text.strip().rstrip(".").lower() + "." for text in texts[start : start + self.batch]]
            views = {k: v.expand(len(captions), *v.shape[1:]) for k, v in pixels.items()}
            found = self.net(**views, **self._tokenised(captions, True))
            scores, best = found.logits.sigmoid().amax(-1).max(1)  # [n, queries, tokens] -> [n]
            boxes.append(found.pred_boxes[torch.arange(len(best)), best])
            conf.append(scores)
        return torch.cat(boxes), torch.cat(conf)

    def _by_query(self, pixels: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
        """All expressions as queries of one forward; results as of `_by_caption`."""
        found = self.net(pixel_values=pixels["pixel_values"], **self._tokenised(texts, "max_length"))
        scores, best = found.logits[0].sigmoid().max(0)  # [patches, N] -> [N]
        return found.pred_boxes[0, best], scores


FAMILIES = {
    "grounding-dino": "_by_caption", "mm-grounding-dino": "_by_caption", "owlv2": "_by_query", "owlvit": "_by_query",
}  # fmt: skip
"""Type of a model as its configuration names it, and the method that asks it."""


def load(source: str) -> tuple[Any, Any, Any]:
    """Load configuration, processor and network of a model: from a folder, the hub's cache or, with a network, the hub.

    Raises:
        ZeroShotError: See `ZeroShotGrounder`.
        MissingExtraError: Likewise.
    """
    try:
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor
    except ImportError as error:
        raise MissingExtraError("optisar zeroshot needs transformers: pip install 'optisar-yolo[peers]'") from error
    folder = Path(source)
    if folder.is_dir() and (lacking := missing(folder)):
        raise ZeroShotError(f"{folder}: not a model's folder, it lacks {'; '.join(lacking)}")
    switch = offline_switch()
    where: dict[str, Any] = {"local_files_only": folder.is_dir() or switch is not None}
    try:
        config = AutoConfig.from_pretrained(source, **where)
        if config.model_type not in FAMILIES:
            raise ZeroShotError(
                f"{source}: a model of type '{config.model_type}'; those that can be asked are {', '.join(FAMILIES)}"
            )
        processor = AutoProcessor.from_pretrained(source, **where)
        net, found = AutoModelForZeroShotObjectDetection.from_pretrained(
            source, config=config, output_loading_info=True, **where
        )
    except ZeroShotError:
        raise
    except Exception as error:  # what broken files raise comes from several libraries
        raise ZeroShotError(_cannot(source, error, switch)) from error
    if lost := found["missing_keys"]:
        LOGGER.warning(f"{source}: {len(lost)} tensors are not in its files and stay random, such as {min(lost)}")
    return config, processor, net


def missing(folder: Path) -> list[str]:
    """Name the files that a model's folder lacks."""
    return [" or ".join(names) for names in NEEDED if not any((folder / name).is_file() for name in names)]


def _cannot(source: str, error: Exception, switch: str | None) -> str:
    """Say why a model cannot be loaded and what helps."""
    reason = " ".join(str(error).split())[:300]
    if Path(source).is_dir():
        return f"{source}: its files cannot be read ({reason}); copy them again"
    files = ", ".join(names[0] for names in NEEDED)
    barred = f"and {switch} forbids downloads" if switch else "and it could not be downloaded"
    return (
        f"{source}: no such folder, not in the cache of the Hugging Face hub, {barred} ({reason}). Where there is a "
        f"network: hf download {source} --local-dir FOLDER; copy the folder ({files} and the other files of its "
        "tokenizer) here and give model=FOLDER"
    )


def ground_split(
    grounder: Any, images: Sequence[ImageRecord], dataset_config: DatasetConfig
) -> tuple[GroundingMetrics, list[Case]]:
    """Ask every expression of a split, and judge the answers.

    Args:
        grounder: Called with an image, uint8 [h, w, 3] BGR, and N different expressions; returns boxes [N, 4] xyxy in
            pixels of that array and confidences [N].
        images: Of the split.
        dataset_config: The dataset config.

    Returns:
        The figures, and a case per expression.
    """
    metrics, cases = GroundingMetrics(), list[Case]()
    for image in TQDM(images, desc="asking", total=len(images)):
        asked = [(obj, n) for obj, captions in enumerate(image.captions) for n in range(len(captions))]
        if not asked:
            continue
        texts = [image.captions[obj][n] for obj, n in asked]
        different = list(dict.fromkeys(texts))
        pixels = read_image(image.path)
        boxes, conf = grounder(pixels, different)
        rows = [different.index(text) for text in texts]
        scale = np.array([image.width / pixels.shape[1], image.height / pixels.shape[0]] * 2)  # as it is annotated
        judge(metrics, cases, image, dataset_config.names, asked, boxes[rows] * scale, conf[rows])
    return metrics, cases


def main(options: dict[str, str]) -> None:
    """Run ``optisar zeroshot model=… data=… split=test save=predictions.json``.

    Args:
        options: ``model`` (a folder or a name on the hub), ``data``, ``split``, ``save``, ``fraction`` (share of the
            images), ``batch`` (captions in one forward) and ``device``.

    Raises:
        ZeroShotError: No model, or one that cannot be used.
        ValueError: No data, or a value that is no number.
    """
    from optisar_yolo.engine import SECTIONS

    given = DEFAULTS | options
    if given["model"] is None:
        raise ZeroShotError(f"optisar zeroshot needs model=<folder or name on the hub>, for example {EXAMPLES}")
    if given["data"] is None:
        raise ValueError("optisar zeroshot needs data=<dataset config>, for example data=optsar.yaml split=test")
    given |= numbers(given, _NUMBERS)
    dataset_config, split, save = load_dataset_config(given["data"]), given["split"], Path(given["save"])
    images = load_split(dataset_config, split, given["fraction"])
    grounder = ZeroShotGrounder(given["model"], given["device"], given["batch"])
    metrics, cases = ground_split(grounder, images, dataset_config)
    write_predictions(save, cases, dataset_config, split)
    LOGGER.info(metrics.table(SECTIONS))
    if grounder.cut:
        LOGGER.warning(
            f"{grounder.name}: {grounder.cut} of {grounder.read} expressions are longer than the {grounder.tokens} "
            "tokens it reads, and were cut"
        )
    LOGGER.info(f"{save}: answers to {len(cases)} expressions; optisar score {save} data={given['data']} judges them")
