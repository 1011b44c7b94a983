"""Build hook: what an editable install puts on the path.

The path of an editable install gets ``packaging/editable``, a folder with a link to the package alone. With the
checkout itself on the path, its folders ``datasets`` and ``cfg`` would be importable and stand in the way of packages
of those names. With an import hook in its place, type checkers and editors would not find the package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableLink(BuildHookInterface):
    """Makes the folder with the link when an editable install is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Link the package, and replace a link that leads elsewhere."""
        if version != "editable":
            return
        package, link = Path(self.root, "optisar_yolo"), Path(self.root, "packaging", "editable", "optisar_yolo")
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() or link.exists():
            if link.resolve() == package.resolve():
                return
            os.unlink(link)
        try:
            os.symlink(os.path.relpath(package, link.parent), link, target_is_directory=True)
        except OSError:  # Windows lets only administrators make links, but anybody junctions
            import _winapi

            _winapi.CreateJunction(str(package), str(link))  # type: ignore[attr-defined]
