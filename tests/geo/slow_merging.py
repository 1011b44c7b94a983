"""Merging by comparing every box with every other: what `optisar_yolo.geo.merging` must equal."""

import numpy as np

from optisar_yolo.geo.merging import _FACING, ALONG, BOTTOM, INSIDE, LEFT, OVERLAP, RIGHT, TOP
from optisar_yolo.utils import intersection_union


def merge(boxes, conf, cut, home, tile):
    whole, parts = np.flatnonzero(cut == 0), np.flatnonzero(cut)
    whole = whole[suppress(boxes[whole], np.lexsort((-conf[whole], ~home[whole])))]
    hidden = np.zeros(len(parts), bool)
    for i in whole:
        inter, union = intersection_union(boxes[i], boxes[parts])
        hidden |= (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * areas(boxes[parts]))
    parts = parts[~hidden]
    joined, sure = join(boxes[parts], conf[parts], cut[parts], tile[parts])
    objects, sure = np.concatenate([boxes[whole], joined]), np.concatenate([conf[whole], sure])
    last = suppress(objects, np.argsort(-sure, kind="stable"))
    return objects[last], sure[last]


def open_sides(objects, boxes, cut):
    out = np.zeros(len(objects), np.int64)
    for i, box in enumerate(objects):
        if (boxes[cut == 0] == box).all(1).any():
            continue
        near = same(box, boxes)
        for side, column in ((LEFT, 0), (TOP, 1), (RIGHT, 2), (BOTTOM, 3)):
            out[i] += side * bool((near & (cut & side > 0) & (boxes[:, column] == box[column])).any())
    return out


def suppress(boxes, order):
    kept, left = [], order
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        left = left[~same(boxes[first], boxes[left])]
    return np.asarray(kept, np.intp)


def join(boxes, conf, cut, tile):
    group = np.arange(len(boxes))
    for i in range(len(boxes)):
        near = np.all(np.maximum(boxes[i, :2], boxes[:, :2]) <= np.minimum(boxes[i, 2:], boxes[:, 2:]), axis=1)
        alike = same(boxes[i], boxes)
        for j in np.flatnonzero(near).tolist():
            if alike[j] or (tile[i] != tile[j] and any(continues(boxes, cut, i, j, *f) for f in _FACING)):
                group[group == group[j]] = group[i]
    members = {}
    for i in range(len(boxes)):
        members.setdefault(group[i], []).append(i)
    unions = [[*boxes[m, :2].min(0), *boxes[m, 2:].max(0)] for m in members.values()]
    return np.asarray(unions, float).reshape(-1, 4), np.asarray([conf[m].max() for m in members.values()], float)


def continues(boxes, cut, i, j, mine, other, axis):
    if not (cut[i] & mine and cut[j] & other) or boxes[j, axis + 2] <= boxes[i, axis + 2]:
        return False
    across = 1 - axis
    low, high = max(boxes[i, across], boxes[j, across]), min(boxes[i, across + 2], boxes[j, across + 2])
    shorter = min(boxes[i, across + 2] - boxes[i, across], boxes[j, across + 2] - boxes[j, across])
    return bool(boxes[j, axis] <= boxes[i, axis + 2] and high - low >= ALONG * shorter)


def areas(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1).clip(1e-12)


def same(box, others):
    inter, union = intersection_union(box, others)
    return (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * np.minimum(areas(box), areas(others)))
