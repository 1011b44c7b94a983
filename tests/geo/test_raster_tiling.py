"""Tiles: cores partition the raster, neighbours overlap enough, groups hold every tile once."""

import numpy as np
import pytest

from optisar_yolo.geo.tiling import Grid

CASES = [
    (1500, 1100, 320, 0.25, 1.0),
    (1500, 1100, 320, 0.0, 1.0),
    (200, 150, 320, 0.25, 1.0),
    (321, 319, 320, 0.5, 1.0),
    (1501, 1103, 256, 0.3, 2.0),
    (700, 5000, 320, 0.25, 0.5),
    (1, 1, 320, 0.25, 1.0),
]


@pytest.mark.parametrize("case", CASES)
def test_cores_partition_the_raster_and_lie_in_their_tiles(case):
    grid = Grid.of(*case)
    covered = np.zeros((grid.height, grid.width), int)
    for tile in grid:
        left, top, right, bottom = tile.core
        assert tile.x <= left < right <= tile.x + tile.width <= grid.width
        assert tile.y <= top < bottom <= tile.y + tile.height <= grid.height
        assert (tile.width, tile.height) == grid.size  # batches need one size
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("case", CASES)
def test_whatever_is_no_longer_than_the_overlap_is_whole_in_some_tile(case):
    grid = Grid.of(*case)
    for starts, side, length in ((grid.columns, grid.size[0], grid.width), (grid.rows, grid.size[1], grid.height)):
        span = min(grid.overlap, length)
        for first in range(0, length - span + 1):
            assert any(s <= first and first + span <= s + side for s in starts)


def test_scale_maps_the_working_grid_exactly_onto_the_file():
    grid = Grid.of(1501, 1103, 256, 0.25, 2.0)
    assert (grid.width * grid.scale[0], grid.height * grid.scale[1]) == pytest.approx((1501, 1103))
    assert grid.scale == pytest.approx((2, 2), rel=2e-3)


@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_groups_hold_every_tile_once_and_skip_what_is_done(batch):
    for size in ((1500, 1100), (400, 3000)):
        grid = Grid.of(*size, 320, 0.25)
        numbers = [t.index for group in grid.groups(batch) for t in group]
        assert sorted(numbers) == list(range(len(grid)))
        assert all(len(group) <= batch for group in grid.groups(batch))
        done = set(range(0, len(grid), 2))
        left = [t.index for group in grid.groups(batch, done) for t in group]
        assert sorted(left) == [i for i in range(len(grid)) if i not in done]


@pytest.mark.parametrize("overlap, scale", [(-0.1, 1), (1.0, 1), (0.2, 0), (0.2, float("nan")), (0.2, -1)])
def test_values_out_of_range_are_named(overlap, scale):
    with pytest.raises(ValueError, match="is not valid"):
        Grid.of(100, 100, 32, overlap, scale)
