"""A QGIS style for the boxes: an outline in one colour per expression, and the confidence beside it."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from optisar_yolo.visualize import PALETTE

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
WIDTH = 0.6  # millimetres on the screen
FIELD = "sentence"  # the column that names the expression


def qml(texts: Sequence[str]) -> str:
    """Return the style as QGIS stores it (QML): a legend entry per expression, in the colours of the other drawings.

    Args:
        texts: The expressions, in their order.
    """
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology|Labeling", labelsEnabled="1")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=FIELD, forceraster="0")
    renderer.set("symbollevels", "0")
    renderer.set("enableorderby", "0")
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for i, text in enumerate(dict.fromkeys(texts)):
        ET.SubElement(categories, "category", value=text, label=text, symbol=str(i), render="true")
        symbols.append(_symbol(str(i), PALETTE[list(texts).index(text) % len(PALETTE)]))
    labeling = ET.SubElement(root, "labeling", type="simple")
    settings = ET.SubElement(labeling, "settings", calloutType="simple")
    words = ET.SubElement(settings, "text-style", fieldName='round("confidence", 2)', isExpression="1")
    for key, value in {"fontSize": "9", "fontSizeUnit": "Point", "textColor": "0,0,0,255"}.items():
        words.set(key, value)
    halo = {"bufferDraw": "1", "bufferSize": "1", "bufferSizeUnits": "MM", "bufferColor": "255,255,255,255"}
    ET.SubElement(words, "text-buffer", {**halo, "bufferOpacity": "1"})
    # Outside of the polygon where there is room: on the box it would hide a small object.
    ET.SubElement(settings, "placement", placement="6", polygonPlacementFlags="2", dist="1", distUnits="MM")
    ET.SubElement(settings, "rendering", drawLabels="1", scaleVisibility="0", obstacle="0")
    ET.indent(root, " ")
    return DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _symbol(name: str, colour: str) -> ET.Element:
    """Return an outline without a fill; the colour is written ``#rrggbb``."""
    symbol = ET.Element("symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    rgb = ",".join(map(str, bytes.fromhex(colour.lstrip("#"))))
    look = {
        "style": "no", "color": f"{rgb},0", "outline_color": f"{rgb},255", "outline_style": "solid",
        "outline_width": str(WIDTH), "outline_width_unit": "MM", "joinstyle": "miter",
    }  # fmt: skip
    for key, value in look.items():
        ET.SubElement(options, "Option", name=key, value=value, type="QString")
    return symbol
