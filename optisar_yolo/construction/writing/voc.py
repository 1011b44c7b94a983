"""VOC XML with one object per expression, as DIOR-RSVG and OPT-RSVG have it: written here, and compared."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optisar_yolo.construction.samples import Instance
from optisar_yolo.construction.sources.voc import parse_xml
from optisar_yolo.construction.writing.coco import DECIMALS

Entry = tuple[str, tuple[float, float, float, float], str]
"""Name, box (xyxy in pixels) and description ("" where there is none) of one object of an XML file."""


@dataclass(frozen=True)
class VocImage:
    """What one XML file says.

    Attributes:
        size: (width, height) in pixels.
        objects: Its objects.
    """

    size: tuple[int, int]
    objects: tuple[Entry, ...]


def to_xml(file_name: str, source: str, size: tuple[int, int], objects: Sequence[Instance]) -> bytes:
    """Return an image's XML: one object per expression, and one without description where there is none."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = file_name
    ET.SubElement(ET.SubElement(root, "source"), "database").text = source
    sizes = ET.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ET.SubElement(sizes, tag).text = str(value)
    ET.SubElement(root, "segmented").text = "0"
    for item in objects:
        for caption in item.captions or [""]:
            element = ET.SubElement(root, "object")
            ET.SubElement(element, "name").text = item.category
            for tag, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
                ET.SubElement(element, tag).text = text
            corners = ET.SubElement(element, "bndbox")
            for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
                ET.SubElement(corners, tag).text = str(round(side, DECIMALS))
            if caption:
                ET.SubElement(element, "description").text = caption
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def read_xml(file: Path) -> VocImage:
    """Read what `to_xml` writes.

    Raises:
        ValueError: Not such a file.
    """
    root = parse_xml(file)
    size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
    return VocImage(size, tuple(_entry(e) for e in root.iter("object")))


def _entry(element: ET.Element) -> Entry:
    x1, y1, x2, y2 = (float(element.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return element.findtext("name", ""), (x1, y1, x2, y2), element.findtext("description", "")
