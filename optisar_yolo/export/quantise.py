"""8 bits for OpenVINO: post-training quantisation, ranges measured on images and expressions of a dataset config."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER

from optisar_yolo.data import EvaluationDataset, ImageRecord, load_dataset_config, load_split
from optisar_yolo.engine import text_features_for
from optisar_yolo.export.graphs import Exportable
from optisar_yolo.nn import GroundingModel
from optisar_yolo.utils import need

IMAGES = 300  # at most: NNCF's own default, beyond which ranges hardly move
EXPRESSIONS = 4  # of an image, at most

# Only convolutions of the backbone, the pyramid and the head's branches get 8 bits: they are nearly all of the work.
# The other layers decide between near equals, where a step of 1/256 of a range is larger than the difference.
PRECISE = (  # matched from the start of a name
    r".*/gate/.*",  # the experts of a patch: cosines, near ties, and another expert changes the whole patch
    r".*/adapter/.*",  # the expression, a single vector whose rounding would reach every score
    r".*/guide/.*",  # the same, on its way into the pyramid,
    r"/model\.\d+/(attn/)?MatMul.*",  # and its product with the map
    r".*/cv4\.\d+/.*",  # the contrastive product: "left" and "right" differ by a small angle
    r".*/reranker/.*",  # reranks candidates by differences of a few pixels
    r"/[^/]+$",  # operations of the head between its layers: position code, choice and decoding of boxes,
    r"/model\.23/[^/]+$",  # also where it is called as a layer
)


def quantiser(model: GroundingModel, args: Any) -> Callable[[Any, Exportable], Any]:
    """Return a function that gives a graph 8 bits.

    Args:
        model: The network.
        args: Ultralytics' configuration. These have an effect: ``data``, ``fraction`` (a share of the images or, above
            1, their number), ``imgsz``, ``seed`` and ``text_weights``.

    Returns:
        A function from OpenVINO's model of a graph, and the graph itself, to the model of 8 bits.

    Raises:
        MissingExtraError: The packages of the extra ``openvino`` are not installed.
        DataError: The dataset config has no images to measure on.
    """
    need("openvino")
    os.environ.setdefault("NNCF_CI", "1")  # NNCF would report its use over the network
    nncf: Any = need("nncf")
    simplify = need("openvino._offline_transformations").apply_moc_transformations
    images = calibration_images(args)
    LOGGER.info(f"int8: measuring ranges on {len(images)} images of {args.data}")

    def quantise(graph: Any, net: Exportable) -> Any:
        feeds = samples(model, images, args)
        # OpenVINO would do this when it opens the graph, too late: a SiLU that still stands there as a sigmoid and a
        # product gets 8 bits in its middle, and a step of its own over the whole map instead of the convolution's end.
        simplify(graph, False)
        logging.getLogger("nncf").setLevel(logging.ERROR)  # it lists every layer that stays precise
        return nncf.quantize(
            graph,
            nncf.Dataset(feeds, lambda feed: {name: feed[name] for name in net.inputs if name in feed}),
            preset=nncf.QuantizationPreset.MIXED,  # SiLU is not symmetric around 0
            subset_size=len(feeds),
            # not validated, as not every network has them all; MVN: layer norms, which OpenVINO names anew
            ignored_scope=nncf.IgnoredScope(patterns=list(PRECISE), types=["MVN"], validate=False),
        )

    return quantise


def calibration_images(args: Any) -> list[ImageRecord]:
    """Return images to measure on, spread over the validation split or, without one, the training split."""
    config = load_dataset_config(args.data)
    split = "val" if "val" in config.splits else "train"
    number = isinstance(args.fraction, int) and args.fraction > 1
    images = load_split(config, split, 1.0 if number else float(args.fraction or 1.0), int(args.seed or 0))
    images = [p for p in images if any(p.captions)]
    keep = min(args.fraction if number else IMAGES, len(images))
    return [images[i] for i in np.linspace(0, len(images) - 1, keep).round().astype(int)]


def samples(model: GroundingModel, images: list[ImageRecord], args: Any) -> list[dict[str, np.ndarray]]:
    """Return images placed on canvases as in validation, each with a few of its expressions.

    Args:
        model: The network.
        images: Annotated images.
        args: As of :func:`quantiser`.

    Returns:
        Arrays by the name of the network's input.
    """
    encode = text_features_for(model, args.text_weights)
    side = args.imgsz if isinstance(args.imgsz, int) else max(args.imgsz)
    placed = EvaluationDataset(images, side)
    feeds = []
    for i, image in enumerate(images):
        _, pixels, extent = placed[i]
        texts = [caption for captions in image.captions for caption in captions][:EXPRESSIONS]
        given = {"images": pixels[None].float() / 255, "text": encode(texts)[None], "extent": extent[None]}
        feeds.append({name: torch.as_tensor(v).float().numpy() for name, v in given.items()})
    return feeds
