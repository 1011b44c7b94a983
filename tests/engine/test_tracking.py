"""Objects of expressions through a video: identities that stay, each expression on its own."""

import sys

import cv2
import numpy as np
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic.render import render_image
from optisar_yolo.utils import BUNDLED_MODEL, MissingExtraError
from optisar_yolo.visualize import PALETTE, GroundingResults

pytest.importorskip("lap")
pytestmark = pytest.mark.timeout(300)
PORT = render_image(seed=0, split="test", number=2)["img"]
LARGEST, TOP = "the largest ship", "the ship closest to the top of the image"
FRAMES = 5
FAR = (4, 2)  # pixels that everything moves by in a frame


@pytest.fixture(scope="module")
def model():
    return OptiSAR(BUNDLED_MODEL)


def frames(count=FRAMES):
    """Return frames in which all moves to the right and down."""
    h, w = PORT.shape[:2]
    move = [np.float32([[1, 0, FAR[0] * t - 14], [0, 1, FAR[1] * t - 7]]) for t in range(count)]
    return [cv2.warpAffine(PORT, m, (w, h), borderMode=cv2.BORDER_REFLECT) for m in move]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "port.avi"
    h, w = PORT.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (w, h))
    for frame in frames():
        writer.write(frame)
    writer.release()
    return path


def identities(results, expression):
    """Return the identity of an expression's box in each frame; None where it has none."""
    out = []
    for r in results:
        rows = np.flatnonzero(r.boxes.cls.numpy() == expression)
        assert len(rows) <= 1
        out.append(int(r.boxes.id[rows[0]]) if len(rows) and r.boxes.id is not None else None)
    return out


@pytest.mark.parametrize("tracker", ["botsort.yaml", "ocsort.yaml"])
def test_identities_stay_while_objects_move(model, video, tracker):
    results = model.track(video, text=[LARGEST, TOP], tracker=tracker, verbose=False)
    assert len(results) == FRAMES
    seen = [identities(results, j)[2:] for j in (0, 1)]  # some trackers confirm a track after some frames
    assert [len(set(s)) for s in seen] == [1, 1] and None not in seen[0] + seen[1] and seen[0] != seen[1]
    first, last = (r.boxes.xyxy[r.boxes.cls == 0][0].numpy() for r in (results[2], results[-1]))
    moved = (last - first).reshape(2, 2).mean(0)
    assert np.abs(moved - np.array(FAR) * (FRAMES - 3)).max() < 5  # the box goes with the ship
    assert results[0].names == {0: LARGEST, 1: TOP}


def test_two_expressions_of_one_object_keep_their_boxes_and_identities(model, video):
    texts = [LARGEST, "the largest ship in the image"]
    results = model.track(video, text=texts, tracker="bytetrack.yaml", verbose=False)
    one, two = identities(results, 0), identities(results, 1)
    assert len(set(one)) == len(set(two)) == 1 and None not in one + two and one != two


def test_a_video_starts_to_count_at_one_and_a_second_one_too(model, video):
    for _ in range(2):
        (result, *_) = model.track(video, text=[LARGEST, TOP], verbose=False)
        assert sorted(result.boxes.id.tolist()) == [1, 2]


def test_frames_one_by_one_with_persist(model):
    seen = [model.track(f, text=[LARGEST, TOP], persist=True, verbose=False)[0] for f in frames(4)]
    assert len(set(identities(seen, 0))) == 1 and None not in identities(seen, 0)
    other = model.track(frames(5)[-1], text=[TOP, LARGEST], persist=True, verbose=False)  # in another order
    assert identities(other, 1) == identities(seen[-1:], 0) and identities(other, 0) == identities(seen[-1:], 1)


def test_a_stream_yields_the_same(model, video):
    streamed = [r.boxes.data.numpy() for r in model.track(video, text=LARGEST, stream=True, verbose=False)]
    listed = [r.boxes.data.numpy() for r in model.track(video, text=LARGEST, verbose=False)]
    assert all(np.array_equal(a, b) for a, b in zip(streamed, listed, strict=True))


def test_nothing_is_tracked_that_predict_would_not_show(model, video):
    text = "the transmission tower at the top"  # there is none
    frame = frames()[0]
    assert not len(model.predict(frame, text=text, verbose=False)[0].boxes)
    assert len(model.predict(frame, text=text, conf=0.0, verbose=False)[0].boxes)
    results = model.track(video, text=text, verbose=False)
    assert all(r.boxes.id is None or not len(r.boxes) for r in results)


def test_predict_after_track_is_as_before(model, video):
    frame = frames()[0]
    before = model.predict(frame, text=LARGEST, verbose=False)[0].boxes.data
    model.track(video, text=LARGEST, verbose=False)
    after = model.predict(frame, text=LARGEST, verbose=False)[0].boxes
    assert after.id is None and np.array_equal(after.data, before)


def test_a_tracker_that_needs_a_detector_is_refused(model, video):
    with pytest.raises(ValueError, match="tracktrack.yaml.*botsort.yaml"):
        model.track(video, text=LARGEST, tracker="tracktrack.yaml", verbose=False)


def test_a_missing_package_is_named_and_not_installed(model, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "lap", None)
    with pytest.raises(MissingExtraError, match=r"tracking needs the package lap.*optisar-yolo\[track\]"):
        model.track(video, text=LARGEST)


def test_tracked_boxes_are_named_and_drawn_with_their_own_expression(model, video, tmp_path, log):
    texts = ["the tennis court", "all ships"]  # the first means nothing here
    results = model.track(video, text=texts, save=True, save_frames=True, project=tmp_path, name="x")
    for result in results[2:]:
        tracked = result.boxes
        assert tracked.is_track and len(tracked) > 2 and set(tracked.cls.tolist()) == {1}
        confs = tracked.conf.tolist()
        assert result.verbose() == f'"all ships" {len(confs)} found, {max(confs):.2f} to {min(confs):.2f}, '
        assert result.rows.shape == (len(confs), 6) and np.array_equal(result.rows[:, 5], tracked.cls.numpy())
        drawn = result.plot()[: PORT.shape[0]].astype(int)
        wrong, own = (np.array([int(PALETTE[j][i : i + 2], 16) for i in (5, 3, 1)]) for j in (0, 1))
        assert (np.abs(drawn - own).max(-1) < 3).sum() > 100
        assert not (np.abs(drawn - wrong).max(-1) < 3).any(), "a box in the colour of another expression"
    assert '"the tennis court" ' not in "".join(line for line in log.text.splitlines() if "found, " in line)


def test_a_saved_video_has_all_frames_also_where_legends_differ(model, video, tmp_path, monkeypatch):
    whole = model.track(video, text=["all ships"], save=True, project=tmp_path, name="plain", verbose=False)
    heights = iter([0, 40, 0, 20, 0])
    plot = GroundingResults.plot

    def uneven(self, **keys):
        return np.pad(plot(self, **keys), ((0, next(heights)), (0, 0), (0, 0)))

    monkeypatch.setattr(GroundingResults, "plot", uneven)
    model.track(video, text=["all ships"], save=True, project=tmp_path, name="uneven", verbose=False)
    for name in ("plain", "uneven"):
        opened = cv2.VideoCapture(str(next((tmp_path / name).glob("*.avi"))))
        count = 0
        while opened.read()[0]:
            count += 1
        assert count == len(whole) == FRAMES, name
