"""Which experts the patches of an image chose (PL-MoE, OptiSAR-Net++ Sect. III-B, Eq. 1-3): maps and shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from optisar_yolo.nn import MoEBlock, named_parts
from optisar_yolo.visualize import Frame


class Shares(NamedTuple):
    """How much the experts of a block are used; each is [E] and sums to 1.

    Attributes:
        weight: Mean gate weight (the g of Eq. 1).
        first: Share of the area whose patches weigh this expert most.
    """

    weight: NDArray[np.float64]
    first: NDArray[np.float64]


class Routing(NamedTuple):
    """The choices of one block in one image.

    Attributes:
        gates: Gate weights float32 [E, rows, columns] of the patches, 0 for experts that were not kept.
        cell: Height and width of a patch, canvas pixels.
        top_k: Experts kept per patch.
    """

    gates: NDArray[np.float32]
    cell: tuple[float, float]
    top_k: int

    @property
    def first(self) -> NDArray[np.int64]:
        """Expert of the largest weight, [rows, columns]."""
        return self.gates.argmax(0)

    def shares(self, frame: Frame, box: NDArray[np.float64] | None = None) -> Shares:
        """Use of the experts over the image without its padding, or over a box [4] xyxy in canvas pixels."""
        area = frame.coverage((self.gates.shape[1], self.gates.shape[2]), self.cell, box)
        chosen = np.arange(len(self.gates))[:, None, None] == self.first
        return Shares(*((maps * area).sum((1, 2)) for maps in (self.gates.astype(np.float64), chosen)))


class RoutingRecorder:
    """Keeps what the PL-MoE blocks of a network chose in its last forward; nothing in the network is changed.

    Args:
        net: The network, fused or not.
    """

    def __init__(self, net: Any) -> None:
        self.blocks = named_parts(net, MoEBlock, "moe")
        self.last: dict[str, tuple[Tensor, tuple[float, float]]] = {}  # gates [B, E, rows, columns], patch in cells
        self.strides: dict[str, int] = {}  # rows of the block's map, whose share of the canvas gives the stride
        self.handles = []
        for name, block in self.blocks.items():
            self.handles.append(block.register_forward_pre_hook(self._size(name)))
            self.handles.append(block.experts.register_forward_pre_hook(self._keep(name)))

    def _size(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.strides[name] = args[0].shape[2]

        return hook

    def _keep(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            x, gates = args[0], args[1]  # a third one, the patch's sides, follows from these two
            patch = (x.shape[2] / gates.shape[2], x.shape[3] / gates.shape[3])
            self.last[name] = gates.detach(), patch

        return hook

    def of(self, row: int, canvas: Sequence[int]) -> dict[str, Routing]:
        """Return the choices in one image of the last forward.

        Args:
            row: Of the image in its batch.
            canvas: Height and width of the canvas, pixels.
        """
        found = {}
        for name, (gates, patch) in self.last.items():
            stride = canvas[0] / self.strides[name]
            cell = (patch[0] * stride, patch[1] * stride)
            found[name] = Routing(gates[row].float().cpu().numpy(), cell, self.blocks[name].gate.top_k)
        return found

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
