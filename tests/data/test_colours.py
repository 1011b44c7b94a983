"""How much of a colour objects have."""

import cv2
import numpy as np
import pytest

from optisar_yolo.data import has_hues, how_coloured

SHOWN = {
    "red": (200, 30, 40), "orange": (240, 130, 20), "yellow": (235, 220, 40), "green": (40, 150, 60),
    "blue": (40, 80, 200), "purple": (140, 40, 170), "brown": (120, 75, 40), "white": (245, 245, 240),
    "black": (20, 22, 25),
}  # fmt: skip
GROUND = (128, 124, 118)


def painted(colours: list[tuple[int, int, int]], noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Squares side by side on gray ground, RGB, and their boxes."""
    image = np.full((40, 40 * len(colours), 3), GROUND, np.uint8)
    boxes = np.array([[40 * i + 10, 10, 40 * i + 30, 30] for i in range(len(colours))], float)
    for (x1, y1, x2, y2), colour in zip(boxes.astype(int), colours, strict=True):
        image[y1:y2, x1:x2] = colour
    if noise:
        image = np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    return image, boxes


@pytest.mark.parametrize("noise", [0.0, 8.0])
@pytest.mark.parametrize("colour", list(SHOWN))
def test_the_object_of_the_colour_has_most_of_it(colour: str, noise: float) -> None:
    image, boxes = painted(list(SHOWN.values()), noise)
    shares = how_coloured(image, boxes, colour)
    own = list(SHOWN).index(colour)
    assert shares.shape == (len(boxes),) and shares.argmax() == own and shares[own] > 0.4
    assert ((shares >= 0) & (shares <= 1)).all()
    others = np.delete(shares, own)
    assert others.max() < (0.75 if colour in ("orange", "red", "brown", "yellow") else 0.35) * shares[own]


def test_a_thin_object_in_its_box_counts_by_its_own_pixels() -> None:
    image, boxes = painted([GROUND, GROUND])
    cv2.line(image, (52, 12), (68, 28), SHOWN["blue"], 3)
    shares = how_coloured(image, boxes, "blue")
    assert shares[1] > 0.5 and shares[0] == 0


def test_boxes_at_the_border_and_of_no_pixel() -> None:
    image, _ = painted([SHOWN["red"]])
    boxes = np.array([[-20, -20, 60, 60], [5, 5, 5, 5], [39, 39, 60, 60], [100, 100, 120, 120]], float)
    shares = how_coloured(image, boxes, "red")
    assert shares[0] > 0.4 and shares[1] == 0 and shares[3] == 0
    assert how_coloured(image, np.zeros((0, 4)), "red").shape == (0,)


def test_an_image_of_a_radar_has_no_hues() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8).repeat(3, 2)
    assert not has_hues(gray) and has_hues(painted([SHOWN["red"]])[0])


def test_large_boxes_are_sampled() -> None:
    """Hundreds of large boxes would take seconds otherwise; the degree stays that of all pixels."""
    image = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    image[300:600, 300:600] = SHOWN["red"][::-1]
    boxes = np.array([[0, 0, 900, 900]], float)
    sampled = how_coloured(image, boxes, "red")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optisar_yolo.data.colours.SAMPLES", 10**6)
        assert abs(how_coloured(image, boxes, "red") - sampled).max() < 0.02
