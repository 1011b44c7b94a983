"""Monitor of a training: finds parts of the network that fail while the losses still fall.

1. :class:`TrainingMonitor` reads, with forward hooks, the region head (Eq. 8-9), the routing of the PL-MoE blocks
   (Eq. 1-3), the gates of the text fusion (Eq. 7) and the scale of the text scores (Eq. 4).
2. Each epoch it writes one row to the run's ``monitor.csv`` and one line to the log (:func:`summary`).
3. :func:`findings` returns warnings of dead experts, collapsed routing, closed gates and a region head at chance.

The training itself is unchanged: the hooks draw no random numbers, and sums stay on the device until the end of the
epoch. In long epochs about a hundred steps are read. Under DDP the first rank reads its own share of the batches.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from optisar_yolo.data import MODALITIES
from optisar_yolo.engine.metrics import TITLES
from optisar_yolo.nn import BALANCE_COEFFICIENT, DualGateFusion, MoEBlock, named_parts
from optisar_yolo.utils import write_atomic

Row = Mapping[str, float]
DEAD_SHARE = 0.01  # of a fair share of the patches
ENOUGH_PATCHES = 100  # a fair share in patches, below which an expert may be idle by chance
COLLAPSED_TOP, COLLAPSED_ENTROPY = 0.9, 0.1
CHANCE_EPOCHS, CHANCE_FACTOR = 3, 1.1
CLOSED_GATE = 0.02
EXPERT = re.compile(r"(?P<block>moe[^/]+)/expert(?P<expert>\d+)\((?P<modality>[^)]+)\)")
GATE = re.compile(r"(?P<fusion>fusion[^/]+)/(?P<kind>alpha|beta)\d+")
WATCHED_STEPS = 100  # of an epoch: enough for shares to a percent, at no measurable cost


class TrainingMonitor:
    """Figures of one training run.

    Args:
        model: The model in training, not wrapped for parallel training.
        path: Of the record, CSV.
        steps: Batches of an epoch.
        start: Epochs done before (a resumed run): their rows are kept, later ones dropped.
        modalities: Those of the data set, in the order of their indices in a batch.
    """

    def __init__(
        self, model: Any, path: str | Path, steps: int, start: int = 0, modalities: Iterable[str] = MODALITIES
    ) -> None:
        self.model, self.path, self.modalities = model, Path(path), tuple(modalities)
        self.every = max(steps // WATCHED_STEPS, 1)
        self.rows = [row for row in read_record(self.path) if row["epoch"] <= start] if start else []
        self.warned: set[str] = set()
        self.sums: dict[str, Tensor] = {}
        self.step = self.watched = 0  # batches of the epoch so far, and those of them that were read
        self.watching = False
        self.modality: Tensor | None = None  # [B], of the images in the network
        self.values: dict[str, Tensor] = {}  # maps before fusion, within one forward
        self.levels = [f"P{round(math.log2(float(s)))}" for s in model.stride]
        self.blocks = named_parts(model, MoEBlock, "moe")
        self.fusions = named_parts(model, DualGateFusion, "fusion")
        self.hooks = [model.register_forward_pre_hook(self._begin), model.register_forward_hook(self._end)]
        for name, block in self.blocks.items():
            self.hooks.append(block.gate.register_forward_hook(self._hook(self._routing, name)))
        for name, fusion in self.fusions.items():
            self.hooks.append(fusion.value.register_forward_hook(self._hook(self._keep, name)))
            self.hooks.append(fusion.register_forward_hook(self._hook(self._effect, name)))

    def _hook(self, read: Any, name: str) -> Any:
        """Make a forward hook that reads a module's output under a name, in watched steps."""

        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if self.watching:
                with torch.no_grad():
                    read(name, output)

        return hook

    def _begin(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Before the model's forward: a training batch is watched every so many steps."""
        batch: Any = args[0] if args else None
        training = model.training and isinstance(batch, dict)
        self.watching = training and self.step % self.every == 0
        if not training:
            return
        self.step += 1
        owner: Any = model
        if getattr(owner, "criterion", None) is None:
            owner.criterion = owner.init_criterion()
        owner.criterion.watch = self._region if self.watching else None
        self.modality = batch["modality"] if self.watching else None

    def _end(self, *_: Any) -> None:
        """After the model's forward, loss included."""
        if self.watching:
            for name, block in self.blocks.items():
                if block.balance is not None:
                    self._add(f"{name}/balance", block.balance.detach().float() / BALANCE_COEFFICIENT)
            self.watched += 1
        self.watching = False
        self.values.clear()

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    @torch.no_grad()
    def _region(self, level: int, logits: Tensor, label: Tensor, foreground: Tensor) -> None:
        """Count a level's cells inside the image: logits [B, R, h, w], label [B, h, w], foreground [B, h, w] bool."""
        inside = label >= 0
        right = inside & (logits.argmax(1) == label)
        counts = (right.sum(), inside.sum(), (right & foreground).sum(), (inside & foreground).sum())
        self._add(f"region{level}", torch.stack(counts))

    def _routing(self, name: str, output: tuple[Tensor, Tensor]) -> None:
        """Count experts per modality from gate weights [N, E] and probabilities [N, E] of N = B * patches."""
        gates, probability = output
        assert self.modality is not None
        n, e = gates.shape
        b = len(self.modality)
        if n % b:
            return
        expert = torch.arange(e, device=gates.device)
        top = gates.argmax(1, keepdim=True) == expert  # [N, E]
        side = self.modality[:, None] == torch.arange(len(self.modalities), device=gates.device)  # [B, M]
        for kind, chosen in (("use", gates > 0), ("top", top)):
            of_image = chosen.view(b, n // b, e).sum(1)  # [B, E]
            self._add(f"{name}/{kind}", (side[:, :, None] * of_image[:, None]).sum(0))  # [M, E]
        self._add(f"{name}/patches", side.sum(0) * (n // b))  # [M]
        entropy = torch.special.entr(probability.float()).sum(1).mean()
        self._add(f"{name}/router_entropy", entropy / max(math.log(e), 1e-9))

    def _keep(self, name: str, output: Tensor) -> None:
        """Keep a fusion's map as it is before the text."""
        self.values[name] = output.detach()

    def _effect(self, name: str, output: Tensor) -> None:
        """How much the text changes the map: mean |out - v| over mean |v|, that is |factor - 1| weighted by |v|."""
        before = self.values.pop(name)
        change = (output.detach() - before).abs().mean(dtype=torch.float32)
        self._add(f"{name}/effect", change / before.abs().mean(dtype=torch.float32).clamp(min=1e-9))

    def end_epoch(self, epoch: int, gains: Any) -> dict[str, float]:
        """Read the epoch's figures, add them to the record, log them and warn of dead parts.

        Args:
            epoch: Number of the epoch, from 1.
            gains: Settings ``moe`` and ``region``.

        Returns:
            The epoch's row; empty where no batch was watched.
        """
        if not self.watched:
            return {}
        row = {"epoch": float(epoch), **self._read()}
        self.sums, self.step, self.watched = {}, 0, 0
        self.rows = [r for r in self.rows if r["epoch"] < epoch] + [row]  # an epoch may be done again
        write_record(self.path, self.rows)
        LOGGER.info(summary(row))
        for key, message in findings(row, gains):
            if key not in self.warned:
                self.warned.add(key)
                LOGGER.warning(message)
        return row

    def _read(self) -> dict[str, float]:
        """Turn the sums of the epoch into figures."""
        sums = {name: value.cpu().double() for name, value in self.sums.items()}
        steps = self.watched
        row: dict[str, float] = {}
        counts = [sums[f"region{i}"] for i in range(len(self.levels)) if f"region{i}" in sums]
        shares = [(c[0] / c[1], c[2] / c[3]) for c in counts]
        for level, (every, own) in zip(self.levels, shares, strict=False):
            row |= {f"region/{level}(all)": float(every), f"region/{level}(foreground)": float(own)}
        if shares:
            for i, group in enumerate(("all", "foreground")):
                row[f"region/mean({group})"] = float(torch.stack([s[i] for s in shares]).nanmean())
            grids = self.model.head.grids
            row["region/chance"] = sum(1 / g**2 for g in grids) / len(grids)
        for name, block in self.blocks.items():
            if f"{name}/use" in sums:
                row |= self._routing_figures(name, block, sums)
                row[f"{name}/router_entropy"] = float(sums[f"{name}/router_entropy"]) / steps
                row[f"{name}/balance"] = float(sums[f"{name}/balance"]) / steps
        for name, fusion in self.fusions.items():
            for kind, gate in (("alpha", fusion.attention_gate), ("beta", fusion.feature_gate)):
                row |= {f"{name}/{kind}{i}": v for i, v in enumerate(gate.detach().flatten().tolist())}
            if f"{name}/effect" in sums:
                row[f"{name}/effect"] = float(sums[f"{name}/effect"]) / steps
        for level, head in zip(self.levels, self.model.head.cv4, strict=False):
            row[f"text_scale/{level}"] = float(head.logit_scale.detach().exp())
        return row

    def _routing_figures(self, name: str, block: MoEBlock, sums: dict[str, Tensor]) -> dict[str, float]:
        """Share of the patches that each expert is kept for, per modality; the busiest expert's share; entropy."""
        use, top, patches = sums[f"{name}/use"], sums[f"{name}/top"], sums[f"{name}/patches"]
        row = {f"{name}/patches": float(patches.sum()), f"{name}/top_k": float(block.gate.top_k)}
        for m, modality in enumerate(self.modalities):
            if patches[m]:
                row |= {f"{name}/expert{i}({modality})": float(v) for i, v in enumerate(use[m] / patches[m])}
        first = top.sum(0) / top.sum()
        row[f"{name}/busiest"] = float(first.max())
        row[f"{name}/use_entropy"] = float(torch.special.entr(first).sum()) / max(math.log(len(first)), 1e-9)
        return row

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        criterion = getattr(self.model, "criterion", None)
        if criterion is not None:
            criterion.watch = None


# The trainer's callbacks are plain functions: parallel training pickles them, and a child may hold each of them twice.


def _start(trainer: Any) -> None:
    if RANK in {-1, 0} and getattr(trainer, "monitor", None) is None:
        path = trainer.save_dir / "monitor.csv"
        steps, start = len(trainer.train_loader), trainer.start_epoch
        trainer.monitor = TrainingMonitor(unwrap_model(trainer.model), path, steps, start, trainer.config.modalities)


def _end_epoch(trainer: Any) -> None:
    if getattr(trainer, "monitor", None) is not None:
        trainer.monitor.end_epoch(trainer.epoch + 1, trainer.args)


def _finish(trainer: Any) -> None:
    monitor, trainer.monitor = getattr(trainer, "monitor", None), None
    if monitor is None:
        return
    monitor.close()
    if trainer.args.plots and monitor.rows:
        trainer.plot_monitor(monitor.path)


CALLBACKS = {"on_train_start": _start, "on_train_epoch_end": _end_epoch, "on_train_end": _finish}
"""What a trainer calls, by event."""


def read_record(path: str | Path) -> list[dict[str, float]]:
    """Read a record; empty cells are left out of their row.

    Args:
        path: Of the CSV.

    Returns:
        One dictionary per epoch; none where there is no file.

    Raises:
        ValueError: The file is no record of a training.
    """
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        try:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a record of a training ({error}); move it away to start a new one") from None
    if any("epoch" not in row for row in rows):
        raise ValueError(f"{path}: not a record of a training (no epoch); move it away to start a new one")
    return rows


def write_record(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write a record in one step; a column is there if any row has it, and NaN is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row.get(key, math.nan) for key in columns)
        writer.writerow("" if math.isnan(cell) else f"{cell:.6g}" for cell in cells)
    return write_atomic(path, out.getvalue())


def blocks_of(row: Row) -> list[str]:
    """Names of the PL-MoE blocks in a row of the record."""
    return list(dict.fromkeys(m["block"] for key in row if (m := EXPERT.fullmatch(key))))


def uses(row: Row, block: str, modality: str) -> list[float]:
    """Use of each expert by a modality over its fair share, [E]: 1 is as often as all others; [] without patches."""
    found = {int(m["expert"]): value for key, value in row.items() if (m := EXPERT.fullmatch(key))
             and (m["block"], m["modality"]) == (block, modality)}  # fmt: skip
    total = sum(found.values())  # the number of experts kept for a patch
    return [found[i] * len(found) / total for i in sorted(found)] if total else []


def gates(row: Row) -> dict[str, dict[str, list[float]]]:
    """Fusion gates by block, and in it by kind (alpha, beta): a value per head."""
    found: dict[str, dict[str, list[float]]] = {}
    for key, value in row.items():
        if match := GATE.fullmatch(key):
            found.setdefault(match["fusion"], {}).setdefault(match["kind"], []).append(value)
    return found


def modalities_of(row: Row) -> list[str]:
    """Return the modalities whose use of the experts a row holds, the built-in ones first."""
    found = {m["modality"] for key in row if (m := EXPERT.fullmatch(key))}
    return [m for m in MODALITIES if m in found] + sorted(found.difference(MODALITIES))


def summary(row: Row) -> str:
    """One line of the log about an epoch."""
    parts = []
    if "region/mean(all)" in row:
        own = row["region/mean(foreground)"]
        parts.append(
            f"region {100 * row['region/mean(all)']:.0f} %"
            + ("" if math.isnan(own) else f" (objects {100 * own:.0f} %)")
            + f", chance {100 * row['region/chance']:.0f} %"
        )
    for block in blocks_of(row):
        used = {TITLES.get(m, m): u for m in modalities_of(row) if (u := uses(row, block, m))}
        shares = [f"{name} {min(u):.2f}-{max(u):.2f}" for name, u in used.items()]
        parts.append(
            f"{block} use/fair {', '.join(shares)}, busiest {100 * row[f'{block}/busiest']:.0f} %, "
            f"router entropy {row[f'{block}/router_entropy']:.2f}, balance {row[f'{block}/balance']:.2f}"
        )
    for name, kinds in gates(row).items():
        means = " ".join(f"{kind} {sum(v) / len(v):.2f}" for kind, v in kinds.items())
        parts.append(f"{name} {means} effect {row.get(f'{name}/effect', math.nan):.2f}")
    scales = [f"{value:.2f}" for key, value in row.items() if key.startswith("text_scale/")]
    parts.append(f"text scale {' '.join(scales)}")
    return "Monitor: " + "; ".join(parts)


def findings(row: Row, gains: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with an epoch.

    Args:
        row: Of the record.
        gains: Settings ``moe`` and ``region``.

    Yields:
        A key by which a finding is known again, and what to tell the user.
    """
    raise_moe = f"raise the gain of the balance loss (moe={max(2 * gains.moe, 1.5):g}, now {gains.moe:g})"
    for block in blocks_of(row):
        yield from _routing(row, block, raise_moe)
    if row["epoch"] >= CHANCE_EPOCHS and gains.region > 0 and "region/mean(all)" in row:
        share, chance = row["region/mean(all)"], row["region/chance"]
        if share <= CHANCE_FACTOR * chance:
            yield (
                "region",
                f"the region head is at chance after {row['epoch']:.0f} epochs ({100 * share:.0f} % of the cells, "
                f"chance {100 * chance:.0f} %): raise its gain (region={2 * gains.region:g}, now {gains.region:g}), "
                "or lower lr0 if the other losses do not fall either",
            )
    for name, kinds in gates(row).items():
        if all(abs(v) < CLOSED_GATE for values in kinds.values() for v in values):
            yield (
                name,
                f"both gates of {name} are closed (all below {CLOSED_GATE}): the text does not reach this map, and no "
                "gradient will open them again; start with gate_init 1 in the model's YAML, or lower lr0",
            )


def _routing(row: Row, block: str, remedy: str) -> Iterator[tuple[str, str]]:
    """Dead experts and collapsed routing of a block."""
    k = row[f"{block}/top_k"]
    kept = {m["expert"] for key in row if (m := EXPERT.fullmatch(key)) and m["block"] == block}
    experts, patches = len(kept), row[f"{block}/patches"]
    if experts < 2 or k >= experts:
        return  # nothing to choose
    if patches * k / experts >= ENOUGH_PATCHES:
        shares = [u for m in modalities_of(row) if (u := uses(row, block, m))]
        for i in range(experts):
            if all(u[i] < DEAD_SHARE for u in shares):
                yield (
                    f"{block}/expert{i}",
                    f"expert {i} of {block} is dead: kept for less than {100 * DEAD_SHARE:g} % of its fair share of "
                    f"the patches of this epoch; {remedy}",
                )
    busiest, entropy = row[f"{block}/busiest"], row[f"{block}/use_entropy"]
    if busiest > COLLAPSED_TOP or entropy < COLLAPSED_ENTROPY:
        yield (
            f"{block}/collapsed",
            f"the routing of {block} has collapsed: one expert is first for {100 * busiest:.0f} % of the patches "
            f"(entropy of the use {entropy:.2f} of 1); {remedy}",
        )
