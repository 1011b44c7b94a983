"""Pack the plugin as QGIS installs it from a ZIP: ``python integrations/qgis/make_zip.py [FOLDER]``."""

from __future__ import annotations

import configparser
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLUGIN = "optisar_grounding"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same archive


def make_zip(folder: Path) -> Path:
    """Write the archive, with the licence of the repository, and return its path."""
    about = configparser.ConfigParser(interpolation=None)
    about.read(HERE / PLUGIN / "metadata.txt", encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PLUGIN}-{about['general']['version']}.zip"
    files = {file.name: file for file in sorted((HERE / PLUGIN).iterdir()) if file.suffix in (".py", ".txt")}
    files["LICENSE"] = HERE.parents[1] / "LICENSE"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.writestr(zipfile.ZipInfo(f"{PLUGIN}/{name}", EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


if __name__ == "__main__":
    print(make_zip(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "dist"))
