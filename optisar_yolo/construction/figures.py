"""Figures 3 and 4 of the OptiSAR-Net++ paper for any data set: distributions, and clouds of words.

Which words are attributes and directions is read from the vocabulary of `optisar_yolo.language`.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter
from ultralytics.utils import LOGGER

from optisar_yolo.data import MODALITIES, ImageRecord, modality_of
from optisar_yolo.language import BUILT_IN, PLACE, RELATION, SUPERLATIVE, ParsedExpression, Vocabulary, parse
from optisar_yolo.visualize import COLOURS, colour_of

BINS = 40
CLOUDS = ("attributes", "words", "categories", "directions")
LONGEST = 40  # words; longer expressions are counted in the last bar
SHOWN = 120  # words of a cloud
BARS = 20  # words where no cloud can be drawn
UNITS = {
    "width": "width of the box (pixels)",
    "height": "height of the box (pixels)",
    "area": "area of the box (pixels²)",
}
TITLES = {"attributes": "Attributes", "words": "All words", "categories": "Categories", "directions": "Directions"}


_WORD = re.compile(r"[^\W_][\w'-]*")
_NOTHING = ParsedExpression(None)


def words_of(caption: str) -> list[str]:
    """Return the content words of an expression in lower case, except "SAR": no articles, no "image"."""
    return ["SAR" if word == "sar" else word for word in _WORD.findall(caption.lower()) if _is_content(word)]


@lru_cache(maxsize=1 << 16)
def _is_content(word: str) -> bool:
    return parse(word) != _NOTHING


def attributes_of(caption: str, vocabulary: Vocabulary = BUILT_IN) -> list[str]:
    """Return the attributes in an expression.

    These are its size ("tiny" counts as "small"), its modality, and the words that `parse` leaves over.
    """
    meaning = parse(caption, vocabulary)
    modality = vocabulary.modality_words[meaning.modality][0] if meaning.modality else None
    return [word for word in (meaning.size, modality, *meaning.rest) if word]


def directions_of(caption: str, vocabulary: Vocabulary = BUILT_IN) -> list[str]:
    """Return the direction words of an expression: "upper left", "leftmost", "above"; none within a name."""
    found = []
    caption = vocabulary.hide(caption).text
    for pattern in (SUPERLATIVE, RELATION, PLACE):
        for match in pattern.finditer(caption):
            groups = match.groupdict()
            word = groups.get("diagonal") or groups.get("w") or groups.get("m") or groups.get("one")
            if groups.get("v") and groups.get("h"):
                word = f"{groups['v']} {groups['h']}"
            elif groups.get("most"):
                word = match[0]
            word = word or groups.get("near") or groups.get("far") or groups.get("h") or groups.get("v")
            if word:
                found.append(word.lower().replace("-", " "))
        caption = pattern.sub("|", caption)
    return found


@dataclass
class ExpressionTally:
    """Numbers and words of a data set's expressions; a few numbers each.

    Attributes:
        names: Category names.
        width: Width of each expression's box in pixels.
        height: Its height.
        category: Its index into `names`.
        modality: Its index into `modalities`.
        length: Number of words of each expression.
        clouds: Words with their numbers, by the names in `CLOUDS`.
        splits: Images, objects and expressions of every split.
        images: Images by modality.
        vocabulary: The nouns of the data set, which are no attributes.
        modalities: Its modalities.
    """

    names: tuple[str, ...]
    width: array[float] = field(default_factory=lambda: array("f"))
    height: array[float] = field(default_factory=lambda: array("f"))
    category: array[int] = field(default_factory=lambda: array("H"))
    modality: array[int] = field(default_factory=lambda: array("B"))
    length: array[int] = field(default_factory=lambda: array("H"))
    clouds: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in CLOUDS})
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    images: Counter[str] = field(default_factory=Counter)
    vocabulary: Vocabulary = BUILT_IN
    modalities: tuple[str, ...] = MODALITIES

    def add(self, image: ImageRecord, split: str) -> None:
        """Count an image's expressions."""
        counts = self.splits.setdefault(split, {"pictures": 0, "objects": 0, "expressions": 0})
        counts["pictures"] += 1
        counts["objects"] += len(image.boxes)
        self.images[image.modality] += 1
        for box, category, captions in zip(image.boxes, image.categories, image.captions, strict=True):
            for caption in captions:
                counts["expressions"] += 1
                self.width.append(float(box[2] - box[0]))
                self.height.append(float(box[3] - box[1]))
                self.category.append(int(category))
                self.modality.append(self.modalities.index(image.modality))
                self.length.append(min(len(caption.split()), 65535))
                self.clouds["attributes"].update(attributes_of(caption, self.vocabulary))
                self.clouds["words"].update(words_of(caption))
                self.clouds["directions"].update(directions_of(caption, self.vocabulary))
                self.clouds["categories"][self.names[int(category)]] += 1

    def values(self, side: str) -> np.ndarray:
        """Return float64 [N]: width or height in pixels, or area in square pixels, of every expression's box."""
        width, height = np.asarray(self.width, dtype=np.float64), np.asarray(self.height, dtype=np.float64)
        return {"width": width, "height": height, "area": width * height}[side]


def distributions(tally: ExpressionTally) -> Figure:
    """Draw sizes, modality share, lengths, and sizes and shares of the categories (Figure 3).

    Args:
        tally: The data set's expressions, at least one.
    """
    figure = Figure(figsize=(16, 12), layout="constrained")
    rows = figure.add_gridspec(3, 1, height_ratios=(1, 1, 1.2))
    top, middle, bottom = (figure.add_subfigure(rows[i]) for i in range(3))
    for axes, side, letter in zip(top.subplots(1, 3), UNITS, "abc", strict=True):
        _sizes(axes, tally, side, letter)
    left, right = middle.subplots(1, 2, width_ratios=(1, 2))
    _share(left, tally)
    _lengths(right, tally)
    left, right = bottom.subplots(1, 2)
    _areas(left, tally)
    _categories(right, tally)
    return figure


def _sizes(axes: Axes, tally: ExpressionTally, side: str, letter: str) -> None:
    """Draw how one measure of the boxes is distributed in each modality, as shares of its expressions."""
    values = tally.values(side)
    modality = np.asarray(tally.modality)
    low, high = max(float(values.min()), 0.1), float(values.max())
    edges = np.geomspace(low, max(high, low * 1.01) * 1.0001, BINS + 1).tolist()
    for number, name in enumerate(tally.modalities):
        chosen = values[modality == number]
        if len(chosen):
            weights = np.full(len(chosen), 100 / len(chosen))
            label = f"{_title(name)}, median {np.median(chosen):,.0f}"
            axes.hist(chosen, edges, weights=weights, color=colour_of(name), alpha=0.55, label=label)
    axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=9)
    _style(axes, f"({letter}) {side.capitalize()}", UNITS[side], "share of the modality's expressions (%)")


def _share(axes: Axes, tally: ExpressionTally) -> None:
    """Draw the modalities' shares of the expressions."""
    counts = {name: int((np.asarray(tally.modality) == i).sum()) for i, name in enumerate(tally.modalities)}
    present = {name: n for name, n in counts.items() if n}
    total = sum(present.values())
    axes.pie(
        list(present.values()),
        colors=[colour_of(name) for name in present],
        labels=[f"{_title(name)}\n{n:,} ({n / total:.1%})" for name, n in present.items()],
        startangle=90,
        wedgeprops={"width": 0.45, "edgecolor": "white"},
    )
    axes.set_title("(d) Expressions by modality", fontsize=11)


def _lengths(axes: Axes, tally: ExpressionTally) -> None:
    """Draw how many words the expressions have."""
    length = np.asarray(tally.length, dtype=np.int64)
    counts = np.bincount(length.clip(max=LONGEST))
    axes.bar(np.arange(len(counts)), counts, color=COLOURS["all"], alpha=0.75, width=0.85)
    axes.axvline(length.mean(), color=COLOURS["sar"], linestyle="--", label=f"mean {length.mean():.2f} words")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)
    last = f"; the last bar holds {LONGEST} and more" if length.max() >= LONGEST else ""
    _style(axes, "(e) Length of the expressions", f"words{last}", "expressions")


def _areas(axes: Axes, tally: ExpressionTally) -> None:
    """Draw how the size of the boxes differs between categories."""
    area, category = tally.values("area"), np.asarray(tally.category)
    present = sorted(set(category.tolist()), key=lambda i: -float(np.median(area[category == i])))
    boxes = axes.boxplot(
        [np.sqrt(area[category == i]) for i in present],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        widths=0.6,
        medianprops={"color": "black"},
    )
    for patch, i in zip(boxes["boxes"], present, strict=True):
        patch.set(facecolor=_colour(tally.names[i]), alpha=0.6)
    axes.set_yticks(range(1, len(present) + 1), [_title(tally.names[i]) for i in present], fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.7)))  # fewer where there are decades
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.invert_yaxis()
    _style(axes, "(f) Size by category", "square root of the box's area (pixels); 5, 25, 50, 75 and 95 %", "")


def _categories(axes: Axes, tally: ExpressionTally) -> None:
    """Draw the categories' shares of the expressions."""
    counts = tally.clouds["categories"].most_common()
    total = sum(n for _, n in counts)
    bars = axes.barh(
        [_title(name) for name, _ in counts],
        [100 * n / total for _, n in counts],
        color=[_colour(name) for name, _ in counts],
        alpha=0.75,
    )
    axes.bar_label(bars, [f"{n:,}" for _, n in counts], padding=3, fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    _style(axes, "(g) Expressions by category", "share of the expressions (%); numbers of expressions at the bars", "")


def word_figure(clouds: Mapping[str, Counter[str]], seed: int = 0) -> Figure:
    """Draw the most frequent words of each sort (Figure 4): as clouds, or as bars where `wordcloud` is not installed.

    Args:
        clouds: Words with their numbers, by the names in `TITLES`.
        seed: Of the clouds' arrangement.
    """
    figure = Figure(figsize=(16, 10), layout="constrained")
    try:
        from wordcloud import WordCloud
    except ImportError:
        LOGGER.info("bars instead of word clouds; for clouds: pip install 'optisar-yolo[build]'")
        WordCloud = None  # noqa: N806
    for axes, (number, (name, title)) in zip(figure.subplots(2, 2).ravel(), enumerate(TITLES.items()), strict=True):
        cloud = Counter({_title(w) if name == "categories" else w: n for w, n in clouds[name].items()})
        axes.set_title(f"({'abcd'[number]}) {title}", fontsize=13)
        if not cloud:
            axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()
        elif WordCloud is None:
            words = cloud.most_common(BARS)[::-1]
            axes.barh([word for word, _ in words], [n for _, n in words], color=COLOURS["optical"], alpha=0.75)
            axes.tick_params(axis="y", labelsize=8)
            _style(axes, axes.get_title(), "occurrences", "")
        else:
            image = WordCloud(
                width=800,
                height=450,
                background_color="white",
                colormap="Dark2",
                max_words=SHOWN,
                random_state=seed,
                relative_scaling=0.4,
            ).generate_from_frequencies(dict(cloud.most_common(SHOWN)))
            axes.imshow(image.to_array(), interpolation="bilinear")
            axes.set_axis_off()
    return figure


def _colour(name: str) -> str:
    """Return the colour of a category's modality."""
    return COLOURS[modality_of(name) or "all"]


def _title(name: str) -> str:
    """Return a name as it is written in figures: "SAR ship", "Optical ship"."""
    return "SAR" + name[3:] if modality_of(name) == "sar" else name[:1].upper() + name[1:]


def _style(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
