"""The page that lists every option of every verb, written from their declarations.

``python -m optisar_yolo.commands.reference`` writes docs/options.md of a checkout; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from optisar_yolo.commands.main import MODES, VERBS, commands_of, module_of
from optisar_yolo.plugin import keys_of_mode
from optisar_yolo.utils import Command, write_atomic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"

HEAD = """# Options

Every verb takes `key=value` words. `optisar VERB --help` prints the same lists. True may be written `True`, `1`, `yes`
or `on`, and False `False`, `0`, `no` or `off`. `python -m optisar_yolo.commands.reference` writes this page.

## Modes of Ultralytics

These keys stand beside [those of Ultralytics](https://docs.ultralytics.com/usage/cfg).
"""


def markdown() -> str:
    """Return the page."""
    parts = [HEAD]
    for mode, text in MODES.items():
        if keys := keys_of_mode(mode):
            parts.append(_section(f"optisar {mode}", text, Command(mode, text, keys)))
    parts.append("## Own verbs\n")
    for verb in VERBS:
        commands = list(commands_of(verb).values())
        if len(commands) > 1 and len({c.options for c in commands}) == 1:  # one table serves all
            parts.append(_section(f"optisar {verb}", module_of(verb).HELP, commands[0]))
            continue
        parts += [_section(f"optisar {command.name}", command.help, command) for command in commands]
    return "\n".join(parts)


def _section(title: str, text: str, command: Command) -> str:
    """Return the heading, the purpose, an example and the table of one verb."""
    lines = [f"### {title}", "", f"{text[0].upper()}{text[1:]}.", ""]
    if command.example:
        lines += ["```bash", f"optisar {command.name} {command.example}", "```", ""]
    if command.options:
        lines += [command.table(), ""]
    if command.training:
        lines += ["All settings of a training are accepted too.", ""]
    return "\n".join(lines)


def main() -> None:
    """Write the page of this checkout."""
    write_atomic(PAGE, markdown())
    print(PAGE)


if __name__ == "__main__":
    main()
