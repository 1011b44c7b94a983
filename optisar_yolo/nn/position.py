"""Where a map's cells lie in the unpadded image: position code and region grid (OptiSAR-Net++, Eq. 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# sines and cosines of pi*x and 2*pi*x: enough to tell thirds of an image apart, too few to memorise places
OCTAVES = 2
POSITION_CHANNELS = 2 + 4 * OCTAVES


def unpadded_grid(h: int, w: int, extent: Tensor) -> Tensor:
    """Coordinates of map cells in the unpadded image.

    Args:
        h: Rows of the map.
        w: Columns of the map.
        extent: [B, 4] left, top, right and bottom of the image as shares of the padded canvas.

    Returns:
        [B, 2, h, w]: x and y of each cell's centre, 0 to 1 inside the image, outside that range in the padding.
    """
    x = (torch.arange(w, device=extent.device, dtype=extent.dtype) + 0.5) / w
    y = (torch.arange(h, device=extent.device, dtype=extent.dtype) + 0.5) / h
    left, top, right, bottom = extent.unbind(1)
    x = (x[None] - left[:, None]) / (right - left)[:, None]  # [B, w]
    y = (y[None] - top[:, None]) / (bottom - top)[:, None]  # [B, h]
    return torch.stack((x[:, None].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)), 1)


def position_code(h: int, w: int, extent: Tensor) -> Tensor:
    """Normalised x and y with their first sines and cosines: [B, POSITION_CHANNELS, h, w]."""
    p = unpadded_grid(h, w, extent).clamp(0, 1) * 2 - 1
    waves = [f(p * (math.pi * 2**k)) for k in range(OCTAVES) for f in (torch.sin, torch.cos)]
    return torch.cat((p, *waves), 1)


def region_labels(h: int, w: int, extent: Tensor, rows: int, cols: int) -> Tensor:
    """Eq. 8: grid cell (row * cols + col) of the unpadded image for each map cell, -1 in the padding: [B, h, w]."""
    x, y = unpadded_grid(h, w, extent).unbind(1)
    label = (y * rows).floor() * cols + (x * cols).floor()
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    return torch.where(inside, label, torch.full_like(label, -1)).long()
