"""The words of generated expressions, and the reserved ones that no training expression may hold."""

from __future__ import annotations

import re

RESERVED = re.compile(
    r"\b(aeroplanes?|water-?crafts?|(left|right)[- ]hand|uppermost|lowermost|towards the|portions?|frames?|locate"
    r"|tiny|sizeable|oil reservoirs?|wharfs?|wharves|racetracks?|automobiles?|ball ?fields?|radar[- ]imaged|situated"
    r"|extreme|beneath|westernmost|easternmost)\b",
    re.IGNORECASE,
)

CATEGORIES: dict[str, tuple[str, ...]] = {
    "airplane": ("airplane", "plane", "aircraft", "jet", "airliner"),
    "ship": ("ship", "vessel", "boat", "vessel on the water", "cargo ship"),
    "vehicle": ("vehicle", "car", "truck", "van", "motor vehicle"),
    "harbor": ("harbor", "harbour", "port", "dock", "pier", "marina"),
    "bridge": ("bridge", "river crossing", "span of the bridge"),
    "storage tank": ("storage tank", "oil tank", "fuel tank", "tank", "cylindrical tank"),
    "tennis court": ("tennis court", "court for tennis", "tennis ground"),
    "basketball court": ("basketball court", "court for basketball", "basketball ground"),
    "ground track field": (
        "ground track field",
        "running track",
        "athletics track",
        "track field",
        "athletics stadium",
    ),
    "baseball diamond": ("baseball diamond", "baseball field", "baseball ground", "baseball pitch"),
    "swimming pool": ("swimming pool", "pool", "bathing pool", "swim basin"),
    "crossroad": ("crossroad", "crossroads", "intersection", "road crossing", "junction of two roads"),
    "T junction": ("T junction", "T-junction", "T-shaped junction", "three-way junction"),
    "parking lot": ("parking lot", "car park", "parking area", "parking place"),
    "roundabout": ("roundabout", "traffic circle", "rotary"),
    "soccer field": ("soccer field", "football pitch", "soccer ground", "football field"),
    "helicopter": ("helicopter", "chopper", "rotorcraft"),
    "stadium": ("stadium", "arena", "sports stadium"),
    "airport": ("airport", "airfield", "aerodrome"),
    "runway": ("runway", "landing strip", "airstrip"),
    "chimney": ("chimney", "smokestack", "factory chimney"),
    "dam": ("dam", "river dam", "barrage"),
    "windmill": ("windmill", "wind turbine", "wind generator"),
    "transmission tower": ("transmission tower", "power tower", "pylon", "electricity pylon", "power line tower"),
    "overpass": ("overpass", "flyover", "elevated road"),
    "golf field": ("golf field", "golf course", "golf ground"),
    "train station": ("train station", "railway station", "rail station"),
    "expressway toll station": ("expressway toll station", "toll station", "toll gate", "toll plaza"),
    "expressway service area": ("expressway service area", "service area", "motorway services"),
    "building": ("building", "house", "construction"),
}
SIDES: dict[str, tuple[str, ...]] = {  # adjectives and nouns for the nine places of an image
    "left": ("left", "western"),
    "right": ("right", "eastern"),
    "top": ("top", "upper", "northern"),
    "bottom": ("bottom", "lower", "southern"),
    "top left": ("top left", "upper left", "upper-left", "top-left", "northwest", "north-western", "left upper"),
    "top right": ("top right", "upper right", "upper-right", "top-right", "northeast", "north-eastern", "right upper"),
    "bottom left": (
        "bottom left",
        "lower left",
        "lower-left",
        "bottom-left",
        "southwest",
        "south-western",
        "left lower",
    ),
    "bottom right": (
        "bottom right",
        "lower right",
        "lower-right",
        "bottom-right",
        "southeast",
        "south-eastern",
        "right lower",
    ),
    "center": ("middle", "center", "centre", "central"),
}
IMAGE = ("image", "picture", "scene", "photo", "view", "shot")
EXTREMES: dict[str, tuple[str, ...]] = {
    "left": ("leftmost", "farthest left", "furthest left", "most westerly", "far left"),
    "right": ("rightmost", "farthest right", "furthest right", "most easterly", "far right"),
    "top": ("topmost", "highest", "northernmost", "most northerly", "highest up"),
    "bottom": ("bottommost", "lowest", "southernmost", "most southerly", "lowest down"),
    "center": ("most central", "innermost"),
    "large": ("largest", "biggest", "greatest", "hugest"),
    "small": ("smallest", "littlest", "least large", "most minute"),
}
SIZES: dict[str, tuple[str, ...]] = {
    "large": ("large", "big", "huge", "great", "bulky"),
    "small": ("small", "little", "minute", "compact"),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "white": ("white", "white-colored"),
    "gray": ("gray", "grey"),
    "black": ("black", "black-coloured"),
    "red": ("red", "reddish"),
    "blue": ("blue", "bluish"),
    "green": ("green", "greenish"),
    "yellow": ("yellow", "yellowish"),
    "brown": ("brown", "brownish"),
    "orange": ("orange",),
    "cyan": ("cyan", "turquoise"),
}
MODALITIES: dict[str, tuple[str, ...]] = {
    "sar": ("SAR", "radar", "synthetic aperture radar"),
    "optical": ("optical", "visible-light", "photographic"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "on the left of", "on the left side of", "left of", "west of", "to the west of"),
    "right": ("to the right of", "on the right of", "on the right side of", "right of", "east of", "to the east of"),
    "top": ("above", "over", "north of", "higher than", "to the north of", "on top of"),
    "bottom": ("below", "under", "south of", "lower than", "to the south of", "underneath"),
    "top left": (
        "on the upper left of",
        "to the upper left of",
        "northwest of",
        "above and to the left of",
        "on the top left of",
    ),
    "top right": (
        "on the upper right of",
        "to the upper right of",
        "northeast of",
        "above and to the right of",
        "on the top right of",
    ),
    "bottom left": (
        "on the lower left of",
        "to the lower left of",
        "southwest of",
        "below and to the left of",
        "on the bottom left of",
    ),
    "bottom right": (
        "on the lower right of",
        "to the lower right of",
        "southeast of",
        "below and to the right of",
        "on the bottom right of",
    ),
    "near": ("next to", "near", "close to", "beside", "by"),
}
MIRROR: dict[str, tuple[str, ...]] = {  # what a value is most easily mistaken for
    "left": ("right",),
    "right": ("left",),
    "top": ("bottom",),
    "bottom": ("top",),
    "center": ("left", "right", "top", "bottom"),
    "top left": ("top right", "bottom left"),
    "top right": ("top left", "bottom right"),
    "bottom left": ("bottom right", "top left"),
    "bottom right": ("bottom left", "top right"),
    "large": ("small",),
    "small": ("large",),
    "near": ("left", "right", "top", "bottom"),
    "sar": ("optical",),
    "optical": ("sar",),
}
FRAMES = (
    "the {x}",
    "the {x}",
    "the {x}",
    "a {x}",
    "there is a {x}",
    "where is the {x}?",
    "find the {x}",
    "show me the {x}",
    "can you see the {x}?",
    "I am looking for the {x}",
    "point at the {x}",
    "which one is the {x}?",
    "please mark the {x}",
    "give me the {x}",
    "the target is the {x}",
    "{x}",
)

HELD_OUT_CATEGORIES = {
    "airplane": "aeroplane",
    "ship": "watercraft",
    "storage tank": "oil reservoir",
    "harbor": "wharf",
    "ground track field": "racetrack",
    "vehicle": "automobile",
    "baseball diamond": "ball field",
}
HELD_OUT_SIDES = {
    "left": "left-hand",
    "right": "right-hand",
    "top": "uppermost",
    "bottom": "lowermost",
    "top left": "upper left-hand",
    "top right": "upper right-hand",
    "bottom left": "lower left-hand",
    "bottom right": "lower right-hand",
    "center": "central",
}
HELD_OUT_EXTREMES = {"left": "westernmost", "right": "easternmost", "top": "uppermost", "bottom": "lowermost"}
HELD_OUT_SIZES = {"large": "sizeable", "small": "tiny"}
HELD_OUT_MODALITIES = {"sar": "radar-imaged"}
HELD_OUT_FRAMES = ("locate the {x}", "the {x}", "the {x} in this frame", "please locate the {x} for me")
