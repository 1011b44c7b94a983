"""A static page that lists images and tables. All text is escaped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from optisar_yolo.utils import write_atomic


@dataclass(frozen=True)
class Section:
    """One part of a page: a heading, a paragraph, a monospace table and images with captions; each may be empty."""

    heading: str
    text: str = ""
    table: str = ""
    images: Sequence[tuple[Path, str]] = ()


def write_index(folder: str | Path, title: str, sections: Sequence[Section]) -> Path:
    """Write index.html, a static page that lists images and tables.

    Args:
        folder: The page's folder; images are linked relative to it and should lie in it.
        title: Heading of the page.
        sections: Its parts, in order.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: An image does not exist.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    body = []
    for section in sections:
        body.append(f"<section>\n<h2>{escape(section.heading)}</h2>")
        body += [f"<p>{escape(section.text)}</p>"] if section.text else []
        body += [f"<pre>{escape(section.table)}</pre>"] if section.table else []
        figures = []
        for path, caption in section.images:
            if not Path(path).is_file():
                raise FileNotFoundError(f"{path}: image for {folder / 'index.html'} does not exist")
            link = escape(quote(Path(os.path.relpath(path, folder)).as_posix()))
            figures.append(
                f'<figure><a href="{link}"><img src="{link}" alt="{escape(caption)}" loading="lazy"></a>'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        body += ['<div class="images">', *figures, "</div>"] if figures else []
        body.append("</section>")
    page = _PAGE.substitute(title=escape(title), body="\n".join(body))
    return write_atomic(folder / "index.html", page)


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; padding: 0.8rem 1rem; border: 1px solid #8884; border-radius: 6px; line-height: 1.35; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; }
img { width: 100%; height: auto; border-radius: 6px; }
figcaption { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
