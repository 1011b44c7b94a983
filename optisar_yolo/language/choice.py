"""Choosing among the objects found for a category: which of them a query means.

Objects are boxes with confidences, found with `ObjectQuery.core` and, for a relation, with the cores of its references.

* `order` takes every object for certain: it returns those that fit, in the order of the superlative. Rasters use it.
* `weigh` takes into account that an object may be a false one, or one too many: "the second leftmost ship" is object i
  with the probability that i is a ship and that exactly one of the objects further left is a ship. With p_j the
  probability that object j is one, that is p_i P(sum of the ones before i = 1), a Poisson binomial distribution. Images
  use it.
* `chosen` returns the objects of a set: all that fit above a threshold, or so many of them.

The three share `_fits` (place and relation) and `_key` (what the superlative compares).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language.query import ObjectQuery
from optisar_yolo.language.query_words import BETWEEN, CENTRE_OF_IMAGE, FURTHEST, INSIDE, MIDDLE, NEAREST
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.language.vocabulary import SIDE_OF

# Chosen on the validation split of real images (benchmarks/reasoning.py): a confidence is calibrated for the best box
# of an expression, and a further object of the category is one less often. LIKELY is the confidence that becomes 0.5.
LIKELY, SHARPNESS = 0.6, 2.0
UNSURE = 0.5  # how well an object fits where the boxes cannot tell: just beyond a place, hardly to the left
WITHIN = 0.5  # share of an object's box in the reference's box from which it is inside
BESIDE_LINE = 0.35  # "between": the furthest from the line between two references, as a share of its length
SOFT = 0.1  # width of the border of a place of several objects, a share of the image's side
SEEN = 0.2  # likelihood from which an object counts among those whose colours are compared
COLOURED = 0.05  # least of a colour; of free English on training images, no object that was meant had less
_BANDS = {"left": (0.0, 0.5), "right": (0.5, 1.0), "top": (0.0, 0.5), "bottom": (0.5, 1.0), "middle": (0.25, 0.75)}


class Found(NamedTuple):
    """The objects found for an expression, without duplicates.

    Attributes:
        boxes: [N, 4] xyxy in pixels.
        conf: [N] confidences, 0..1.
        colours: How much of a colour each object has, [N] from 0 to 1, by colour; those that were not measured are
            missing.
    """

    boxes: NDArray[np.floating]
    conf: NDArray[np.floating]
    colours: Mapping[str, NDArray[np.floating]] = {}

    def kept(self, which: NDArray[Any]) -> Found:
        """Return some of the objects, by mask or index."""
        return Found(self.boxes[which], self.conf[which], {c: share[which] for c, share in self.colours.items()})


Size = tuple[float, float]


def order(query: ObjectQuery, found: Mapping[str, Found], size: Size) -> NDArray[np.intp]:
    """Order the objects that a query means, all taken for certain.

    Args:
        query: The query.
        found: The objects of each of its cores, all above the threshold.
        size: (width, height) of the image or raster in pixels.

    Returns:
        Indices of the objects of its core of which the query is true or open, best first. Without a superlative, those
        certainly in the place precede those at its border, and confidence orders each. A superlative orders the objects
        certainly in the place, or those at its border where there are none, and its ordinal skips the first ones. Of a
        set with a number, so many.
    """
    boxes, conf = _arrays(found[query.core])
    fit = _fits(query, boxes, found, size)
    by_conf = np.argsort(-conf, kind="stable")
    sure, unsure = by_conf[fit[by_conf] > UNSURE], by_conf[(fit[by_conf] > 0) & (fit[by_conf] <= UNSURE)]
    key = _key(query, boxes, found, size)
    if key is None:
        return np.concatenate([sure, unsure])[: query.amount if query.kind == "set" else None]
    left = sure if len(sure) else unsure
    left = left[np.argsort(key[left], kind="stable")]
    if query.superlative == MIDDLE:
        left = left[np.argsort(np.abs(np.arange(len(left)) - (len(left) - 1) / 2), kind="stable")]
    return left[query.ordinal - 1 :][: query.amount if query.kind == "set" else None]


def weigh(query: ObjectQuery, found: Mapping[str, Found], size: Size) -> NDArray[np.float64]:
    """Return the probability [N] that each object of the core is the one that a query means.

    Args:
        query: A query for one object.
        found: The objects of each of its cores, unlikely ones included; confidences are calibrated.
        size: (width, height) of the image in pixels.
    """
    boxes, conf = _arrays(found[query.core])
    exists, trust = likelihood(conf), 1.0
    if query.group:
        ranked = np.argsort(-conf, kind="stable")
        if len(ranked) > query.group:  # "of the three": the three surest, unless a fourth is likely too
            trust = 1 - float(exists[ranked[query.group]])
            exists[ranked[query.group :]] = 0.0
    fit = _fits(query, boxes, found, size)
    trust *= float(np.prod([_certainty(reference, found) for reference in query.reference]))
    key = _key(query, boxes, found, size)
    if key is None:
        return trust * exists * fit * (0.9 + 0.1 * _closeness(query, boxes, found))
    present = exists * fit
    if query.superlative == MIDDLE:
        return trust * _middle(key, present)
    return trust * _kth(np.argsort(key, kind="stable"), present, query.ordinal)


def chosen(
    query: ObjectQuery, found: Mapping[str, Found], size: Size, conf: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the objects of a set, best first, and their confidences.

    Args:
        query: A query for several objects.
        found: The objects of each of its cores.
        size: (width, height) of the image in pixels.
        conf: Confidence from which objects count where a superlative compares them.

    Returns:
        Indices [M] of the objects that fit, at most its amount, and confidences [M]: those of the detections, less
        where place or relation fit partly.
    """
    boxes, own = _arrays(found[query.core])
    score = own * _fits(query, boxes, found, size)
    key = _key(query, boxes, found, size)
    if key is None:
        ranked = np.argsort(-score, kind="stable")
    else:  # of those above the threshold, the first ones
        ranked = np.lexsort((key, score < conf))
        ranked = ranked[query.ordinal - 1 :]
    ranked = ranked[score[ranked] > 0][: query.amount]
    return ranked, score[ranked]


def likelihood(conf: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probability that detections of a category are objects of it, from calibrated confidences."""
    p = np.clip(np.asarray(conf, np.float64), 1e-6, 1 - 1e-6)
    odds = (p / (1 - p) * (1 - LIKELY) / LIKELY) ** SHARPNESS
    return odds / (1 + odds)


def _arrays(found: Found) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(found.boxes, np.float64).reshape(-1, 4), np.asarray(found.conf, np.float64)


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _kth(ranked: NDArray[np.intp], present: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the probability [N] that each object is the k-th one that is present, in an order."""
    counts = np.zeros(k)  # probability that so many of the objects before are present
    counts[0] = 1.0
    out = np.zeros(len(present))
    for i in ranked:
        p = present[i]
        out[i] = p * counts[k - 1]
        counts = counts * (1 - p) + np.concatenate(([0.0], counts[:-1])) * p
    return out


def _middle(key: NDArray[np.float64], present: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of the middle object in an order: one of an odd number, two of an even one."""
    out = np.zeros(len(present))
    ranked = np.argsort(key, kind="stable")
    ranked = ranked[present[ranked] >= 0.5]
    if len(ranked):
        for i in {ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]}:
            out[i] = present[i] / (1 if len(ranked) % 2 else 2)
    return out


def _fits(
    query: ObjectQuery, boxes: NDArray[np.float64], found: Mapping[str, Found], size: Size
) -> NDArray[np.float64]:
    """Return how well each object fits place and relation, 0..1 [N]."""
    fit = _of_colour(query, found)
    if query.place is not None and len(boxes):
        if query.kind == "set" or query.group:
            fit *= _among(boxes, query.place, size)
        else:
            objects = LabelledObjects(boxes, None, size)
            degree = {True: 1.0, None: UNSURE, False: 0.0}
            fit *= [degree[objects.in_place(i, query.place)] for i in range(len(boxes))]
    if query.relation in (None, NEAREST, FURTHEST) or not len(boxes):
        return fit
    if query.relation == BETWEEN:
        return fit * _between(query, boxes, found)
    others, weights = _others(query.reference[0], found, size)
    if not len(others):
        return np.zeros(len(boxes))
    if query.relation == INSIDE:
        low = np.maximum(boxes[:, None, :2], others[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
        inside = (high - low).clip(0).prod(-1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1).clip(1e-9)[:, None]
        return fit * ((inside >= WITHIN) * weights).max(1)
    sides = [SIDE_OF.get(side, side) for side in str(query.relation).split()]
    both = LabelledObjects(np.concatenate([boxes, others]), None, size)
    truths = np.zeros((len(boxes), len(others)))
    for i in range(len(boxes)):
        for k in range(len(others)):
            same = _overlap(boxes[i], others[k]) > 0.5
            truth = False if same else both.beside(i, len(boxes) + k, *sides)
            truths[i, k] = {True: 1.0, None: UNSURE, False: 0.0}[truth]
    return fit * (truths * weights).max(1)


def _of_colour(query: ObjectQuery, found: Mapping[str, Found]) -> NDArray[np.float64]:
    """Return how well each object fits the colour, 0..1 [N], beside the likely object that has most of it.

    Light and haze change how much of a colour an object has, in all of an image alike.
    """
    objects = found[query.core]
    shares = objects.colours.get(query.colour) if query.colour else None
    if shares is None or not len(shares):
        return np.ones(len(objects.boxes))
    shares = np.asarray(shares, np.float64)
    sure = likelihood(objects.conf) > SEEN
    most = float(shares[sure].max()) if sure.any() else float(shares.max())
    return np.zeros(len(shares)) if most < COLOURED else (shares / most).clip(0, 1)


def without_colour(query: ObjectQuery, found: Mapping[str, Found]) -> bool:
    """Tell that likely objects of the category were found, and that none of them has the colour."""
    if query.colour is None or query.colour not in found[query.core].colours:
        return False
    seen = bool((likelihood(found[query.core].conf) > SEEN).any())
    return seen and not _of_colour(query, found).any()


def _key(
    query: ObjectQuery, boxes: NDArray[np.float64], found: Mapping[str, Found], size: Size
) -> NDArray[np.float64] | None:
    """Return what the superlative compares [N], the smallest first; None without one."""
    if query.relation in (NEAREST, FURTHEST):
        others, _ = _others(query.reference[0], found, size)
        distance = _distance(boxes, others).min(1, initial=np.inf)
        return distance if query.relation == NEAREST else -distance
    if query.superlative is None:
        return None
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)
    keys = {
        "left": x1 + x2, "right": -(x1 + x2), "top": y1 + y2, "bottom": -(y1 + y2), "largest": -area, "smallest": area,
    }  # fmt: skip
    if query.superlative in keys:
        return keys[query.superlative]
    centre = _centres(boxes)
    if query.superlative == MIDDLE:
        spread = np.ptp(centre, axis=0) if len(centre) else np.zeros(2)
        return centre[:, int(spread[1] > spread[0])]
    target = np.array(size) / 2
    if query.superlative != CENTRE_OF_IMAGE:
        row, column = query.superlative.split()
        target = np.array([size[0] * (column == "right"), size[1] * (row == "lower")])
    return np.hypot(*((centre - target) / max(size)).T)


def _among(boxes: NDArray[np.float64], place: tuple[str | None, str | None], size: Size) -> NDArray[np.float64]:
    """Return how well objects lie on a side [N]: "the ships on the left" are those of the left half."""
    fit = np.ones(len(boxes))
    for value, band in zip((_centres(boxes) / size).T, place, strict=True):
        if band:
            low, high = _BANDS[band]
            inside = np.minimum(value - low if low else np.inf, high - value if high < 1 else np.inf)
            fit *= np.clip(inside / SOFT + 0.5, 0, 1)
    return fit


def _others(
    reference: ObjectQuery, found: Mapping[str, Found], size: Size
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the boxes of a reference and their probabilities, the most likely one included whatever it is."""
    boxes, conf = _arrays(found[reference.core])
    if not len(boxes):
        return boxes, conf
    weights = weigh(reference, found, size) if reference.reasoned and reference.kind != "set" else likelihood(conf)
    kept = np.flatnonzero(weights >= 0.5)
    if not len(kept) or reference.reasoned:
        kept = kept if reference.kind == "set" and len(kept) else np.array([int(weights.argmax())])
    weights = weights / max(float(weights[kept].max()), 1e-9)  # how likely any is, `_certainty` says
    return boxes[kept], weights[kept].clip(0, 1)


def _certainty(reference: ObjectQuery, found: Mapping[str, Found]) -> float:
    """Return the probability that the most likely object of a reference exists."""
    conf = found[reference.core].conf
    return float(likelihood(conf).max()) if len(conf) else 0.0


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the share of the smaller of two boxes that lies in the other."""
    inter = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(inter / max(min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()), 1e-9))


def _distance(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gaps between boxes [N, M], with a little of the distance of centres, which decides between overlaps.

    A box and itself, where both kinds are one, are infinitely far.
    """
    gap = np.maximum(boxes[:, None, :2] - others[None, :, 2:], others[None, :, :2] - boxes[:, None, 2:]).clip(0)
    apart = np.hypot(*np.moveaxis(gap, -1, 0)) + 1e-3 * np.hypot(*(_centres(boxes)[:, None] - _centres(others)).T).T
    same = np.array([[_overlap(a, b) > 0.8 for b in others] for a in boxes]).reshape(len(boxes), len(others))
    return np.where(same, np.inf, apart)


def _closeness(query: ObjectQuery, boxes: NDArray[np.float64], found: Mapping[str, Found]) -> NDArray[np.float64]:
    """Return how near each object is to the next reference [N], 1 for the nearest: of equals it is meant."""
    if not query.reference or not len(boxes):
        return np.ones(len(boxes))
    others = np.concatenate([_arrays(found[reference.core])[0] for reference in query.reference])
    distance = _distance(boxes, others).min(1, initial=np.inf)
    finite = distance[np.isfinite(distance)]
    if not len(finite):
        return np.ones(len(boxes))
    return np.where(np.isfinite(distance), finite.min() / np.maximum(distance, 1e-9), 0).clip(0, 1)


def _between(query: ObjectQuery, boxes: NDArray[np.float64], found: Mapping[str, Found]) -> NDArray[np.float64]:
    """Return how well objects lie between two references [N], the best over their pairs."""
    sets = [_arrays(found[reference.core]) for reference in query.reference]
    fit = np.zeros(len(boxes))
    middle = _centres(boxes)
    alone = len(sets) == 1
    (first, p), (second, q) = sets[0], sets[-1]
    p, q = likelihood(p), likelihood(q)
    for i in range(len(first)):
        for k in range(i + 1 if alone else 0, len(second)):
            a, b = _centres(first[i : i + 1])[0], _centres(second[k : k + 1])[0]
            line = b - a
            length = float(np.hypot(*line))
            if length < 1e-6 or p[i] * q[k] < 0.01:
                continue
            along = (middle - a) @ line / length**2
            across = np.abs((middle - a) @ np.array([-line[1], line[0]])) / length**2
            here = ((along > 0.05) & (along < 0.95)) * (1 - across / BESIDE_LINE).clip(0)
            ends = np.array([max(_overlap(box, first[i]), _overlap(box, second[k])) > 0.8 for box in boxes])
            fit = np.maximum(fit, np.where(ends, 0, here) * p[i] * q[k])
    return fit
