"""The pages say what there is: links lead somewhere, command lines parse, Python compiles."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from ultralytics.cfg import MODES, merge_equals_args
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo.commands import reference
from optisar_yolo.commands.main import STOCK_WORDS, VERBS, commands_of
from optisar_yolo.plugin.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")) if p.is_file())
HOSTED = "../../actions/"  # where GitHub, seen from a page of the repository, shows the runs of the checks
STOCK = {*DEFAULT_CFG_DICT, *SETTINGS, "model", "cfg", "int8"}  # Ultralytics still takes int8 for quantize=8
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command line of a page."""

    page: str
    program: str
    words: list[str]


def code(page: Path, language: str) -> list[str]:
    """Return what stands in a page's code blocks of one language."""
    return [text for name, text in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands() -> list[Command]:
    """Return the command lines of all pages; `…` stands for whatever a user puts there."""
    found = []
    for page in PAGES:
        for line in "\n".join(code(page, "bash")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("optisar", "yolo"):
                found.append(Command(page.name, words[0], [w for w in words[1:] if w not in ("…", "&")]))
    return found


def known_keys(words: list[str]) -> set[str] | None:
    """Return the keys that a command takes, or None where its first words are no command."""
    first, second = (*words, "", "")[:2]
    if first in VERBS:
        if words == [first]:  # lists what there is
            return set()
        declared = commands_of(first)
        command = declared.get("") or declared.get(second)
        if command is None:
            return None
        keys = {name for option in command.options for name in (option.name, *option.old)}
        return keys | STOCK if command.training else keys
    return STOCK if first in (*MODES, *STOCK_WORDS, "help") else None


def faults(words: list[str]) -> list[str]:
    """Return the words of a command line that mean nothing."""
    words = merge_equals_args(words)
    keys = known_keys(words)
    if keys is None:
        return words[:2]
    return [w for w in words if "=" in w and w.split("=")[0] not in keys]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the pages are not part of this distribution")
def test_command_lines_of_the_pages_are_known() -> None:
    every = commands()
    assert len(every) > 60
    assert {c.words[0] for c in every if c.words} >= set(VERBS) - {"demo", "params", "distill", "import-weights"}
    assert not [(c.page, c.program, *bad) for c in every if c.words and (bad := faults(c.words))]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scene source=a.tif txt=ship", ["txt=ship"]),
        ("predict source=a.jpg topk=3 mozaic=1", ["mozaic=1"]),
        ("dataset write too=x jobs=2", ["too=x"]),
        ("datasets write", ["datasets", "write"]),
        ("dataset paint", ["dataset", "paint"]),
        ("export model=best.pt parts=True", []),
    ],
)
def test_wrong_command_lines_are_seen(line: str, words: list[str]) -> None:
    assert faults(shlex.split(line)) == words


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert target.startswith(("http", HOSTED)) or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.skipif(not reference.PAGE.exists(), reason="the pages are not part of this distribution")
def test_the_page_of_options_is_that_of_the_declarations() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.markdown(), (
        "python -m optisar_yolo.commands.reference"
    )


def test_every_page_is_in_the_index() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    pages = [
        p for p in docs.rglob("*.md") if p.name != "README.md" and "<!-- site: " not in p.read_text(encoding="utf-8")
    ]
    assert not [p.name for p in pages if f"({p.relative_to(docs).as_posix()})" not in index]


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    docs = ROOT / "docs"
    listed = set(re.findall(r"^[\w/-]+$", (docs / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {p.relative_to(docs).with_suffix("").as_posix() for p in docs.rglob("*.md")}
    assert listed == pages - {"index", "README"}


def test_python_of_the_pages_compiles() -> None:
    for page in PAGES:
        for text in code(page, "python"):
            compile(text, str(page), "exec")


def test_links_of_the_site_lead_to_pages_or_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx")
    docs = ROOT / "docs"
    monkeypatch.syspath_prepend(str(docs / "_ext"))
    import rooms

    pages = rooms.shown_pages(docs)
    assert pages[ROOT / "CHANGELOG.md"] == docs / "changelog.md"

    def linked(text: str, page: str = "ask.md") -> str:
        return rooms.with_links(text, (docs / page).parent, docs / page, pages, docs)

    assert linked("[a](../CHANGELOG.md#x)") == "[a](changelog.md#x)"
    assert linked("[a](../../CHANGELOG.md)", "tutorials/service.md") == "[a](../changelog.md)"
    assert linked("[a](../examples/quickstart.py)") == "[a](path:../examples/quickstart.py)"
    assert linked("[a](train.md#b) [c](https://d.org) [e](#f)") == "[a](train.md#b) [c](https://d.org) [e](#f)"
    assert linked("see [a](../cfg), not [b](../nowhere)") == "see a, not [b](../nowhere)"
    code = "```bash\n[a](../CHANGELOG.md)\n```"
    assert linked(code) == code
    shown = rooms.with_links("[a](results/x.md)", ROOT / "benchmarks", docs / "benchmarks.md", pages, docs)
    assert shown == "[a](results/x.md)"  # what does not exist is for Sphinx to report


def test_a_page_is_told_from_its_code() -> None:
    from page_code import blocks_of, check_install

    every = [b for page in PAGES for b in blocks_of(page)]
    assert {b.reason for b in every} > {None} and len(every) == sum(len(FENCE.findall(p.read_text())) for p in PAGES)
    check_install(["optisar-yolo[geo,serve]", "supervision"], "here")
    check_install(["."], "here")
    with pytest.raises(AssertionError, match="no extra"):
        check_install(["optisar-yolo[nothing]"], "here")
