"""Options: what is read, what is refused, and what the tables say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from optisar_yolo.utils import Command, Option, SettingError, UsageError, check_options, option, options_of
from optisar_yolo.utils.options import read_texts, split_words

NUMBER = Option("epochs", "int", 3, "rounds", low=1, high=9)
SHARE = Option("conf", "float", None, "threshold", low=0, high=1)
TOPK = Option("topk", "int", 1, "boxes", low=1, words=("all",))
BANDS = Option("bands", "ints", None, "bands", low=1, counts=(1, 3))
PLOTS = Option("plots", "bool", False, "draw")
VERIFY = Option("verify", "name", "drop", "captions", choices=("drop", "keep"))
TEXT = Option("text", "texts", None, "expressions")
SWAPS = Option("swap_kinds", "weights", "size:1", "swaps", choices=("size", "colour"))


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        (NUMBER, "5", 5),
        (SHARE, "0.25", 0.25),
        (SHARE, "None", None),
        (TOPK, "ALL", "all"),
        (BANDS, "4,3,2", (4, 3, 2)),
        (BANDS, "[7]", (7,)),
        *((PLOTS, word, True) for word in ("True", "1", "yes", "on")),
        *((PLOTS, word, False) for word in ("false", "0", "NO", "off")),
        (VERIFY, "keep", "keep"),
        (TEXT, "the ship, and more", "the ship, and more"),
        (TEXT, "['the ship', 'the tower']", ["the ship", "the tower"]),
        (SWAPS, "size:2,colour:0.5", "size:2,colour:0.5"),
    ],
)
def test_typed_values_are_read(declared: Option, text: str, value: object) -> None:
    assert declared.parse(text) == value


@pytest.mark.parametrize(
    ("declared", "text", "message"),
    [
        (NUMBER, "2.5", "epochs=2.5: it must be a whole number from 1 to 9, for example epochs=3"),
        (NUMBER, "10", "'epochs=10' is not valid: it must be a whole number from 1 to 9"),
        (SHARE, "0,5", "conf=0,5: it must be a number from 0 to 1"),
        (SHARE, "nan", "'conf=nan' is not valid"),
        (TOPK, "some", "it must be a whole number of at least 1, or all"),
        (BANDS, "1,2", "it must be 1 or 3 whole numbers with commas"),
        (PLOTS, "maybe", "plots=maybe: it must be True or False"),
        (VERIFY, "both", "it must be one of drop, keep"),
        (TEXT, "[the ship, the tower]", "several expressions are written as a list of quoted texts"),
        (TEXT, "['the ship'", "several expressions are written as a list of quoted texts"),
        (SWAPS, "shape:1", "it must be pairs like size:2 with commas, of size, colour"),
    ],
)
def test_values_that_mean_nothing_are_refused(declared: Option, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        declared.parse(text)
    assert message in str(caught.value)


def test_whole_numbers_may_be_floats_and_truth_is_no_number() -> None:
    assert NUMBER.check(4.0) == 4 and isinstance(NUMBER.check(4.0), int)
    for value in (True, 4.5, "4", math.inf):
        with pytest.raises(SettingError):
            NUMBER.check(value)


@dataclass(frozen=True)
class Limits:
    """Options as fields."""

    conf: float | None = option(None, "float", "threshold", low=0, high=1)
    batch: int = option(8, "int", "images at once", low=1)
    folder: str = "unlisted"


def test_fields_of_a_dataclass_are_options() -> None:
    assert [(o.name, o.default) for o in options_of(Limits)] == [("conf", None), ("batch", 8)]
    checked = Limits(batch=4.0)  # type: ignore[arg-type]
    check_options(checked)
    assert checked.batch == 4 and isinstance(checked.batch, int)
    with pytest.raises(SettingError, match=r"'conf=2' is not valid: it must be a number from 0 to 1"):
        check_options(Limits(conf=2))


def test_a_command_lists_and_tabulates_its_options() -> None:
    command = Command("grow", "let it grow", (NUMBER, VERIFY, TOPK), first="epochs", example="epochs=2")
    page = command.page()
    assert page.startswith("optisar grow [epochs] key=value …\n\nlet it grow\n\n  optisar grow epochs=2")
    assert "  epochs  int        rounds (default: 3)" in page
    rows = command.table().splitlines()
    assert rows[2] == "| `epochs` | int | `3` | rounds |" and "drop \\| keep" in rows[3] and len(rows) == 5
    assert command.parse(["7", "topk=all"]) == {"epochs": 7, "verify": "drop", "topk": "all"}
    assert command.values({"epochs": 2})["epochs"] == 2  # from YAML or Python
    with pytest.raises(UsageError, match="'epochs=0' is not valid"):
        command.values({"epochs": 0})


def test_words_without_quotes_are_recognised() -> None:
    with pytest.raises(UsageError, match='needs quotes: text="the ship"'):
        split_words(["text=the", "ship"])


@pytest.mark.parametrize("text", ["[" * 5000, "[1, 2]", "[open('x')]"])
def test_lists_of_anything_else_are_refused(text: str) -> None:
    with pytest.raises(SettingError):
        read_texts(text)


@pytest.mark.parametrize(
    "text", ["(the ship, the tower)", "{the ship}", "(the ship)", "the ship]", "'the ship", '"it', 'it"']
)
def test_halves_of_lists_and_quotations_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="is not valid: an expression has no brackets"):
        read_texts(text)


@pytest.mark.parametrize(
    "text", ["the ship (left)", "(the) ship", "the ships' pier", 'the ship "Alpha"', "the ship, the one on the left"]
)
def test_brackets_and_quotations_within_an_expression_are_read(text: str) -> None:
    assert read_texts(text) == text
