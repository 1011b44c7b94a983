"""The step ``transform``: adds mirrored and turned copies of images with rare objects.

1. Images are chosen so that rare categories reach a number of objects (:func:`choose`).
2. Every caption of the data set is checked against the boxes. Those of the copies are rewritten, by rules or by a
   language model, and checked again (`copies.expand`).
3. Rates and costs are written to ``transform/report.json`` (:func:`summarise`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.construction import steps
from optisar_yolo.construction.copies import Outcome, Rewriter, by_rules, expand
from optisar_yolo.construction.recipe import recipe_in
from optisar_yolo.construction.rewrite_llm import ByModel, Client, ReplyCache
from optisar_yolo.construction.samples import TRANSFORMS, Sample
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.language import BUILT_IN, Vocabulary
from optisar_yolo.utils import ordered_map


@dataclass(frozen=True)
class Choice:
    """The copies to make.

    Attributes:
        copies: Position of an image among the samples to the transforms of its copies.
        counts: Number of objects by category, without copies.
        target: Number of objects that rare categories are to reach.
    """

    copies: dict[int, tuple[str, ...]]
    counts: dict[str, int]
    target: int


def usable(sample: Sample, by_source: bool) -> bool:
    """Tell whether an image may be copied: no copy, and not in val or test (`by_source`: nor any of its objects)."""
    splits = {sample.split} | ({i.split for i in sample.instances} if by_source else set())
    return not sample.transform and splits <= {"", "train"}


def choose(samples: Iterable[Sample], target: int = 0, by_source: bool = False, seed: int = 0) -> Choice:
    """Choose copies for the categories with fewer objects than a target, the rarest category first.

    An image is used at most once with each transform, and every image of a category once before any is used twice;
    images with few objects of frequent categories come first, ties are drawn. An image is passed over where it holds
    a rare category that has reached the target, so that none exceeds it by more than the objects of one image.

    Args:
        samples: Read once; of each image its name and its numbers of objects are remembered.
        target: Number of objects to reach; 0: the (lower) median of the categories' numbers.
        by_source: As for `usable`; only usable images are counted.
        seed: Seed of the draws, which do not depend on the order of the samples.
    """
    total: Counter[str] = Counter()
    held: dict[int, tuple[str, tuple[tuple[str, int], ...]]] = {}
    for position, sample in enumerate(samples):
        if usable(sample, by_source):
            mine = Counter(i.category for i in sample.instances)
            total.update(mine)
            held[position] = (sample.name, tuple(mine.items()))
    if not total:
        return Choice({}, {}, target)
    target = target or median_low(total.values())
    rare = {c for c, n in total.items() if n < target}
    count = Counter(total)
    taken: dict[int, list[str]] = {}
    for category in sorted(rare, key=lambda c: (total[c], c)):
        images = [_Candidate(p, *held[p], rare, seed) for p in held if any(c == category for c, _ in held[p][1])]
        images.sort(key=lambda p: (p.frequent, p.draw))
        for turn in range(len(TRANSFORMS)):
            for image in images:
                if count[category] >= target:
                    break
                transform = image.order[turn]
                if transform in taken.get(image.position, ()):
                    continue
                if any(c in rare and count[c] >= target for c, _ in image.objects):
                    continue
                taken.setdefault(image.position, []).append(transform)
                count.update(dict(image.objects))
    return Choice({p: tuple(sorted(t, key=TRANSFORMS.index)) for p, t in taken.items()}, dict(total), target)


class _Candidate:
    """An image that can be copied: its objects by category, how many of them are of frequent categories, its draws."""

    def __init__(
        self, position: int, name: str, objects: tuple[tuple[str, int], ...], rare: set[str], seed: int
    ) -> None:
        self.position, self.objects = position, objects
        self.frequent = sum(n for c, n in objects if c not in rare)
        rng = random.Random(f"{seed}/{name}")
        self.draw = rng.random()
        self.order = rng.sample(TRANSFORMS, len(TRANSFORMS))


PERCENT = {
    "captions checked": ("false at the source",),
    "captions to carry over": (
        "captions rewritten",
        "captions unchanged (no direction)",
        "captions replaced",
        "captions dropped",
        "conflicts found",
        "captions regenerated",
    ),
}
"""Counts that are reported in percent, by the count that is 100 %."""


def transform_step(
    work: WorkFolder,
    target: int,
    rewrite: str,
    replace: bool,
    model: str,
    llm_url: str | None,
    tries: int,
    fallback: str,
    timeout: float,
    retries: int,
    max_requests: int,
    price_in: float,
    price_out: float,
) -> None:
    """Run the step, and write rates and costs to ``transform/report.json``. The arguments are its command's options.

    A dry run sends no request and counts with the rules.

    Raises:
        DataError: Nothing to read, no library or key for the language model, or an endpoint that never replies.
    """
    source = steps.input_of(work.path, "transform", work.source)
    recipe = recipe_in(work.path)
    how: dict[str, Any] = {
        "target": target,
        "replace": replace,
        "seed": work.seed,
        "by_source": recipe.by_source,
    }
    options: dict[str, Any] = how | {"rewrite": rewrite}
    options |= recipe.declared
    how["vocabulary"] = recipe.vocabulary
    if rewrite == "llm":  # without the address, which may hold a key
        options |= {"model": model, "tries": tries, "fallback": fallback, "max_requests": max_requests}

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        if rewrite == "rules" or work.dry_run:
            yield from transform(samples, report, by_rules, **how)
            return
        with ReplyCache(work.path / "transform" / "llm-cache.jsonl") as cache:
            client = Client(cache, model, llm_url or "", timeout, retries, max_requests)
            yield from transform(samples, report, ByModel(client, tries, fallback), jobs=work.jobs, **how)
            client.check()
            for name, number in client.counts.items():
                report.count(name, number)

    report = steps.run(work.path, "transform", step, source, options, dry_run=work.dry_run)
    summary = summarise(report.counts, price_in, price_out)
    LOGGER.info("transform: " + ", ".join(f"{v}% {k}" for k, v in summary["percent"].items()))
    if "cost" in summary:
        LOGGER.info(f"transform: all replies used cost {summary['cost']:.2f} at the prices given")
    if not work.dry_run:
        file = work.path / "transform" / "report.json"
        with steps.unwritable("cannot be written", file):
            steps.write_json(file, summary)


def transform(
    samples: Iterable[Sample],
    report: Report,
    rewrite: Rewriter = by_rules,
    target: int = 0,
    replace: bool = True,
    by_source: bool = False,
    seed: int = 0,
    jobs: int = 1,
    vocabulary: Vocabulary = BUILT_IN,
) -> Iterator[Sample]:
    """Add copies of images with rare objects, each right after its original.

    Args:
        samples: The images; read twice, so no iterator.
        report: Counts the results for the captions, and the objects that each rare category gained.
        rewrite: Rewrites one caption: `by_rules`, or a `ByModel`.
        target: As for `choose`, like `by_source` and `seed`.
        replace: Replace a caption that cannot be rewritten by another unambiguous expression.
        by_source: Copy only images whose objects are all for training.
        seed: Seed of all draws.
        jobs: Threads, for a rewriter that waits for replies.
        vocabulary: The nouns of the data set; those of the samples' categories are added.
    """
    choice = choose(samples, target, by_source, seed)

    def work(numbered: tuple[int, Sample]) -> Outcome:
        position, sample = numbered
        return expand(sample, choice.copies.get(position, ()), rewrite, replace, seed, vocabulary)

    for outcome in ordered_map(work, enumerate(samples), jobs):
        for name, number in outcome.counts.items():
            report.count(name, number)
        for problem, record in outcome.problems:
            report.problems.add(problem, record)
        for copy in outcome.samples[1:]:
            for instance in copy.instances:
                if choice.counts[instance.category] < choice.target:
                    report.count(f"{instance.category} added")
        yield from outcome.samples


def summarise(counts: dict[str, int], price_in: float = 0.0, price_out: float = 0.0) -> dict[str, Any]:
    """Return counts with rates in percent (see `PERCENT`), and the cost of all replies used where a price is given.

    Prices are of a million tokens of the prompts and of the completions. It does not matter which run paid.
    """
    percent = {
        name: round(100 * counts.get(name, 0) / counts[base], 2)
        for base, names in PERCENT.items()
        if counts.get(base)
        for name in names
    }
    summary: dict[str, Any] = {"counts": counts, "percent": percent}
    if price_in or price_out:
        tokens = counts.get("prompt tokens", 0) * price_in + counts.get("completion tokens", 0) * price_out
        summary["cost"] = round(tokens / 1e6, 4)
    return summary
