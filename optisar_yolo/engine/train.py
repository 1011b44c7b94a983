"""Training: ultralytics' loop with our data, texts, loss, validator and an exact resume."""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from optisar_yolo.data import (
    DataError,
    EpochSampler,
    EvaluationDataset,
    GroundingDataset,
    GroundingLoader,
    ImageRecord,
    load_dataset_config,
    load_split,
    modality_sides,
)
from optisar_yolo.engine import monitor
from optisar_yolo.engine.checkpoint import store_calibration
from optisar_yolo.engine.saving import add_exact_state, restore_exact_state, strip
from optisar_yolo.engine.val import GroundingValidator
from optisar_yolo.language import flip, swap
from optisar_yolo.nn import GroundingModel
from optisar_yolo.plugin import keep_keys
from optisar_yolo.text import TextBank, load_text_encoder

# Where the user sets no value: the paper's recipe (Sect. V-A), and what keeps captions true instead of stock
# augmentation.
TRAIN_DEFAULTS: dict[str, Any] = {
    "optimizer": "AdamW",  # stock "auto" may pick an optimiser that orthogonalises gates
    "lr0": 2e-3,
    "lrf": 0.01,
    "cos_lr": True,
    "momentum": 0.9,
    "weight_decay": 0.025,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,  # other captions than the data set's: those that hold for all four images
    "close_mosaic": 0,
    "hsv_h": 0.0,  # like hsv_s, for optical images of which no caption names a colour
    "hsv_s": 0.0,
    "hsv_v": 0.4,  # brightness, contrast and gamma
    "fliplr": 0.5,  # captions are rewritten
    "flipud": 0.5,
    "scale": 0.3,  # the whole image is drawn smaller, so that positions in it stay true
    "translate": 0.0,
    "erasing": 0.0,
}

if LOCAL_RANK != -1:  # a process started for parallel training: it rebuilds the trainer from this module and our keys
    keep_keys()


class GroundingTrainer(DetectionTrainer):
    """Trainer of :class:`~optisar_yolo.nn.model.GroundingModel`; arguments are those of ultralytics' trainer."""

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        given = dict(overrides or {})
        if given.get("compile"):
            raise ValueError(
                "compile=True is not supported: rows of the network depend on the expressions; leave it out"
            )
        if str(given.get("optimizer", "")).lower() in ("auto", "musgd"):
            LOGGER.warning(f"optimizer={given['optimizer']} may orthogonalise gates; using AdamW")
            given["optimizer"] = "AdamW"
        if not given.get("resume"):
            given = TRAIN_DEFAULTS | {"nbs": given.get("batch", 16)} | given  # nbs = batch: a step for every batch
        self.bank: TextBank | None = None
        self.last: Path
        self.best: Path
        super().__init__(cfg, given, _callbacks)
        for event, callback in {"on_train_epoch_start": _tell_epoch, **monitor.CALLBACKS}.items():
            self.add_callback(event, callback)

    def get_dataset(self) -> dict[str, Any]:
        """Read the dataset config and its splits: what ultralytics calls the data dictionary."""
        config = load_dataset_config(self.args.data)
        self.config = config
        seed = self.args.seed
        self.images: dict[str, list[ImageRecord]] = {
            "train": load_split(config, "train", self.args.fraction or 1.0, seed)
        }
        for name in config.include:
            other = load_dataset_config(name)
            if other.names != config.names:
                raise DataError(
                    f"{config.path}: includes {other.path}, whose names differ; give both dataset configs the same names"
                )
            self.images["train"] += load_split(other, "train", self.args.fraction or 1.0, seed)
        if self.args.split not in config.splits:
            raise ValueError(
                f"{config.path}: no split '{self.args.split}' to validate on; the dataset config has {', '.join(config.splits)}"
            )
        self.images[self.args.split] = load_split(config, self.args.split)
        return {"names": dict(enumerate(config.names)), "nc": len(config.names), "channels": 3} | {
            s: s for s in config.splits
        }

    def get_model(
        self, cfg: str | dict[str, Any] | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> GroundingModel:
        """Build the model with the text encoder's width, and start it from weights where given."""
        encoder = self._open_bank().encoder
        model = GroundingModel(cfg or self.args.model, verbose=verbose and RANK == -1, text_dim=encoder.width)
        if isinstance(weights, GroundingModel):
            if weights.text_fingerprint and weights.text_fingerprint != encoder.fingerprint:
                LOGGER.warning(
                    f"the weights were trained with the text encoder {weights.text_model}, not with {encoder.name}: "
                    "their words have to be learned again"
                )
            model.load(weights)
        model.text_model, model.text_fingerprint = encoder.name, encoder.fingerprint
        return model

    def setup_model(self) -> Any:
        """Build or load the model; one that came ready made, as to a process of a parallel training, needs a bank."""
        checkpoint = super().setup_model()
        if self.bank is None:
            self._open_bank()
        return checkpoint

    def _open_bank(self) -> TextBank:
        """The features of the data set's expressions, as far as they have been computed."""
        self.bank = TextBank(load_text_encoder(self.args.text_model, self.args.text_weights), self.config.root)
        return self.bank

    def set_model_attributes(self) -> None:
        """Attach names and hyperparameters; bfloat16 on a CPU is ours to do, as the stock loop refuses it."""
        self.model.names = self.data["names"]
        self.model.args = self.args
        if self.device.type == "cpu" and self.args.amp == "bf16":
            self.model.bf16, self.args.amp = True, False

    def set_class_weights(self) -> None:
        """Expressions have no class frequencies to weigh."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Dataset of a split."""
        if mode == "train":
            return GroundingDataset(self.images["train"], self.config.names, self.args)
        return EvaluationDataset(self.images[img_path], self.args.imgsz)

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> GroundingLoader:
        """Loader of a process' share of a split; in training its order depends on (seed, epoch, index) alone."""
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
        n, seed = len(dataset), self.args.seed
        train = mode == "train"
        sides = modality_sides(dataset.images) if train and self.args.balance else []
        sampler = EpochSampler(n, seed, rank, self.world_size, shuffle=train, sides=sides)
        workers = self.args.workers if self.device.type != "cpu" else 0
        return GroundingLoader(dataset, batch_size, sampler, workers, pin=self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Loaders and optimiser as the base trainer builds them, and all captions' features."""
        BaseTrainer._build_train_pipeline(self)  # DetectionTrainer's would count detections per image
        assert self.bank is not None
        texts = {c for images in self.images.values() for p in images for own in p.captions for c in own}
        mirrored = {flip(t, h, v) for t in texts for h, v in ((True, False), (False, True), (True, True))}
        texts |= {t for t in mirrored if t is not None}
        texts |= {v.text for t in list(texts) for v in swap(t)}
        with torch_distributed_zero_first(LOCAL_RANK):
            if RANK > 0:
                self._open_bank()  # anew: it now holds what the first process has computed and saved
            self.bank.encoder.to(self.device)
            self.bank.precompute(sorted(texts))

    def build_optimizer(
        self, model: nn.Module, name: str = "AdamW", *args: Any, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """The stock optimiser, with decay on matrices and kernels only: never on gates, scales and temperatures."""
        optimizer = super().build_optimizer(model, name, *args, **kwargs)
        groups = {g.get("param_group"): g for g in optimizer.param_groups}
        if {"weight", "bn"} <= groups.keys():
            spared = [p for p in groups["weight"]["params"] if p.ndim < 2 or p.shape[0] == 1]
            groups["weight"]["params"] = [p for p in groups["weight"]["params"] if not (p.ndim < 2 or p.shape[0] == 1)]
            groups["bn"]["params"] = [*groups["bn"]["params"], *spared]
        return optimizer

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, scale images to 0..1, look up the expressions' features [B, T, D]."""
        assert self.bank is not None
        batch = super().preprocess_batch(batch)  # with multi_scale too
        flat = [t for texts in batch["texts"] for t in texts]
        vectors = self.bank(flat).to(self.device)  # [B * T, D], of length 1
        if self.args.text_noise:
            vectors = vectors + torch.randn_like(vectors) * (self.args.text_noise / vectors.shape[1] ** 0.5)
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        batch["txt_feats"] = vectors.view(len(batch["texts"]), -1, vectors.shape[1])
        return batch

    def get_validator(self) -> GroundingValidator:
        """Validator on the loader of the validation split."""
        validator = GroundingValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )
        validator.config, validator.images, validator.bank = self.config, self.images[self.args.split], self.bank
        return validator

    def label_loss_items(self, loss_items: dict[str, Tensor] | None = None, prefix: str = "train") -> Any:
        """Names (and values) of the loss terms; validation has none, as it asks one true expression at a time."""
        if prefix == "val":
            return [] if loss_items is None else {}
        return super().label_loss_items(loss_items, prefix)

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Save augmented images with their expressions and boxes."""
        from optisar_yolo.engine.report import training_sheet

        path = self.save_dir / f"train_batch{ni}.jpg"
        training_sheet(batch, path)
        self.on_plot(path)

    def plot_training_labels(self) -> None:
        """Nothing to plot: stock label plots are of classes."""

    def save_model(self) -> bool:
        """Save last.pt and best.pt, each replaced in one step, and with them all that an exact resume needs."""
        if self.bank is not None:
            self.bank.save()  # a vector's last bits depend on the batch it was encoded in: a resumed run needs these
        targets: dict[str, Path] = {"last": self.last, "best": self.best}
        partial = {k: p.with_name(p.name + ".partial") for k, p in targets.items()}
        for p in partial.values():
            p.unlink(missing_ok=True)
        try:
            self.last, self.best = partial["last"], partial["best"]
            saved = super().save_model()
        finally:
            self.last, self.best = targets["last"], targets["best"]
        add_exact_state(self, partial["last"])
        for k, p in partial.items():
            if p.exists():
                os.replace(p, targets[k])
        return bool(saved)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore the run in full precision: weights, averages, optimiser and random generators."""
        super()._load_checkpoint_state(ckpt)
        restore_exact_state(self, ckpt)

    def final_eval(self) -> None:
        """Strip the checkpoints, validate the best one, with plots where asked for, and store its calibration."""
        with torch_distributed_zero_first(LOCAL_RANK):  # all processes read the files as they stay
            if RANK in {-1, 0}:
                for path in (self.last, self.best):
                    if path.exists():
                        strip(path)
        if not self.best.exists():
            return
        LOGGER.info(f"\nValidating {self.best}...")
        self.validator.args.plots = self.args.plots
        self.validator.fit = True
        self.metrics = self.validator(model=self.best)
        if self.metrics is None:  # the first process has the figures
            return
        if self.validator.calibration is not None:
            store_calibration(self.best, self.best, self.validator.calibration)
        self.metrics.pop("fitness", None)
        self.run_callbacks("on_fit_epoch_end")

    def plot_metrics(self) -> None:
        """Save the curves of losses and figures over the epochs."""
        from optisar_yolo.engine.report import training_curves

        training_curves(self.csv, self.save_dir / "results.png")
        self.on_plot(self.save_dir / "results.png")


def _tell_epoch(trainer: GroundingTrainer) -> None:
    """Callback: the sampler learns the epoch that is about to start.

    In a parallel training, whose checkpoints hold the first process' random generators alone, the network's noise
    follows from seed, epoch and rank, so that a resumed run draws what an unbroken one would have.
    """
    trainer.train_loader.sampler.set_epoch(trainer.epoch)
    if RANK != -1:
        torch.manual_seed(int(np.random.SeedSequence([trainer.args.seed, trainer.epoch, RANK]).generate_state(1)[0]))
