"""An image that is encoded once, for any number of expressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from optisar_yolo.engine.calibrate import default_conf
from optisar_yolo.engine.grounding import KnownExpressions, NetworkRunner, log_notes, notes_of
from optisar_yolo.engine.predict import as_colours, canvas, checked_expressions
from optisar_yolo.engine.reasoning import match, plan_of, queries_in, thresholds
from optisar_yolo.nn import GroundingModel
from optisar_yolo.plugin import SETTINGS
from optisar_yolo.text import TextFeatureCache
from optisar_yolo.visualize import GroundingResults


class EncodedImage:
    """An image that the network has encoded once, for any number of calls of :meth:`ground`.

    Args:
        model: The network.
        text_features: Its text encoder.
        image: Image uint8 [h, w, 3] BGR.
        imgsz: Long side in the network, pixels.
        path: Name shown in results.
    """

    def __init__(
        self,
        model: GroundingModel | NetworkRunner,
        text_features: TextFeatureCache | KnownExpressions,
        image: np.ndarray,
        imgsz: int,
        path: str = "",
    ) -> None:
        self.model, self.text_features, self.image, self.path = model, text_features, image, path
        self.device = torch.device("cpu")  # where exports take and return their arrays
        if isinstance(model, GroundingModel):
            self.device = next(model.parameters()).device
        self.pixels, extent = (t[None].to(self.device) for t in canvas(image, imgsz))  # [1, bands, H, W], [1, 4]
        self.canvas = (self.pixels.shape[2], self.pixels.shape[3])
        with torch.inference_mode():
            self.encoded = model.encode(self.pixels, extent)

    def ground(
        self, text: str | Sequence[str], conf: float | None = None, topk: int | str = 1, reason: bool = True
    ) -> GroundingResults:
        """Ground expressions in the image.

        Args:
            text: An expression or several.
            conf: Confidence threshold of a box; by default as in :meth:`OptiSAR.predict`.
            topk: Boxes per expression, or "all".
            reason: Choose among the objects found; otherwise the network decides alone.

        Returns:
            Ultralytics' results, with ``count``, ``query`` and ``notes`` as in :meth:`OptiSAR.predict`.

        Raises:
            SettingError: `topk` is neither a number from 1 nor "all".
        """
        texts = checked_expressions(text)
        topk = SETTINGS["topk"].check(topk)
        conf = default_conf(self.model) if conf is None else conf
        notes = notes_of(self.model, texts, topk, reason)
        log_notes(notes, conf)
        size = (self.image.shape[1], self.image.shape[0])
        plan = plan_of(self.model, texts, reason)
        with torch.inference_mode():
            features = self.text_features(plan.searched).to(self.device)
            (found,) = match(
                self.model, self.encoded, plan, features, self.canvas, [size], topk, conf=conf, images=self.pixels
            )
        least = thresholds(self.model, plan, topk, conf)
        (read,) = queries_in(plan.queries, self.pixels, self.encoded.extent)
        shown = as_colours(self.image)
        return found.results(shown, self.path, texts, conf, notes=notes, queries=read, thresholds=least)
