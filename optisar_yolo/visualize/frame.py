"""Where the cells of a feature map lie on the image, without the grey padding around it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data import to_canvas


class Frame(NamedTuple):
    """An image in the network's canvas.

    Attributes:
        size: Width and height of the image, pixels.
        canvas: Height and width of the canvas, pixels.
        extent: [4] left, top, right and bottom of the image as shares of the canvas.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    extent: NDArray[np.float32]

    @property
    def inside(self) -> NDArray[np.float64]:
        """Place of the image in the canvas, [4] xyxy in canvas pixels."""
        return self.extent.astype(np.float64) * np.tile(self.canvas[::-1], 2)

    def on_canvas(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Convert boxes [N, 4] xyxy in pixels of the image to canvas pixels."""
        shares = to_canvas(boxes, self.size, self.extent).astype(np.float64)
        return shares * np.tile(self.canvas[::-1], 2)

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point in canvas pixels to pixels of the image; points of the padding lie outside of it."""
        left, top, right, bottom = self.inside
        return (x - left) * self.size[0] / (right - left), (y - top) * self.size[1] / (bottom - top)

    def edges(self, shape: tuple[int, int], cell: tuple[float, float]) -> tuple[float, float, float, float]:
        """Place a map on the image.

        Args:
            shape: Rows and columns of the map, whose first cell begins at the canvas' corner.
            cell: Height and width of a cell, canvas pixels.

        Returns:
            Left, right, bottom and top of the map in pixels of the image, as matplotlib's ``imshow`` takes them.
        """
        left, top = self.to_image(0, 0)
        right, bottom = self.to_image(shape[1] * cell[1], shape[0] * cell[0])
        return left, right, bottom, top

    def grid(self, stride: float) -> tuple[int, int]:
        """Return the rows and columns of a map of a stride (canvas pixels) that covers the image alone."""
        left, top, right, bottom = self.inside
        return max(round((bottom - top) / stride), 1), max(round((right - left) / stride), 1)

    def cut(self, values: NDArray[np.float32], cell: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
        """Resample a map to a grid that covers the image alone: each cell gets the value under its centre (nearest).

        Args:
            values: [..., h, w] over the canvas.
            cell: Height and width of its cells, canvas pixels.
            shape: Rows and columns of the result.

        Returns:
            [..., rows, columns].
        """
        left, top, right, bottom = self.inside
        y = top + (np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]
        x = left + (np.arange(shape[1]) + 0.5) * (right - left) / shape[1]
        rows = np.clip((y / cell[0]).astype(int), 0, values.shape[-2] - 1)
        columns = np.clip((x / cell[1]).astype(int), 0, values.shape[-1] - 1)
        return values[..., rows[:, None], columns]

    def coverage(
        self, shape: tuple[int, int], cell: tuple[float, float], box: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return how the area of a box is distributed over the cells of a map.

        Args:
            shape: Rows and columns of the map.
            cell: Height and width of its cells, canvas pixels.
            box: [4] xyxy in canvas pixels, of positive area; the whole image without its padding by default.

        Returns:
            [rows, columns], the shares of the box's area; their sum is 1.
        """
        x1, y1, x2, y2 = self.inside if box is None else box
        rows, columns = (
            np.clip(np.minimum((np.arange(n) + 1) * side, high) - np.maximum(np.arange(n) * side, low), 0, None)
            for n, side, low, high in ((shape[0], cell[0], y1, y2), (shape[1], cell[1], x1, x2))
        )
        area = np.outer(rows, columns)
        return area / area.sum()
