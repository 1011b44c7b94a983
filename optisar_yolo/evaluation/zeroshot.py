"""Zero-shot grounders of Hugging Face on the expressions of a data set, for comparison.

Each family of models takes expressions in its own way, and gives one box per expression, that of the highest score:

* Grounding DINO and MM Grounding DINO take a caption with the image: each expression, in lower case and with a full
  stop, is a caption. The score of a box is that of its best token, special tokens included, as in the library's own
  post-processing.
* OWLv2 and OWL-ViT take several short queries: the expressions of an image are its queries. A query holds 16 tokens;
  longer expressions are cut, and counted.
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

from optisar_yolo.data import DatasetConfig, ImageRecord, read_image
from optisar_yolo.engine import GroundingMetrics, expression_indices, score_image
from optisar_yolo.text import offline_switch
from optisar_yolo.utils import MissingExtraError
from optisar_yolo.visualize import EvaluatedExpression

# Files of a model's folder; one name of each line must be there.
NEEDED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.txt", "vocab.json"),
)


class ZeroShotError(ValueError):
    """A model that cannot be used; the message says what is missing and where to put it."""


class ZeroShotGrounder:
    """A model of transformers that finds boxes for text.

    Args:
        source: Folder with the model's files, or its name on the Hugging Face hub.
        device: As in Ultralytics.
        batch: Captions in one forward pass of models that take one caption with the image.

    Attributes:
        name: The model's name.
        read: Number of expressions so far, counted once per image.
        cut: How many of them were longer than the model's limit.

    Raises:
        ZeroShotError: Files are missing or broken, or the model is of another family.
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
        """Find the best box of each expression in an image.

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
        """Return best boxes [N, 4] cxcywh in shares of the image, and confidences [N]; one batch row per caption."""
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
        """Return the same for all expressions as queries of one forward pass."""
        found = self.net(pixel_values=pixels["pixel_values"], **self._tokenised(texts, "max_length"))
        scores, best = found.logits[0].sigmoid().max(0)  # [patches, N] -> [N]
        return found.pred_boxes[0, best], scores


FAMILIES = {
    "grounding-dino": "_by_caption", "mm-grounding-dino": "_by_caption", "owlv2": "_by_query", "owlvit": "_by_query",
}  # fmt: skip
"""Model type in the configuration, and the method that runs it."""


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
            raise ZeroShotError(f"{source}: a model of type '{config.model_type}'; supported are {', '.join(FAMILIES)}")
        processor = AutoProcessor.from_pretrained(source, **where)
        net, found = AutoModelForZeroShotObjectDetection.from_pretrained(
            source, config=config, output_loading_info=True, **where
        )
    except ZeroShotError:
        raise
    except Exception as error:  # several libraries raise on broken files
        raise ZeroShotError(_cannot(source, error, switch)) from error
    if lost := found["missing_keys"]:
        LOGGER.warning(f"{source}: {len(lost)} tensors are not in its files and stay random, such as {min(lost)}")
    return config, processor, net


def missing(folder: Path) -> list[str]:
    """Name the files that a model's folder lacks."""
    return [" or ".join(names) for names in NEEDED if not any((folder / name).is_file() for name in names)]


def _cannot(source: str, error: Exception, switch: str | None) -> str:
    """Return a message why a model cannot be loaded, with the remedy."""
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
    grounder: Any, images: Sequence[ImageRecord], config: DatasetConfig
) -> tuple[GroundingMetrics, list[EvaluatedExpression]]:
    """Ground every expression of a split, and score the boxes.

    Args:
        grounder: Called with an image, uint8 [h, w, 3] BGR, and N different expressions; returns boxes [N, 4] xyxy in
            pixels of that array and confidences [N].
        images: Of the split.
        config: The dataset config.

    Returns:
        The figures, and a case per expression.
    """
    metrics, cases = GroundingMetrics(modalities=config.modalities), list[EvaluatedExpression]()
    for image in TQDM(images, desc="grounding", total=len(images)):
        if not (pairs := expression_indices(image)):
            continue
        texts = [image.captions[obj][n] for obj, n in pairs]
        different = list(dict.fromkeys(texts))
        pixels = read_image(image.path)
        boxes, conf = grounder(pixels, different)
        rows = [different.index(text) for text in texts]
        scale = np.array([image.width / pixels.shape[1], image.height / pixels.shape[0]] * 2)  # to the annotated size
        cases += score_image(metrics, image, config.names, pairs, boxes[rows] * scale, conf[rows])
    return metrics, cases
