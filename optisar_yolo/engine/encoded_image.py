"""An image encoded once, to be asked many expressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ultralytics.engine.results import Results

from optisar_yolo.engine.calibrate import default_conf
from optisar_yolo.engine.grounding import ExportedNetwork, KnownExpressions
from optisar_yolo.engine.predict import answer, as_results, canvas, checked_expressions
from optisar_yolo.nn import GroundingModel
from optisar_yolo.text import TextBank


class EncodedImage:
    """An image encoded once.

    Args:
        model: The network.
        bank: Its text encoder.
        image: Image uint8 [h, w, 3] BGR.
        imgsz: Long side in the network.
        path: Name shown in results.
    """

    def __init__(
        self,
        model: GroundingModel | ExportedNetwork,
        bank: TextBank | KnownExpressions,
        image: np.ndarray,
        imgsz: int,
        path: str = "",
    ) -> None:
        self.model, self.bank, self.image, self.path = model, bank, image, path
        self.device = torch.device("cpu")  # where exports take and leave their arrays
        if isinstance(model, GroundingModel):
            self.device = next(model.parameters()).device
        x, extent = (t[None].to(self.device) for t in canvas(image, imgsz))
        self.canvas = (x.shape[2], x.shape[3])
        with torch.inference_mode():
            self.encoded = model.encode(x, extent)

    def ground(self, text: str | Sequence[str], conf: float | None = None, topk: int = 1) -> Results:
        """Ask expressions.

        Args:
            text: An expression or several.
            conf: Least confidence of a box; by default as in :meth:`OptiSAR.predict`.
            topk: Boxes per expression.

        Returns:
            Ultralytics' results.
        """
        texts = checked_expressions(text)
        size = (self.image.shape[1], self.image.shape[0])
        with torch.inference_mode():
            features = self.bank(texts).to(self.device)
            found = answer(self.model, self.encoded, features, self.canvas, [size], topk)[0]
        return as_results(found, self.image, self.path, texts, default_conf(self.model) if conf is None else conf)
