"""Exchanges that the wording proves false: which words are exchanged, and which are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optisar_yolo.language.exchanges import CONTRASTS, contrasts
from optisar_yolo.language.nouns import Vocabulary

NATURAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "natural"


@pytest.mark.parametrize(
    ("text", "kind", "made"),
    [
        ("the second ship from the left", "ordinal", {"the first ship from the left", "the third ship from the left"}),
        ("First plane from the top", "ordinal", {"Second plane from the top"}),
        ("the tenth car from the bottom", "ordinal", {"the ninth car from the bottom"}),
        ("the 3rd largest tank", "ordinal", {"the 2nd largest tank", "the 4th largest tank"}),
        ("the second leftmost ship", "ordinal", {"the first leftmost ship", "the third leftmost ship"}),
        ("the third white plane from the right", "ordinal", {
            "the second white plane from the right", "the fourth white plane from the right"}),
        ("the ship to the left of the pier", "landmark", {"the ship to the right of the pier"}),
        ("The car above the large red roof", "landmark", {"The car below the large red roof"}),
        ("court on the right side of the road", "landmark", {"court on the left side of the road"}),
        ("the pylon further up than the lake", "landmark", {"the pylon further down than the lake"}),
        ("the dark ship at the quay", "shade", {"the bright ship at the quay"}),
        ("Bright rooftop pool", "shade", {"Dark rooftop pool"}),
    ],
)  # fmt: skip
def test_what_is_exchanged(text: str, kind: str, made: set[str]) -> None:
    found = contrasts(text)
    assert {v.text for v in found if v.kind == kind} == made
    assert {v.kind for v in found} == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "the ship in the first dock",  # no order
        "the ship near the second pier on the left",
        "the ship to the left of a pier",  # there may be another pier
        "the ship to the left of the two piers",
        "the ship left of the piers",
        "the ship to the left of the pier and above the crane",
        "the car under the bridge",
        "the ship between the left pier and the right pier",
        "the ship to the left of the dark pier that is not the second ship from the left",
        "no ship to the left of the pier",
        "the plane beside the dark hangar",  # the hangar may have a twin
        "the leftmost ship",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert contrasts(text) == ()


def test_words_within_names_stay() -> None:
    vocabulary = Vocabulary.of(["optical dark hangar", "optical second row seat"])
    assert contrasts("the dark hangar", vocabulary) == ()
    assert [v.text for v in contrasts("the first dark hangar from the left", vocabulary)] == [
        "the second dark hangar from the left"
    ]


def test_natural_expressions_have_them() -> None:
    if not NATURAL.is_dir():
        pytest.skip(f"no {NATURAL}")
    notes = json.loads((NATURAL / "train.json").read_text(encoding="utf-8"))["annotations"]
    texts = [note["caption"] for note in notes]
    made = {text: contrasts(text) for text in texts}
    counts = {kind: sum(any(v.kind == kind for v in found) for found in made.values()) for kind in CONTRASTS}
    assert all(n >= 15 for n in counts.values()), counts
    for text, found in made.items():
        assert all(v.text != text and len(v.text.split()) == len(text.split()) for v in found), text
