"""Finds the YAML files that travel with the package: network descriptions (`cfg`) and dataset configs (`datasets`).

A wheel carries both folders inside the package; in a checkout (an editable install) they stand beside it.
"""

from __future__ import annotations

from pathlib import Path

KINDS = ("cfg", "datasets")
_PACKAGE = Path(__file__).resolve().parents[1]


def packaged_folder(kind: str) -> Path:
    """Return the folder that holds the packaged files of one kind.

    Args:
        kind: ``"cfg"`` or ``"datasets"``.

    Returns:
        An existing folder.

    Raises:
        ValueError: ``kind`` is not one of the two.
        FileNotFoundError: The installation lacks the folder.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of resource '{kind}': expected one of {', '.join(KINDS)}")
    inside = _PACKAGE / kind
    if inside.is_dir():
        return inside
    # Only a checkout has pyproject.toml beside the package. Without this test, an installed package would take
    # site-packages/datasets (a well-known package of another project) for ours.
    beside = _PACKAGE.parent / kind
    if beside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return beside
    raise FileNotFoundError(
        f"the folder '{kind}' is missing from this installation of optisar-yolo ({inside}): reinstall it"
    )


def packaged_names(kind: str) -> list[str]:
    """List the packaged YAML files of one kind, as paths relative to their folder, sorted."""
    root = packaged_folder(kind)
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.yaml"))


def find_packaged(kind: str, name: str) -> Path:
    """Find one packaged file.

    Args:
        kind: ``"cfg"`` or ``"datasets"``.
        name: A path relative to the folder (``"models/optisar++.yaml"``) or a bare name (``"optisar++.yaml"``); the
            suffix ``.yaml`` may be left out.

    Returns:
        The file's path.

    Raises:
        FileNotFoundError: No such file, or a bare name that several folders hold; the message lists what there is.
    """
    wanted = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    known = packaged_names(kind)
    matches = [n for n in known if n == wanted] or [n for n in known if Path(n).name == wanted]
    if len(matches) == 1:
        return packaged_folder(kind) / matches[0]
    if matches:
        raise FileNotFoundError(f"'{name}' is ambiguous among the packaged {kind}: {', '.join(matches)}")
    raise FileNotFoundError(f"'{name}' is not among the packaged {kind}: {', '.join(known) or 'none'}")
