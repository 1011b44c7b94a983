"""What a validation found, by check and gravity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optisar_yolo.data import EXAMPLES, Skips

LONGEST = 300  # characters of a record that are kept
LEVELS = ("error", "warning", "note")


@dataclass
class Findings:
    """Counts what each check found, with the first few records named.

    Attributes:
        strict: Warnings count as errors.
        skips: Counts and examples by gravity.
    """

    strict: bool = False
    skips: dict[str, Skips] = field(default_factory=lambda: {level: Skips() for level in LEVELS})

    def error(self, check: str, record: str) -> None:
        """Count something that makes the data set unusable or a comparison on it wrong."""
        self.skips["error"].add(check, record[:LONGEST])

    def warning(self, check: str, record: str) -> None:
        """Count something that should be looked at."""
        self.skips["warning"].add(check, record[:LONGEST])

    def note(self, check: str, record: str) -> None:
        """Count something worth knowing."""
        self.skips["note"].add(check, record[:LONGEST])

    @property
    def failed(self) -> bool:
        """Whether there are errors, or, if strict, warnings."""
        return bool(self.skips["error"].counts or (self.strict and self.skips["warning"].counts))

    def rows(self) -> list[dict[str, Any]]:
        """Return one record per check that found something: level, check, count, examples."""
        return [
            {"level": level, "check": check, "count": count, "examples": skips.examples[check][:EXAMPLES]}
            for level, skips in self.skips.items()
            for check, count in skips.counts.items()
        ]

    def lines(self) -> list[str]:
        """Return the table that is printed."""
        return [
            f"{'ERROR' if self.strict and r['level'] == 'warning' else r['level'].upper():<8}{r['count']:>8}  "
            f"{r['check']}: {'; '.join(r['examples'])}{'; ...' if r['count'] > len(r['examples']) else ''}"
            for r in self.rows()
        ]
