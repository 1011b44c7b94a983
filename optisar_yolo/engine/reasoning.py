"""Grounding with two witnesses: the network's score of the whole expression, and a choice among the objects found.

The network scores every place for an expression as a whole. It is good at places ("in the upper left corner") and fair
at superlatives, and it cannot count. A query (:mod:`optisar_yolo.language.query`) knows which of the objects of a
category an expression means, but only among those that are found. Together:

1. :func:`plan_of` reads the expressions, and adds those of the categories that are to be searched for, "a ship"
   for "the second ship from the left".
2. :func:`match` grounds all of them: one box of an expression that the network alone decides, the best
   :data:`SEARCHED` anchors of the others, without duplicates.
3. Pixels tell which of the objects have the colour that an expression names (:mod:`optisar_yolo.data.colours`).
4. An expression of several objects gets all objects of its category that fit.
5. An expression of one object gets the box of the better witness of its kind (:data:`NETWORK_FIRST`,
   :data:`CHOICE_FIRST`).

The rule of each kind was chosen on the validation split of real images (benchmarks/reasoning.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor
from ultralytics.utils import LOGGER

from optisar_yolo.data import has_hues, how_coloured, to_canvas
from optisar_yolo.engine.calibrate import calibration_of, default_conf, default_match_conf, match_calibration_of
from optisar_yolo.engine.checkpoint import model_vocabulary
from optisar_yolo.engine.grounding import (
    NO_HUES,
    OVERLAP,
    CanvasImages,
    Detections,
    ExportedNetwork,
    NetworkRunner,
    best_boxes,
    candidates,
    distinct_boxes,
)
from optisar_yolo.language import Found, ObjectQuery, chosen, in_words, read_query, weigh, without_colour
from optisar_yolo.nn import Encoded, GroundingModel

ALL = "all"
COLOUR_BANDS = 3  # of an image whose pixels are colours
SEARCHED = 300  # anchors of a category: objects have several, so some sixty objects of a kind
# Confidence of the network from which its own box stands, by kind, and else the probability from which the choice
# stands. Where neither does, the surer one is taken. On the validation split the choice finds all of 32 sides of
# another kind and the network 84 %; of 561 superlatives the network finds 77 % and the choice 74 %; an ordinal that the
# network is sure of is as often wrong as one that it is not.
NETWORK_FIRST: Mapping[str, float] = {
    "superlative": 0.3, "relation": math.inf, "ordinal": math.inf, "colour": math.inf,
}  # fmt: skip
CHOICE_FIRST: Mapping[str, float] = {"superlative": math.inf, "relation": 0.1, "ordinal": 0.01, "colour": 0.01}
LEAST = 0.05  # confidence from which an object is weighed: its likelihood is below 0.002 then
# Confidence at most of the network's box for an ordinal that the objects found do not reach, and for a colour that none
# of them has.
NO_SUCH = 0.01


class QueryPlan(NamedTuple):
    """Expressions and how they are grounded.

    Attributes:
        texts: The T expressions.
        queries: How each was read.
        searched: What the network is given: the expressions, then the categories that are to be searched for.
    """

    texts: list[str]
    queries: list[ObjectQuery]
    searched: list[str]


def plan_of(
    model: GroundingModel | NetworkRunner, texts: Sequence[str], reason: bool = True, several: bool = True
) -> QueryPlan:
    """Read expressions.

    Args:
        model: The network. An export gives one box per expression, so it decides alone.
        texts: The expressions.
        reason: Choose among the objects found; otherwise the network decides alone.
        several: An expression of several objects gets all of them; otherwise it has one box, that of the network alone.
    """
    if not reason or isinstance(model, ExportedNetwork):
        return QueryPlan(list(texts), [ObjectQuery(text, text) for text in texts], list(texts))
    words = model_vocabulary(model)
    queries = [read_query(text, words) for text in texts]
    queries = [query if several or query.kind != "set" else ObjectQuery(query.text, query.text) for query in queries]
    if model.channels != COLOUR_BANDS:
        queries = [in_words(query) for query in queries]
    read = [*queries, *(in_words(query) for query in queries if query.coloured)]
    cores = [core for query in read if query.reasoned for core in query.cores]
    return QueryPlan(list(texts), queries, [*texts, *(core for core in dict.fromkeys(cores) if core not in texts)])


def queries_in(queries: Sequence[ObjectQuery], images: Tensor, extent: Tensor) -> list[list[ObjectQuery]]:
    """Return how expressions are read in each image: in one without hues the network alone reads their colours.

    Args:
        queries: How they were read.
        images: The images on their canvases, [B, bands, H, W] in 0..1.
        extent: [B, 4], of the images in their canvases.
    """
    coloured = [query.text for query in queries if query.coloured]
    if not coloured:
        return [list(queries)] * len(images)
    out = []
    for image, (x1, y1, x2, y2) in zip(images, extent.float().cpu().numpy(), strict=True):
        pixels = _pixels(image)
        height, width = pixels.shape[:2]
        own = pixels[round(y1 * height) : round(y2 * height), round(x1 * width) : round(x2 * width)]
        if own.size and has_hues(own):
            out.append(list(queries))
            continue
        for text in coloured:
            _say_gray(text)
        out.append([replace(in_words(query), note=NO_HUES) if query.coloured else query for query in queries])
    return out


def _pixels(image: Tensor) -> np.ndarray:
    """Return an image [3, H, W] in 0..1 as uint8 [H, W, 3]."""
    return (image.permute(1, 2, 0).float() * 255).round().byte().cpu().numpy()


def thresholds(
    model: GroundingModel | NetworkRunner, plan: QueryPlan, topk: int | str = 1, conf: float | None = None
) -> np.ndarray:
    """Return the confidence threshold of each expression, float [T].

    All objects of an expression have a calibration and a threshold of their own
    (:func:`~optisar_yolo.engine.calibrate.match_calibration_of`). A threshold that the caller sets holds for all.

    Args:
        model: The network.
        plan: The expressions.
        topk: Boxes per expression; "all" for every match.
        conf: The caller's threshold; that of the model, or None, stands for the model's thresholds.
    """
    own = default_conf(model)
    conf = own if conf is None else conf
    least = np.full(len(plan.texts), conf)
    if conf == own:
        least[[query.kind == "set" or topk == ALL for query in plan.queries]] = default_match_conf(model)
    return least


def match(
    model: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    plan: QueryPlan,
    features: Tensor,
    canvas: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    topk: int | str = 1,
    overlap: float = OVERLAP,
    conf: float | None = None,
    *,
    images: Tensor,
) -> list[Detections]:
    """Find the boxes of every expression in every image.

    Args:
        model: The network.
        encoded: B encoded images.
        plan: The expressions.
        features: Features [N, D] of ``plan.searched``.
        canvas: Height and width of the canvas.
        sizes: Width and height of each image.
        topk: Boxes per expression; "all" for every match.
        overlap: IoU above which two boxes of an expression are duplicates.
        conf: Confidence from which objects count; that of the model by default.
        images: The images on their canvases, [B, bands, H, W] in 0..1: their pixels tell colours.

    Returns:
        The detections of each image: for one expression after the other its boxes, best first. Boxes below the
        threshold are among them.
    """
    most = SEARCHED if topk == ALL else int(topk)
    t = len(plan.texts)
    if not any(query.reasoned for query in plan.queries):
        boxes = best_boxes(model, encoded, features[:t], canvas, sizes, most, overlap)
        return [_recalibrated(found, model) for found in boxes] if topk == ALL else boxes
    least = thresholds(model, plan, topk, conf)
    index = {text: n for n, text in enumerate(plan.searched)}
    plain = [j for j, query in enumerate(plan.queries) if not query.reasoned]
    queries = queries_in(plan.queries, images, encoded.extent)
    wide = list(dict.fromkeys(core for own in queries for query in own if query.reasoned for core in query.cores))
    judged = [j for j, query in enumerate(plan.queries) if query.reasoned and query.kind != "set"]
    alone = [*plain, *judged]
    own = best_boxes(model, encoded, features[alone], canvas, sizes, most, overlap) if alone else []
    own = [_recalibrated(found, model) for found in own] if topk == ALL else own
    search = (
        candidates(model, encoded, features[[index[core] for core in wide]], canvas, sizes, SEARCHED)
        if wide
        else [[] for _ in sizes]
    )
    out = []
    for i, size in enumerate(sizes):
        found = {core: _without_duplicates(*search[i][n], overlap) for n, core in enumerate(wide)}
        found = with_colours(queries[i], found, images[i], encoded.extent[i], size)
        every = {core: one._replace(conf=among_all(one.conf, model)) for core, one in found.items()}
        network = {j: own[i].of(n) for n, j in enumerate(alone)}
        parts = [
            _set(query, every, size, least[j], most if topk != 1 else None)
            if query.kind == "set"
            else network[j]
            if not query.reasoned
            else _single(query, network[j], found, size, most)
            for j, query in enumerate(queries[i])
        ]
        for j, part in enumerate(parts):
            part.expression[:] = j
        out.append(Detections(*(np.concatenate(v) for v in zip(*map(_columns, parts), strict=True))))
    return out


def among_all(conf: np.ndarray, model: GroundingModel | NetworkRunner) -> np.ndarray:
    """Turn confidences of best boxes into those of all boxes of an expression."""
    best, every = calibration_of(model), match_calibration_of(model)
    if best is None or every is None or best == every:
        return conf
    return every(best.raw(conf)).astype(np.float32)


def _recalibrated(found: Detections, model: GroundingModel | NetworkRunner) -> Detections:
    return Detections(found.boxes, among_all(found.confidence, model), found.expression)


def reconsider(
    model: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    texts: Sequence[str],
    network: tuple[np.ndarray, np.ndarray],
    features: Callable[[Sequence[str]], Tensor],
    canvas: tuple[int, int],
    size: tuple[int, int],
    image: Tensor,
) -> tuple[np.ndarray, np.ndarray]:
    """Give expressions that were grounded in an image the box that :func:`match` gives them: validation needs one each.

    Args:
        model: The network.
        encoded: The encoded image, one row.
        texts: The N expressions. One of several objects keeps its box.
        network: The network's boxes [N, 4] in pixels of the image, and its raw confidences [N].
        features: Returns the features of expressions.
        canvas: Height and width of the canvas.
        size: Width and height of the image.
        image: The image on its canvas, [bands, H, W] in 0..1.

    Returns:
        Boxes [N, 4] and raw confidences [N].
    """
    boxes, raw = network[0].copy(), network[1]
    calibration = calibration_of(model)
    before = raw if calibration is None else calibration(raw).astype(np.float32)
    conf = before.copy()
    words = model_vocabulary(model)
    read = {j: read_query(text, words) for j, text in enumerate(texts)}
    if model.channels != COLOUR_BANDS:
        read = {j: in_words(query) for j, query in read.items()}
    (own,) = queries_in(list(read.values()), image[None], encoded.extent[:1])
    read = dict(zip(read, own, strict=True))
    queries = {j: query for j, query in read.items() if query.reasoned and query.kind != "set"}
    cores = list(dict.fromkeys(core for query in queries.values() for core in query.cores))
    if not cores:
        return network
    (search,) = candidates(model, encoded, features(cores).to(encoded.extent.device), canvas, [size], SEARCHED)
    found = {core: _without_duplicates(*own, OVERLAP) for core, own in zip(cores, search, strict=True)}
    found = with_colours(queries.values(), found, image, encoded.extent[0], size)
    for j, query in queries.items():
        mine = Detections(boxes[j : j + 1], conf[j : j + 1], np.zeros(1, np.int64))
        best = _single(query, mine, found, size, 1)
        boxes[j], conf[j] = best.boxes[0], best.confidence[0]
    return boxes, np.where(conf == before, raw, conf if calibration is None else calibration.raw(conf))


@lru_cache
def _say_gray(text: str) -> None:
    """Say once for an expression that an image has no colours."""
    LOGGER.info(f'"{text}": {NO_HUES}; said once')


def with_colours(
    queries: Iterable[ObjectQuery], found: dict[str, Found], image: Tensor, extent: Tensor, size: tuple[int, int]
) -> dict[str, Found]:
    """Measure the colours that queries name, of the objects that they are searched among.

    Args:
        queries: The queries.
        found: The objects of each core.
        image: The image on its canvas, [3, H, W] RGB in 0..1.
        extent: [4], of the image in the canvas.
        size: Width and height of the image.

    Returns:
        The objects, with their colours.
    """
    wanted: dict[str, set[str]] = {}
    every = list(queries)
    while every:
        query = every.pop()
        every += query.reference
        if query.colour and query.core in found:
            wanted.setdefault(query.core, set()).add(query.colour)
    if not wanted:
        return found
    pixels = _pixels(image)
    shares, (height, width) = extent.float().cpu().numpy(), pixels.shape[:2]
    for core, colours in wanted.items():
        boxes = to_canvas(np.asarray(found[core].boxes, np.float32), size, shares) * np.tile((width, height), 2)
        found[core] = found[core]._replace(colours={c: how_coloured(pixels, boxes, c) for c in sorted(colours)})
    return found


def _columns(found: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.boxes, found.confidence, found.expression


def _without_duplicates(boxes: np.ndarray, conf: np.ndarray, overlap: float) -> Found:
    """Suppress overlapping boxes."""
    kept = distinct_boxes(boxes, conf, overlap)
    return Found(boxes[kept], conf[kept])


def _taken(found: Found, index: np.ndarray, score: np.ndarray) -> Detections:
    """Return some of the objects found, with their scores as confidences."""
    boxes = np.asarray(found.boxes, np.float32)[index]
    return Detections(boxes, np.asarray(score, np.float32), np.zeros(len(boxes), np.int64))


def _set(
    query: ObjectQuery, found: dict[str, Found], size: tuple[int, int], conf: float, most: int | None
) -> Detections:
    """Return the objects of an expression of several."""
    index, score = chosen(query, found, size, conf)
    return _taken(found[query.core], index[:most], score[:most])


def _single(
    query: ObjectQuery, network: Detections, found: dict[str, Found], size: tuple[int, int], most: int
) -> Detections:
    """Return the box of an expression of one object: that of the better witness of its kind."""
    sure = float(network.confidence.max(initial=0.0))
    found = {core: own.kept(own.conf >= LEAST) for core, own in found.items()}
    score = weigh(query, found, size)
    best = float(score.max(initial=0.0))
    kind = "colour" if query.colour and query.kind == "superlative" else query.kind
    wins = best >= CHOICE_FIRST[kind] or (best > sure and kind != "ordinal")
    if sure >= NETWORK_FIRST[kind] or not wins:
        none = kind == "ordinal" or without_colour(query, found)
        conf = np.minimum(network.confidence, np.float32(NO_SUCH if none else 1))
        return Detections(network.boxes, conf, network.expression.copy())
    ranked = np.argsort(-score, kind="stable")[:most]
    return _taken(found[query.core], ranked, score[ranked])
