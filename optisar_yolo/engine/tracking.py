"""Tracking: the objects of expressions through a video, by Ultralytics' trackers.

1. Each expression has a tracker of its own. One tracker for all would take two expressions that mean the same object
   for duplicates of one box, drop one of them, or move its identity from one expression to the other.
2. Identities are unique over all expressions of a video, and start at 1.
3. A track starts at the confidence at which ``predict`` would show the box, and goes on at lower ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optisar_yolo.engine.calibrate import default_conf
from optisar_yolo.utils import need

TRACKER = "botsort.yaml"  # tracktrack.yaml, the default of newer versions of Ultralytics, needs raw boxes
START = "track_start"  # confidence at which tracks start, on its way from `OptiSAR.track` to the predictor


class ExpressionTrackers:
    """Takes the place of a tracker of Ultralytics, and holds one of them per expression.

    Args:
        tracker: A tracker that has seen nothing, which the others are made like.
        start: Lowest confidence at which a track starts; the tracker's own where it is higher, or where None.
    """

    def __init__(self, tracker: Any, start: float | None = None) -> None:
        self.kind, self.args = type(tracker), tracker.args
        if start is not None and hasattr(self.args, "new_track_thresh"):
            self.args.new_track_thresh = max(self.args.new_track_thresh, start)
        self.parts: dict[str, Any] = {}
        self.identities: dict[tuple[str, int], int] = {}  # of an expression's tracker to those of all
        self.texts: list[str] = []

    def expect(self, texts: Sequence[str]) -> None:
        """Say what the class indices of the detections mean from now on."""
        from ultralytics.trackers.basetrack import BaseTrack  # late: the package of trackers needs the extra `track`

        self.texts = list(texts)
        for text in self.texts:
            if text not in self.parts:
                # In some versions of Ultralytics a new tracker starts to count anew, also for those that are at work.
                count = BaseTrack._count
                self.parts[text] = self.kind(args=self.args)
                BaseTrack._count = count

    def update(self, found: Any, image: np.ndarray | None = None, feats: Any = None, **kwargs: Any) -> np.ndarray:
        """Follow the detections of a frame.

        Args:
            found: Ultralytics' boxes as arrays; ``cls`` is the index of the expression.
            image: The frame.
            feats: Features of the detections, where a tracker compares them.
            **kwargs: What else a tracker takes.

        Returns:
            Rows of x1, y1, x2, y2, identity, confidence, expression and index of the detection, by that index.
        """
        rows = []
        for j, text in enumerate(self.texts):
            mine = np.flatnonzero(np.asarray(found.cls) == j)
            own = None if feats is None else feats[mine]
            tracks = np.asarray(self.parts[text].update(found[mine], image, feats=own, **kwargs), float)
            if len(tracks):
                tracks[:, -1] = mine[tracks[:, -1].astype(int)]
                tracks[:, 4] = [
                    self.identities.setdefault((text, i), len(self.identities) + 1)
                    for i in tracks[:, 4].astype(int).tolist()
                ]
                rows.append(tracks)
        if not rows:
            return np.zeros((0, 8))
        both = np.concatenate(rows)
        return both[np.argsort(both[:, -1], kind="stable")]

    def reset(self) -> None:
        """Forget all tracks, and count from 1 again."""
        for part in self.parts.values():
            part.reset()
        self.identities = {}

    @property
    def tracked_stracks(self) -> list[Any]:
        """All tracks that are followed; Ultralytics asks whether some are not confirmed yet."""
        return [track for part in self.parts.values() for track in part.tracked_stracks]


def split_trackers(predictor: Any) -> None:
    """Give each expression a tracker of its own; call it when Ultralytics has made or kept its trackers."""
    texts = [predictor.args.text] if isinstance(predictor.args.text, str) else list(predictor.args.text)
    for i, tracker in enumerate(predictor.trackers):
        if hasattr(type(tracker), "compute_frame_extras"):
            raise ValueError(
                f"tracker={predictor.args.tracker}: it needs a detector's raw boxes, which grounding has not; use "
                "botsort.yaml, bytetrack.yaml, ocsort.yaml or fasttrack.yaml"
            )
        if not isinstance(tracker, ExpressionTrackers):
            predictor.trackers[i] = ExpressionTrackers(tracker, getattr(predictor, START, None))
        predictor.trackers[i].expect(texts)


def tracking_settings(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a call of ``track``: without ``conf``, tracks start at the threshold of the model.

    Args:
        model: The network.
        given: What the caller set.

    Raises:
        MissingExtraError: The extra ``track`` is not installed; Ultralytics would install it unasked.
    """
    need("lap")
    settings = {"tracker": TRACKER, **given}
    if settings.get("conf") is None:
        settings[START] = default_conf(model)
    return settings
