"""Networks that give the answers of an imported one and can do more: one look for all expressions, and export."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from optisar_yolo.nn import TGDFSSA, GroundingModel, PLMoE
from optisar_yolo.paper.plmoe_fitted import FittedPLMoE
from optisar_yolo.paper.tgdf_closed import ClosedTGDFSSA

GROUPS = 32  # of the shuffle attention where a row does not say
KEPT = ("names", "text_model", "text_fingerprint", "args")


def gates(model: GroundingModel) -> dict[int, float]:
    """Return the largest product of the two gates (Eq. 7) of each text-guided row; 0: no text gets through."""
    found: dict[int, float] = {}
    for i in model.guided:
        row = model.model[i]
        assert isinstance(row, TGDFSSA)
        found[i] = float((row.attn.feature_gate * row.attn.attention_gate).detach().abs().max())
    return found


def without_text(model: GroundingModel) -> GroundingModel:
    """Build the network without the text branches of its pyramid, with the same tensors.

    Args:
        model: A network all of whose fusion gates are closed.

    Returns:
        A network that gives the same answers, and needs one forward for all expressions of an image.

    Raises:
        ValueError: A gate is open, so that there is no such network.
    """
    still_open = {row: size for row, size in gates(model).items() if size}
    if still_open:
        listed = ", ".join(f"row {row}: {size:.2g}" for row, size in still_open.items())
        raise ValueError(f"the text reaches the pyramid of this network ({listed}): without it, answers would change")
    description = deepcopy(model.yaml)
    for row in description["head"]:
        if row[2] == TGDFSSA.__name__:
            c2, *rest = row[3]
            row[2:] = [ClosedTGDFSSA.__name__, [c2, rest[2] if len(rest) > 2 else GROUPS]]
    description.pop("raw_guide", None)
    return _rebuilt(model, description, "late")


def with_fixed_patch(model: GroundingModel) -> GroundingModel:
    """Build the network with patches of the smallest side that the release aims at, whatever the map's size.

    Args:
        model: A network whose patches follow the map's size.

    Returns:
        A network that can be exported. At 2, as released, it gives the same answers on canvases whose sides are
        multiples of 64 pixels, below 1920.
    """
    description = deepcopy(model.yaml)
    for row in description["backbone"]:
        if row[2] == FittedPLMoE.__name__:
            row[2:] = [PLMoE.__name__, row[3][:6]]
    return _rebuilt(model, description, "fixed")


def _rebuilt(model: GroundingModel, description: dict[str, Any], kind: str) -> GroundingModel:
    """Build a network by another description with the tensors of the first."""
    name = Path(description.get("yaml_file", "optisar++.yaml"))
    description["yaml_file"] = f"{name.stem}-{kind}{name.suffix}"
    new = GroundingModel(description, verbose=False)
    tensors = model.state_dict()
    names = {k: k if k in tensors else k.replace(".value.", ".attn.value.") for k in new.state_dict()}
    new.load_state_dict({k: tensors[theirs] for k, theirs in names.items()})
    for attribute in KEPT:
        if hasattr(model, attribute):
            setattr(new, attribute, deepcopy(getattr(model, attribute)))
    return new.eval()
