"""Merging: each object once, whichever tiles it lies in, and no two objects become one."""

import numpy as np
import pytest

from optisar_yolo.geo.merging import cut_sides, merge
from optisar_yolo.geo.tiling import Grid


def seen_by_tiles(grid, objects):
    """Return what every tile shows of objects, as a perfect detector would box it."""
    boxes, cut, home, tiles = [], [], [], []
    for t in grid:
        border = (t.x, t.y, t.x + t.width, t.y + t.height)
        for x1, y1, x2, y2 in objects:
            part = [max(x1, border[0]), max(y1, border[1]), min(x2, border[2]), min(y2, border[3])]
            if part[2] <= part[0] or part[3] <= part[1]:
                continue
            cx, cy = (part[0] + part[2]) / 2, (part[1] + part[3]) / 2
            left, top, right, bottom = t.core
            boxes.append(part)
            home.append(left <= cx < right and top <= cy < bottom)
            cut.append(cut_sides(np.array([part]), border, (grid.width, grid.height), 2)[0])
            tiles.append(t.index)
    return np.array(boxes, float), np.array(cut), np.array(home), np.array(tiles)


@pytest.mark.parametrize("seed", range(5))
def test_every_object_is_found_once_and_as_it_is(seed):
    rng = np.random.default_rng(seed)
    grid = Grid.of(1500, 1100, 320, 0.25)
    objects = []
    while len(objects) < 60:
        w, h = rng.integers(8, 78, 2)  # up to the overlap of 80
        x, y = rng.integers(0, 1500 - w), rng.integers(0, 1100 - h)
        if all(x + w < a or c < x or y + h < b or d < y for a, b, c, d in objects):
            objects.append((x, y, x + w, y + h))
    boxes, cut, home, tiles = seen_by_tiles(grid, objects)
    assert len(boxes) > len(objects)  # otherwise nothing is tested
    found, conf = merge(boxes, rng.uniform(0.5, 1, len(boxes)), cut, home, tiles)
    assert sorted(map(tuple, found.astype(int).tolist())) == sorted(objects)
    assert (np.diff(conf) <= 0).all()


@pytest.mark.parametrize("box", [(100, 500, 1300, 540), (600, 50, 650, 1000), (200, 200, 1000, 900)])
@pytest.mark.parametrize("overlap", [0.1, 0.2, 0.4])
def test_an_object_longer_than_the_overlap_is_put_together(box, overlap):
    grid = Grid.of(1500, 1100, 320, overlap)
    boxes, cut, home, tiles = seen_by_tiles(grid, [box])
    middle = [i for i in range(len(boxes)) if cut[i]]
    found, _ = merge(boxes[middle], np.full(len(middle), 0.9), cut[middle], home[middle], tiles[middle])
    assert found.tolist() == [list(box)]


def test_a_whole_box_wins_over_a_more_confident_part():
    boxes = np.array([[90.0, 10, 130, 40], [90, 10, 118, 40]])
    found, conf = merge(boxes, np.array([0.6, 0.9]), np.array([0, 4]), np.array([True, True]), np.array([1, 0]))
    assert found.tolist() == [[90, 10, 130, 40]] and conf.tolist() == [0.6]


def test_the_home_tile_wins_over_a_more_confident_neighbour():
    boxes = np.array([[90.0, 10, 131, 40], [90, 10, 130, 40], [90, 10, 129, 40]])
    home, whole = np.array([False, True, False]), np.zeros(3, int)
    found, conf = merge(boxes, np.array([0.9, 0.6, 0.8]), whole, home, np.arange(3))
    assert found.tolist() == [[90, 10, 130, 40]] and conf.tolist() == [0.6]
    found, conf = merge(boxes, np.array([0.8, 0.6, 0.9]), whole, np.zeros(3, bool), np.arange(3))
    assert found.tolist() == [[90, 10, 129, 40]] and conf.tolist() == [0.9]  # no home: the most confident


def test_neighbours_that_touch_stay_two():
    boxes = np.array([[0.0, 0, 20, 60], [18, 0, 38, 60], [100, 100, 110, 110]])
    found, _ = merge(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, int), np.ones(3, bool), np.array([0, 0, 1]))
    assert len(found) == 3


def test_two_objects_at_facing_borders_of_far_tiles_stay_two():
    boxes = np.array([[300.0, 10, 320, 40], [600, 10, 640, 40]])
    found, _ = merge(boxes, np.array([0.9, 0.8]), np.array([4, 1]), np.ones(2, bool), np.array([0, 2]))
    assert len(found) == 2


def test_nothing_stays_nothing():
    empty = np.zeros(0)
    found, conf = merge(np.zeros((0, 4)), empty, empty.astype(int), empty > 0, empty.astype(int))
    assert found.shape == (0, 4) and conf.shape == (0,)


def test_borders_of_the_raster_cut_nothing():
    whole = np.array([[0.0, 0, 320, 320]])
    assert cut_sides(whole, (0, 0, 320, 320), (320, 320), 2).tolist() == [0]
    assert cut_sides(whole, (0, 0, 320, 320), (640, 640), 2).tolist() == [4 + 8]
