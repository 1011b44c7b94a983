"""What is exported: the network, or a part of it, as a module of tensors in and tensors out that can be traced.

As in :meth:`~optisar_yolo.nn.model.GroundingModel.predict`, each expression has its own row of the text-guided neck, so
that N expressions in one run get the answers of N runs. Only the best anchor of an expression is decoded, inside the
graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optisar_yolo.export.exported import INPUTS, OUTPUTS
from optisar_yolo.nn import Encoded, GroundingModel

FREE = {  # axes whose length may change from run to run; those of an encoder's maps are numbered by `Encoder`
    "images": {0: "batch", 2: "height", 3: "width"},
    "text": {0: "batch", 1: "texts"},
    "extent": {0: "batch"},
    "boxes": {0: "batch", 1: "texts"},
    "conf": {0: "batch", 1: "texts"},
}


class Exportable(nn.Module):
    """A traceable part of a network.

    Args:
        model: The network, in evaluation mode.

    Attributes:
        inputs: Name of each input and what it is.
        outputs: The same of the outputs.
        axes: Names of the free axes of each.
    """

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model
        self.inputs, self.outputs = dict(INPUTS), dict(OUTPUTS)
        self.axes: dict[str, dict[int, str]] = dict(FREE)

    def example(self, b: int, t: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Inputs of b images and t expressions, the same in every call; the images are padded above and below."""
        given = example(b, t, height, width, self.model.text_dim)
        return tuple(given[name] for name in self.inputs)


class Answers(Exportable):
    """The whole network: images and expressions in, one box and confidence per expression out."""

    def forward(self, images: Tensor, text: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W], text [B, T, D] and extent [B, 4] to boxes [B, T, 4] and conf [B, T]."""
        return answers(self.model, self.model.encode(images, extent), text)


class Baked(Exportable):
    """The network with fixed expressions.

    Args:
        model: The network, in evaluation mode.
        text: Features of the expressions [T, D].
    """

    def __init__(self, model: GroundingModel, text: Tensor) -> None:
        super().__init__(model)
        del self.inputs["text"]
        self.text: Tensor
        self.register_buffer("text", text[None].clone())

    def forward(self, images: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W] and extent [B, 4] to boxes [B, T, 4] and conf [B, T]."""
        return answers(self.model, self.model.encode(images, extent), self.text.expand(images.shape[0], -1, -1))


class Encoder(Exportable):
    """The first of two graphs: what of an image no expression touches, as tensors named by their place in `Encoded`."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__(model)
        del self.inputs["text"]
        with torch.inference_mode():
            small, large = (
                flatten(slim(model.encode(*self.example(2, 1, *size)), model.guided))
                for size in ((128, 96), (192, 160))
            )
        self.outputs = {}
        for name, value in small.items():
            if name == "extent":  # given, not made
                continue
            self.outputs[name] = "part of the encoded images, for the graph that answers [batch, ...]"
            free = [i for i, n in enumerate(value.shape) if n != large[name].shape[i]]
            self.axes[name] = {0: "batch"} | {i: f"{name}_{i}" for i in free}

    def forward(self, images: Tensor, extent: Tensor) -> tuple[Tensor, ...]:
        """Map images [B, 3, H, W] and extent [B, 4] to the tensors that `outputs` names."""
        made = flatten(slim(self.model.encode(images, extent), self.model.guided))
        return tuple(made[name] for name in self.outputs)


class Query(Exportable):
    """The second of two graphs: encoded images and expressions in, boxes and confidences out.

    Args:
        encoder: The first.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.model)
        self.encoder = [encoder]  # in a list: not a part of this module
        self.inputs = {**encoder.outputs, **{name: INPUTS[name] for name in ("text", "extent")}}
        self.axes = encoder.axes
        with torch.inference_mode():
            self.made = slim(encoder.model.encode(*encoder.example(2, 1, 128, 96)), encoder.model.guided)

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Map the encoder's tensors, text [B, T, D] and extent [B, 4] to boxes [B, T, 4] and conf [B, T]."""
        tensors = dict(zip(self.inputs, given, strict=True))
        text = tensors.pop("text")
        return answers(self.model, rebuild(self.made, tensors), text)

    def example(self, b: int, t: int, height: int, width: int) -> tuple[Tensor, ...]:
        """As of the whole network, the images encoded."""
        encoder = self.encoder[0]
        given = example(b, t, height, width, self.model.text_dim)
        with torch.inference_mode():
            made = encoder(given["images"], given["extent"])
        # cloned: a trace keeps its inputs, which tensors of the inference mode do not allow
        return (*(v.clone() for v in made), given["text"], given["extent"])


def answers(model: GroundingModel, scene: Encoded, text: Tensor) -> tuple[Tensor, Tensor]:
    """Best box [B, T, 4] and confidence [B, T] of the expressions text [B, T, D] about the B images of a scene."""
    b, t, d = text.shape
    if not model.guided:
        boxes, conf = model.head.decode(model.match_all(scene, text))
        return boxes[:, :, 0], conf[:, :, 0]
    # not `repeat_interleave`: a number of repeats that is known only at run time has no ONNX counterpart
    index = torch.arange(b, device=text.device)[:, None].expand(b, t).reshape(-1)
    boxes, conf = model.head.decode(model.match(scene.rows(index), text.reshape(-1, d)))
    return boxes.reshape(b, t, 4), conf.reshape(b, t)


def example(b: int, t: int, height: int, width: int, dim: int) -> dict[str, Tensor]:
    """Random inputs of the whole network by name, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(b, t, dim, generator=generator), dim=-1)
    extent = torch.tensor([0.0, 0.125, 1.0, 0.875]).repeat(b, 1)
    return {"images": torch.rand(b, 3, height, width, generator=generator), "text": text, "extent": extent}


def slim(scene: Encoded, guided: object) -> Encoded:
    """Leave out what no question needs: of a pyramid without text, all but what the head has made of it.

    The head takes the maps' sizes alone, which those of its own cells are too.
    """
    if guided or scene.head is None or scene.head.boxes is None:
        return scene
    return scene._replace(maps={}, first=scene.head.boxes, head=scene.head._replace(feats=scene.head.cells))


def flatten(value: Any) -> dict[str, Tensor]:
    """Tensors of nested tuples, lists and dictionaries by their place (``head_cells_0``), each once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in _leaves(value, ""):
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def rebuild(like: Any, tensors: dict[str, Tensor]) -> Any:
    """Put tensors in the places that :func:`flatten` took them from; like has the structure and is not changed."""
    first: dict[int, str] = {}
    for name, tensor in _leaves(like, ""):
        first.setdefault(id(tensor), name)

    def put(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tensors[first[id(value)]]
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if hasattr(value, "_fields"):
            return type(value)(*(put(v) for v in value))
        return type(value)(put(v) for v in value) if isinstance(value, (list, tuple)) else value

    return put(like)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors and their places."""
    if isinstance(value, Tensor):
        yield name, value
        return
    if isinstance(value, dict):
        parts = [(str(k), v) for k, v in value.items()]
    elif hasattr(value, "_fields"):
        parts = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (list, tuple)):
        parts = [(str(i), v) for i, v in enumerate(value)]
    else:
        return
    for key, part in parts:
        yield from _leaves(part, f"{name}_{key}" if name else key)
