"""Which text encoder belongs to a model."""

from __future__ import annotations

from pathlib import Path

from optisar_yolo.data.textbank import TextBank
from optisar_yolo.engine.exported import ExportedModel, KnownSentences
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.text import load_text_encoder


def checked_bank(
    model: GroundingModel | ExportedModel, weights: str | Path | None, directory: Path | None
) -> TextBank | KnownSentences:
    """The text encoder a model was trained with.

    Args:
        model: The model.
        weights: The encoder's weights file, where it does not bring its own.
        directory: Where features are cached.

    Returns:
        Its bank; of an export with fixed sentences, the list of these.

    Raises:
        ValueError: The encoder found under the name has other weights than the one used in training.
    """
    if isinstance(model, ExportedModel) and model.texts:
        return KnownSentences(model.texts, model.path)
    encoder = load_text_encoder(model.text_model or "pocket", weights)
    if model.text_fingerprint and encoder.fingerprint != model.text_fingerprint:
        raise ValueError(
            f"the model was trained with the text encoder {model.text_model} {model.text_fingerprint[:12]}, but "
            f"the one found is {encoder.fingerprint[:12]}: give the right weights with text_weights=<file>"
        )
    return TextBank(encoder, directory)
