"""Objects that an image shows and that have no box."""

from __future__ import annotations

import numpy as np

from optisar_yolo.language.verify import LabelledObjects


def test_an_object_without_a_box_leaves_open_what_it_could_change() -> None:
    boxes, size = np.array([[10, 10, 40, 40], [200, 10, 240, 40], [300, 200, 380, 280]]), (400, 300)
    names = ["sar ship", "sar ship", "sar bridge"]
    known, open_ = LabelledObjects(boxes, names, size), LabelledObjects(boxes, names, size, unlisted=["sar ship"])
    assert known.truth("The leftmost ship", 0) is True and open_.truth("The leftmost ship", 0) is None
    assert known.truth("The rightmost ship", 0) is False and open_.truth("The rightmost ship", 0) is False
    assert known.truth("The bridge", 2) is open_.truth("The bridge", 2) is True
    assert known.false_of_all("The ship at the bottom") and not open_.false_of_all("The ship at the bottom")
    assert known.singles_out("The leftmost ship", 0) and not open_.singles_out("The leftmost ship", 0)
    assert LabelledObjects(boxes, names, size, unlisted=[""]).truth("The bridge", 2) is None
