"""Merging: each object once, whichever tiles it lies in, and no two objects become one."""

import time

import numpy as np
import pytest
import slow_merging

from optisar_yolo.geo import merging
from optisar_yolo.geo.merging import cut_sides, merge, open_sides
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


def candidates(seed, count, side=4000.0, tile=320, spread=1.2):
    """Random candidates of a tiling: clusters around objects of all sizes, cut where they end at a border."""
    rng = np.random.default_rng(seed)
    grid = Grid.of(int(side), int(side), tile, 0.25)
    centre = rng.uniform(0, side, (max(count // 6, 1), 2))[rng.integers(0, max(count // 6, 1), count)]
    size = np.exp(rng.normal(3.3, spread, (count, 2)))
    centre += rng.normal(0, 0.15, (count, 2)) * size
    boxes = np.round(np.column_stack([centre - size / 2, centre + size / 2]).clip(0, side), 1)
    if count:
        boxes[:: max(count // 9, 1)] = boxes[0]  # the very same box several times
        boxes[1 :: max(count // 7, 1), 2] = boxes[1 :: max(count // 7, 1), 0]  # no width
    tiles = [grid[int(i)] for i in rng.integers(0, len(grid), count)]
    cut = np.array([rng.choice([0, 0, 0, 1, 2, 4, 8, 5, 12]) for _ in tiles], np.int64)
    return boxes, np.round(rng.uniform(0.05, 1, count), 2), cut, rng.random(count) < 0.4, np.array(
        [t.index for t in tiles], np.int64
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("count", "side"), [(0, 900), (1, 900), (7, 900), (60, 300), (400, 2500), (900, 700)])
def test_the_same_as_comparing_every_box_with_every_other(seed, count, side, monkeypatch):
    monkeypatch.setattr(merging, "FEWEST", 1 + seed)  # several chunks also here
    monkeypatch.setattr(merging, "MOST", 64)
    monkeypatch.setattr(merging, "PAIRS", 500)
    given = candidates(seed, count, side)
    found, expected = merge(*given), slow_merging.merge(*given)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
    boxes, _, cut, _, _ = given
    assert open_sides(found[0], boxes, cut).tolist() == slow_merging.open_sides(found[0], boxes, cut).tolist()


def test_one_place_full_of_boxes_is_merged_too():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 5, (3000, 2)), rng.uniform(95, 100, (3000, 2))], 1)
    given = boxes, rng.random(3000), np.zeros(3000, int), rng.random(3000) < 0.5, np.arange(3000)
    assert np.array_equal(merge(*given)[0], slow_merging.merge(*given)[0]) and len(merge(*given)[0]) == 1


def test_twenty_thousand_candidates_take_no_minute():
    given = candidates(1, 20_000, 20_000, 640, spread=0.6)
    steps = []
    start = time.process_time()
    found, _ = merge(*given, steps.append)
    open_sides(found, given[0], given[2])
    assert time.process_time() - start < 15  # comparing all with all: 83 s
    assert sum(steps) == 20_000 and len(steps) > 10  # progress
