"""Makes mirrored and turned copies of images with rare objects (``optisar dataset transform``).

Every caption of the data set is checked against the boxes on the way. Those of the copies are rewritten, by rules or by
a language model, and checked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.construction import steps
from optisar_yolo.construction.recipe import recipe_in
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report, ordered_map
from optisar_yolo.construction.transforms.balance import choose
from optisar_yolo.construction.transforms.copies import Outcome, expand
from optisar_yolo.construction.transforms.llm import Client
from optisar_yolo.construction.transforms.llm_cache import ReplyCache
from optisar_yolo.construction.transforms.rewrite import Rewriter, by_rules
from optisar_yolo.construction.transforms.rewrite_llm import FALLBACKS, ByModel
from optisar_yolo.data import DataError
from optisar_yolo.utils import UsageError, write_atomic

DEFAULTS: dict[str, Any] = {
    "target": 0,
    "rewrite": "rules",
    "replace": True,
    "model": "gpt-4o",
    "llm_url": "",
    "tries": 3,
    "fallback": "drop",
    "timeout": 60.0,
    "retries": 5,
    "max_requests": 0,
    "price_in": 0.0,
    "price_out": 0.0,
}
REWRITERS = ("rules", "llm")
LLM_RESULT = ("model", "tries", "fallback", "max_requests")
"""Options of the language model that the result depends on. The endpoint's address is not kept: it may hold a key."""


def main(options: dict[str, Any]) -> None:
    """Run the step, and write rates and costs to ``transform/report.json``.

    Args:
        options: ``target``: number of objects that rare categories are to reach (0: the median of the categories);
            ``rewrite``: "rules" or "llm"; ``replace``: take another unambiguous expression where a caption cannot be
            rewritten. For ``llm``: ``model``, ``llm_url``, ``tries`` per caption, ``fallback`` ("drop" or "rules"),
            ``timeout`` in seconds, ``retries`` of a failed request, ``max_requests`` (0: no limit), ``price_in`` and
            ``price_out`` per million tokens; ``jobs`` is the number of images worked on at a time. And those of
            every step. A dry run never asks a model: it counts with the rules.

    Raises:
        DataError: Nothing to read, no library or key for ``llm``, or an endpoint that answers nothing.
        UsageError: A value that is none of an option's.
    """
    _check(options)
    work = Path(options["work"])
    source = steps.input_of(work, "transform", options["from"] or None)
    by_model = options["rewrite"] == "llm"
    keep = {k: options[k] for k in ("target", "rewrite", "replace", "seed")} | {"by_source": recipe_in(work).by_source}
    keep |= {k: options[k] for k in LLM_RESULT} if by_model else {}
    how = {k: keep[k] for k in ("target", "replace", "seed", "by_source")}

    def step(samples: Iterable[Sample], report: Report) -> Iterator[Sample]:
        if not by_model or options["dry_run"]:
            yield from transform(samples, report, by_rules, **how)
            return
        cache = ReplyCache(work / "transform" / "llm-cache.sqlite")
        try:
            settings = {k: options[k] for k in ("model", "timeout", "retries", "max_requests")}
            client = Client(cache, url=options["llm_url"], **settings)
            asker = ByModel(client, options["tries"], options["fallback"])
            yield from transform(samples, report, asker, jobs=options["jobs"], **how)
            client.check()
            for name, number in client.counts.items():
                report.count(name, number)
        finally:
            cache.close()

    report = steps.run(work, "transform", step, source, keep, dry_run=options["dry_run"])
    summary = summarise(report.counts, options["price_in"], options["price_out"])
    LOGGER.info("transform: " + ", ".join(f"{v}% {k}" for k, v in summary["percent"].items()))
    if "cost" in summary:
        LOGGER.info(f"transform: all answers used cost {summary['cost']:.2f} at the prices given")
    if not options["dry_run"]:
        file = work / "transform" / "report.json"
        try:
            write_atomic(file, json.dumps(summary, indent=1) + "\n")
        except OSError as error:
            raise DataError(f"{file}: cannot be written ({error.strerror or error})") from error


def _check(options: dict[str, Any]) -> None:
    """Refuse values that mean nothing."""
    for key, known in (("rewrite", REWRITERS), ("fallback", FALLBACKS)):
        if options[key] not in known:
            raise UsageError(f"{key}={options[key]}: choose from {', '.join(known)}")
    for key, least in (("target", 0), ("tries", 1), ("retries", 0), ("max_requests", 0), ("price_in", 0)):
        if not options[key] >= least:
            raise UsageError(f"{key}={options[key]}: must be at least {least}")
    if not options["timeout"] > 0 or not options["price_out"] >= 0:
        raise UsageError("timeout must be positive, and price_out not negative")


def transform(
    samples: Iterable[Sample],
    report: Report,
    rewrite: Rewriter = by_rules,
    target: int = 0,
    replace: bool = True,
    by_source: bool = False,
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Sample]:
    """Add copies of images with rare objects, each right after its original.

    Args:
        samples: The images; read twice, so no iterator.
        report: Counts what became of the captions, and the objects that each rare category gained.
        rewrite: Rewrites one caption: `by_rules`, or a `ByModel`.
        target: As for `balance.choose`.
        replace: Take another unambiguous expression where a caption cannot be rewritten.
        by_source: Objects keep the splits of their sources: only images of training objects are copied.
        seed: Of all draws.
        jobs: Threads, for a rewriter that waits.

    Yields:
        Every image, objects flagged whose caption the box disproves; and the copies.
    """
    choice = choose(samples, target, by_source, seed)

    def work(numbered: tuple[int, Sample]) -> Outcome:
        position, sample = numbered
        return expand(sample, choice.copies.get(position, ()), rewrite, replace, seed)

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
    """Return counts with rates in percent, and the cost where a price is given.

    Args:
        counts: Those of the step's report.
        price_in: Of a million prompt tokens, in any currency.
        price_out: Of a million completion tokens.

    Returns:
        "counts"; "percent" of the captions checked (false at the source) and of those to carry over (all others); and
        "cost" of all answers used, whichever run paid for them.
    """
    percent: dict[str, float] = {}
    for base, names in (
        ("captions checked", ("false at the source",)),
        (
            "captions to carry over",
            (
                "captions rewritten",
                "captions unchanged (no direction)",
                "captions replaced",
                "captions dropped",
                "conflicts found",
                "captions regenerated",
            ),
        ),
    ):
        if counts.get(base):
            percent |= {n: round(100 * counts.get(n, 0) / counts[base], 2) for n in names}
    summary: dict[str, Any] = {"counts": counts, "percent": percent}
    if price_in or price_out:
        tokens = counts.get("prompt tokens", 0) * price_in + counts.get("completion tokens", 0) * price_out
        summary["cost"] = round(tokens / 1e6, 4)
    return summary
