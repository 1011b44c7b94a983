"""The release's patch rule: sides of patches by the map's size, convolution inside them, and no export."""

from __future__ import annotations

import pytest
import torch

from optisar_yolo.nn.plmoe import PatchConv
from optisar_yolo.paper.blocks import FittedMoEBlock, convolve_patches, fitted_side


def test_patch_sides():
    sides = {20: 2, 19: 1, 10: 2, 40: 2, 60: 3, 61: 1, 640: 32, 2: 2, 1: 1, 3: 1}
    assert {size: fitted_side(size, 2, 20) for size in sides} == sides
    assert fitted_side(16, 1, 4) == 4 and fitted_side(65, 1, 16) == 5 and fitted_side(62, 1, 15) == 2


@pytest.mark.parametrize("patch", [(1, 2), (2, 2), (3, 5)])
def test_convolution_stays_inside_its_patch(patch):
    conv = PatchConv(4, 6, 2)
    ph, pw = patch
    x = torch.rand(2, 4, 3 * ph, 2 * pw)
    out = convolve_patches(x, conv.weight, patch)
    for i in range(3):
        for j in range(2):
            cut = (..., slice(i * ph, (i + 1) * ph), slice(j * pw, (j + 1) * pw))
            torch.testing.assert_close(out[cut], torch.conv2d(x[cut], conv.weight, padding=1))
    if patch == (2, 2):
        torch.testing.assert_close(out, conv(x))


def test_the_patch_rule_is_not_exported():
    """An exported graph takes images of any size, and would keep the patches of one."""
    with pytest.raises(ValueError, match="fixed_patch=True"):
        torch.jit.trace(FittedMoEBlock(8, 2, 1, 4, 2).eval(), torch.rand(1, 8, 4, 4))
