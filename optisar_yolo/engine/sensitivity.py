"""Does the model heed the words? True expressions against the same ones with a word exchanged.

For each expression that has one, a reworded expression per kind of word (orientation, modality, size, …) is drawn,
seeded by image and caption, from those that boxes and caption prove false of the expression's object. An expression
that the boxes contradict is left out: where its words cannot be read, its rewording cannot be judged. Three questions
are
answered:

* Discrimination: does the true expression score higher than the false one *at the true box*? An expression's score
there is
  the highest logit over a set of anchors that both share: those whose box has IoU >= 0.5 with the true box under either
  wording; where there are none, those whose centre lies in the true box (at least the nearest one). Ties count half, so
  that a model that ignores words gets 0.5.
* Listening: for each *hard* expression (another object of its category is in the image) that names a direction, does
  the true wording find a box of higher IoU than the wording with left and right, or top and bottom, exchanged? Asked of
  the unchanged image; ties, also of two boxes that both miss, count half. An expression counts once, with the mean
  over its one or two exchanges. The exchanged wording is not compared with the boxes: where it stays true, as for a
  ship in the middle, this draws the figure towards 0.5.
* Rejection: of expressions proven false of *every* labelled object, how many get an answer at the threshold in use
(false
  alarms), and how many of the true ones that they were made from get a right one (IoU >= 0.5)? The area under the ROC
  curve compares the two groups' confidences without a threshold.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.utils.tal import make_anchors

from optisar_yolo.data import ImageRecord, to_canvas, to_image
from optisar_yolo.engine.calibrate import RIGHT
from optisar_yolo.engine.grounding import CanvasImages, ExportedNetwork, KnownExpressions, ground, outputs
from optisar_yolo.engine.metrics import is_hard, overlap
from optisar_yolo.engine.wordscore import WordScores
from optisar_yolo.language import KINDS, LabelledObjects, flip, swap, verdicts_of
from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.text import TextBank

MIRROR = "mirror"  # kind of an expression with a direction exchanged throughout


class ProbeExpression(NamedTuple):
    """An expression to compare an expression with.

    Attributes:
        text: The expression.
        kind: Kind of the exchanged word, or `MIRROR`.
        here: Proven false of the expression's object: asked at its box.
        absent: Proven false of every labelled object: nothing should be found.
        fit: The one absent expression of the expression that a calibration is fitted on.
    """

    text: str
    kind: str
    here: bool = False
    absent: bool = False
    fit: bool = False


class Reading(NamedTuple):
    """What an expression finds: its best box, and its scores around the true box.

    Attributes:
        box: [4] xyxy on the canvas.
        conf: Raw confidence.
        logits: [A], or None where only the best box is known.
        near: bool [A], the anchor's box has IoU >= 0.5 with the true one.
        inside: bool [A], the anchor's centre lies in the true box, or is the nearest to it.
    """

    box: np.ndarray
    conf: float
    logits: Tensor | None = None
    near: Tensor | None = None
    inside: Tensor | None = None


def probe_expressions(
    caption: str, index: int, scene: LabelledObjects, key: str, said: Sequence[str] = ()
) -> list[ProbeExpression]:
    """Choose what an expression is compared with: at most two expressions per kind of word, and two mirrored ones.

    Args:
        caption: The expression.
        index: Its object.
        scene: All labelled objects of its image.
        key: Seed of the choice.
        said: All expressions of the image: none of them is false, whatever the boxes say.

    Returns:
        The expressions; empty where no word can be exchanged.
    """
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    chosen: list[ProbeExpression] = []
    kinds = KINDS if scene.verdict(caption, index) is not False else ()
    for kind in kinds:
        judged = {v.text: verdicts_of(v, caption, [index], scene) for v in swap(caption, [kind]) if v.text not in said}
        false = [t for t, verdicts in judged.items() if verdicts[index] is False]
        if not false:
            continue
        absent = [t for t in false if all(v is False for v in judged[t])]
        here = false[int(rng.integers(len(false)))]
        chosen.append(ProbeExpression(here, kind, here=True, absent=here in absent))
        if absent and here not in absent:
            chosen.append(ProbeExpression(absent[int(rng.integers(len(absent)))], kind, absent=True))
    if usable := [i for i, q in enumerate(chosen) if q.absent]:
        i = usable[int(rng.integers(len(usable)))]
        chosen[i] = chosen[i]._replace(fit=True)
    mirrored = (flip(caption, horizontal=h, vertical=not h) for h in (True, False))
    return chosen + [ProbeExpression(t, MIRROR) for t in mirrored if t is not None and t != caption]


def margin(true: Reading, false: Reading) -> float:
    """Return by how much the true expression scores higher at the true box; NaN where only best boxes are known."""
    if true.logits is None or true.near is None or true.inside is None or false.logits is None or false.near is None:
        return math.nan
    near = true.near | false.near
    where = near if bool(near.any()) else true.inside
    return float(true.logits[where].max() - false.logits[where].max())


def read(
    model: GroundingModel | ExportedNetwork,
    scene: Encoded | CanvasImages,
    rows: Tensor,
    texts: Tensor,
    targets: Tensor | None,
) -> list[Reading]:
    """Ask expressions.

    Args:
        model: The network.
        scene: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
        targets: [N, 4] true boxes, xyxy on the canvas, to read the scores around; None: best boxes alone.

    Returns:
        A reading per expression. An exported model gives best boxes alone.
    """
    if targets is None or isinstance(model, ExportedNetwork) or isinstance(scene, CanvasImages):
        boxes, confs = ground(model, scene, rows, texts)
        return [Reading(b, float(c)) for b, c in zip(_array(boxes[:, 0]), _array(confs[:, 0]), strict=True)]
    found: list[Reading] = []
    for part, preds in outputs(model, scene, rows, texts):
        best, conf = model.head.decode(preds)
        logits = preds["scores"][:, 0].float()  # [n, A]
        every = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
        boxes = model.head.boxes_at(preds, every)  # [n, A, 4]
        anchors, strides = make_anchors(preds["feats"], model.head.stride, 0.5)
        centres = anchors * strides  # [A, 2]
        for j, target in enumerate(targets[part]):
            near = box_iou(target[None], boxes[j])[0] >= RIGHT
            inside = ((centres >= target[:2]) & (centres <= target[2:])).all(1)
            inside[(centres - (target[:2] + target[2:]) / 2).square().sum(1).argmin()] = True
            found.append(Reading(_array(best[j, 0, 0]), float(conf[j, 0, 0]), logits[j], near, inside))
    return found


class Probe:
    """Asks the expressions of `probe_expressions` beside a validation and hands the answers to `WordScores`.

    Args:
        model: The network.
        bank: Its text encoder.
        names: Category names by index.
        device: Of the network's inputs.
        full: Ask all; otherwise only what a calibration is fitted on.

    Attributes:
        scores: What was found.
    """

    def __init__(
        self,
        model: GroundingModel | ExportedNetwork,
        bank: TextBank | KnownExpressions,
        names: Sequence[str],
        device: torch.device,
        full: bool = True,
    ) -> None:
        self.model, self.bank, self.names, self.device, self.full = model, bank, tuple(names), device, full
        self.scores = WordScores()

    def __call__(
        self,
        scene: Encoded | CanvasImages,
        row: int,
        image: ImageRecord,
        own: Sequence[tuple[int, int]],
        conf: np.ndarray,
        iou: np.ndarray,
        extent: np.ndarray,
        canvas: tuple[int, int],
    ) -> None:
        """Ask one image.

        Args:
            scene: Encoded images.
            row: Which of them.
            image: Its record.
            own: (object, number of the expression) of its N expressions.
            conf: [N] raw confidence of each expression's answer.
            iou: [N] IoU of each answer.
            extent: [4] of the image in its canvas.
            canvas: Height and width of the canvas.
        """
        size = (image.width, image.height)
        labelled = LabelledObjects(image.boxes, [self.names[c] for c in image.categories], size)
        said = [c for texts in image.captions for c in texts]
        hard = is_hard(image.categories)
        asked: list[tuple[int, ProbeExpression | None]] = []  # (expression, question); None: the expression itself
        for e, (o, n) in enumerate(own):
            caption = image.captions[o][n]
            wanted = probe_expressions(caption, o, labelled, f"{image.path.name}/{o}/{caption}", said)
            if not self.full:
                wanted = [q for q in wanted if q.fit]
            elif any(q.here for q in wanted):
                asked.append((e, None))
            asked += [(e, q) for q in wanted if q.kind != MIRROR or hard[o]]
        first = self.scores.add(conf, iou >= RIGHT, hard[[o for o, _ in own]])
        if not asked:
            return
        captions = [q.text if q else image.captions[own[e][0]][own[e][1]] for e, q in asked]
        boxes = np.stack([image.boxes[own[e][0]] for e, _ in asked])
        shares = to_canvas(boxes, size, extent)
        targets = torch.from_numpy(shares * np.tile(np.array(canvas[::-1], np.float32), 2)).to(self.device)
        rows = torch.full((len(asked),), row, device=self.device)
        texts = self.bank(captions).to(self.device)
        found = read(self.model, scene, rows, texts, targets if self.full else None)
        pred = to_image(np.stack([r.box for r in found]), size, extent, canvas)
        inter, union = overlap(pred, boxes, np.broadcast_to(np.array(size, float), (len(asked), 2)))
        true: Reading | None = None
        for (e, q), reading, reached in zip(asked, found, inter / union, strict=True):
            if q is None:
                true = reading
            elif q.kind == MIRROR:
                self.scores.mirror(first + e, float(iou[e]) - float(reached))
            else:
                gap = margin(true, reading) if q.here and true is not None else math.nan
                self.scores.pair(first + e, q.kind, gap, reading.conf if q.absent else math.nan, q.fit)


def _array(values: Tensor) -> Any:
    return values.float().cpu().numpy()
