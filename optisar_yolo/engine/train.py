"""Training: Ultralytics' loop with grounding data, expressions, validator and an exact resume.

1. ``get_dataset`` reads the dataset config; the order of ``get_dataloader`` depends on seed and epoch alone.
2. ``get_model`` builds the network with the width of its text encoder.
3. ``_build_train_pipeline`` encodes all expressions of the data set; ``preprocess_batch`` looks up their features.
4. Ultralytics' loop computes the loss, steps the optimiser and validates each epoch
   (:class:`~optisar_yolo.engine.val.GroundingValidator`); :mod:`optisar_yolo.engine.monitor` records its parts.
5. ``save_model`` writes checkpoints that an interrupted run resumes from exactly.
6. ``final_eval`` strips them, validates the best one and fits its calibration. A run that was killed there is resumed
   there.

A run folder belongs to one training at a time: :class:`FolderLock`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_save_dir
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
    modality_groups,
)
from optisar_yolo.engine import monitor
from optisar_yolo.engine.checkpoint import (
    add_exact_state,
    all_epochs_done,
    restore_exact_state,
    store_calibration,
    strip_checkpoint,
)
from optisar_yolo.engine.val import GroundingValidator
from optisar_yolo.language import flip, swap, wordings
from optisar_yolo.nn import GroundingModel
from optisar_yolo.plugin import keep_keys
from optisar_yolo.text import TextFeatureCache, load_text_encoder
from optisar_yolo.utils import PART, locked, naming, write_atomic

WORDINGS_SAMPLE = 10_000  # captions, evenly spread, whose kinds of wording are kept with the weights
# Defaults: the paper's recipe (Sect. V-A), and augmentation that keeps captions true in the place of Ultralytics'.
TRAIN_DEFAULTS: dict[str, Any] = {
    "optimizer": "AdamW",  # stock "auto" may pick an optimiser that orthogonalises gates
    "lr0": 2e-3,
    "lrf": 0.01,
    "cos_lr": True,
    "momentum": 0.9,
    "weight_decay": 0.025,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,  # replaces the data set's captions by others that hold for all four images
    "close_mosaic": 0,
    "hsv_h": 0.0,  # like hsv_s, only for optical images whose captions name no colour
    "hsv_s": 0.0,
    "hsv_v": 0.4,  # brightness, contrast and gamma
    "fliplr": 0.5,  # captions are rewritten
    "flipud": 0.5,
    "scale": 0.3,  # shrinks the whole image, so that positions in it stay true
    "translate": 0.0,
    "erasing": 0.0,
}

if LOCAL_RANK != -1:  # a process of a parallel training rebuilds the trainer from this module and needs our keys
    keep_keys()


def check_given(given: Mapping[str, Any]) -> None:
    """Check what a training was given, before its folder is made.

    Raises:
        ValueError: No dataset config or one that cannot be used, or a batch size that is found by trying.
    """
    batch = 16 if given.get("batch") is None else given["batch"]
    if isinstance(batch, bool) or not isinstance(batch, int | float) or batch < 1 or batch != int(batch):
        raise ValueError(
            f"batch={batch} is not supported: batch sizes are not found by trying here, since memory depends on the "
            "expressions too; give a whole number, such as batch=16, and halve it where memory is short"
        )
    if given.get("data") is not None and not given.get("resume"):
        load_dataset_config(given["data"])


class FolderLock:
    """Keeps a second training out of a run folder, until it is released or the process ends.

    Args:
        folder: The run folder.

    Raises:
        ValueError: Another training writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self._held = ExitStack()
        self.path = folder / ".training.lock"
        if self._held.enter_context(locked(self.path, wait=False)) is None:
            self._held.close()
            raise ValueError(
                f"{folder}: another training writes to this run folder; wait for its end, or give another name= "
                "(without exist_ok=True, each run gets a folder of its own)"
            )

    def release(self) -> None:
        """Let others train in the folder."""
        self.path.unlink(missing_ok=True)
        self._held.close()


class GroundingTrainer(DetectionTrainer):
    """Trainer of :class:`~optisar_yolo.nn.GroundingModel`; takes the arguments of Ultralytics' trainer."""

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        given = dict(overrides or {})
        check_given(given)
        if given.get("compile"):
            raise ValueError(
                "compile=True is not supported: rows of the network depend on the expressions; leave it out"
            )
        if str(given.get("optimizer", "")).lower() in ("auto", "musgd"):
            LOGGER.warning(f"optimizer={given['optimizer']} may orthogonalise gates; using AdamW")
            given["optimizer"] = "AdamW"
        if not given.get("resume"):
            given = (
                TRAIN_DEFAULTS | {"nbs": given.get("batch", 16)} | given
            )  # nbs = batch: one optimiser step per batch
        self.text_features: TextFeatureCache | None = None
        self.last: Path
        self.best: Path
        self._lock: FolderLock | None = None
        try:
            super().__init__(cfg, given, _callbacks)
            if self._lock is None and LOCAL_RANK == -1:
                self._lock = FolderLock(self.save_dir)
        except BaseException:
            self._release()
            raise
        for event, callback in {"on_train_epoch_start": _set_epoch, **monitor.CALLBACKS}.items():
            self.add_callback(event, callback)

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Find the run to resume, and claim a run folder that exists before anything in it is written anew."""
        super().check_resume(overrides)
        if LOCAL_RANK == -1 and (folder := Path(get_save_dir(self.args))).is_dir():
            self._lock = FolderLock(folder)

    def train(self) -> None:
        """Train, and release the run folder."""
        try:
            super().train()
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _do_train(self) -> None:
        """Run the training loop, or of a run whose last epoch is saved only what follows it."""
        if not (self.resume and all_epochs_done(Path(self.args.model), self.args)):
            super()._do_train()
            return
        LOGGER.info(f"{self.args.model}: all epochs are done; validating and calibrating, which was interrupted")
        if self.world_size > 1:
            self._setup_ddp()
        self._setup_train()
        self.epoch, self.epoch_time, self.train_time_start = self.start_epoch - 1, 0.0, time.time()
        self.lr: dict[str, float] = {}
        self.run_callbacks("on_train_start")
        self.final_eval()
        if RANK in {-1, 0}:
            if self.args.plots:
                self.plot_metrics()
            self.run_callbacks("on_train_end")
        self._clear_memory()

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore the run; Ultralytics' own refuses one whose epochs are all done."""
        if ckpt is not None and self.resume and all_epochs_done(ckpt, self.args):
            self.start_epoch = int(ckpt["epoch"]) + 1
            self._load_checkpoint_state(ckpt)
        else:
            super().resume_training(ckpt)

    def get_dataset(self) -> dict[str, Any]:
        """Read the dataset config and its splits, and return Ultralytics' data dictionary."""
        config = load_dataset_config(self.args.data)
        self.config = config
        seed = self.args.seed
        self.images: dict[str, list[ImageRecord]] = {
            "train": load_split(config, "train", self.args.fraction or 1.0, seed)
        }
        for name in config.include:
            other = load_dataset_config(name)
            if other.names != config.names or other.vocabulary is not config.vocabulary:
                raise DataError(
                    f"{config.path}: includes {other.path}, whose names, synonyms, parents or modalities differ; give "
                    "both dataset configs the same"
                )
            self.images["train"] += load_split(other, "train", self.args.fraction or 1.0, seed)
        if self.args.split not in config.splits:
            raise ValueError(
                f"{config.path}: no split '{self.args.split}' to validate on; the dataset config has "
                f"{', '.join(config.splits)}"
            )
        self.images[self.args.split] = load_split(config, self.args.split)
        return {"names": dict(enumerate(config.names)), "nc": len(config.names), "channels": 3} | {
            s: s for s in config.splits
        }

    def get_model(
        self, cfg: str | dict[str, Any] | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> GroundingModel:
        """Build the model with the text encoder's width, and load weights where given."""
        encoder = self._open_text_features().encoder
        model = GroundingModel(cfg or self.args.model, verbose=verbose and RANK == -1, text_dim=encoder.width)
        if isinstance(weights, GroundingModel):
            if weights.text_fingerprint and weights.text_fingerprint != encoder.fingerprint:
                LOGGER.warning(
                    f"the weights were trained with the text encoder {weights.text_model}, not with {encoder.name}: "
                    "their words have to be learned again"
                )
            model.load(weights)
        model.text_model, model.text_fingerprint = encoder.name, encoder.fingerprint
        captions = [c for image in self.images["train"] for texts in image.captions for c in texts]
        model.wordings = wordings(captions[:: len(captions) // WORDINGS_SAMPLE + 1])
        model.nouns = self.config.vocabulary.to_dict()
        return model

    def setup_model(self) -> Any:
        """Build or load the model, and open its text encoder where the model came ready made."""
        checkpoint = super().setup_model()
        if self.text_features is None:
            self._open_text_features()
        return checkpoint

    def _open_text_features(self) -> TextFeatureCache:
        """Open the text encoder, with the features that the data set's cache has already."""
        encoder = load_text_encoder(self.args.text_model, self.args.text_weights)
        self.text_features = TextFeatureCache(encoder, self.config.root)
        return self.text_features

    def set_model_attributes(self) -> None:
        """Attach names and hyperparameters. bfloat16 on a CPU is set here, because Ultralytics' loop refuses it."""
        self.model.names = self.data["names"]
        self.model.args = self.args
        if self.device.type == "cpu" and self.args.amp == "bf16":
            self.model.bf16, self.args.amp = True, False

    def set_class_weights(self) -> None:
        """Do nothing: expressions have no class frequencies."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Return the dataset of a split."""
        if mode == "train":
            return GroundingDataset(
                self.images["train"],
                self.config.names,
                self.args,
                vocabulary=self.config.vocabulary,
                modalities=self.config.modalities,
            )
        return EvaluationDataset(self.images[img_path], self.args.imgsz)

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> GroundingLoader:
        """Return a loader of this process' share of a split; its order depends on seed and epoch alone."""
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode, batch_size)
        n, seed = len(dataset), self.args.seed
        train = mode == "train"
        groups = modality_groups(dataset.images) if train and self.args.balance else []
        sampler = EpochSampler(n, seed, rank, self.world_size, shuffle=train, groups=groups)
        workers = self.args.workers if self.device.type != "cpu" else 0
        return GroundingLoader(dataset, batch_size, sampler, workers, pin=self.device.type == "cuda")

    def _build_train_pipeline(self) -> None:
        """Build loaders and optimiser as the base trainer does, and encode all expressions."""
        BaseTrainer._build_train_pipeline(self)  # DetectionTrainer's counts detections per image
        assert self.text_features is not None
        texts = {c for images in self.images.values() for p in images for own in p.captions for c in own}
        words = self.config.vocabulary
        mirrored = {flip(t, h, v, words) for t in texts for h, v in ((True, False), (False, True), (True, True))}
        texts |= {t for t in mirrored if t is not None}
        texts |= {v.text for t in list(texts) for v in swap(t, vocabulary=words)}
        with torch_distributed_zero_first(LOCAL_RANK):
            if RANK > 0:
                self._open_text_features()  # anew, with the features that the first process has computed and saved
            self.text_features.encoder.to(self.device)
            self.text_features.precompute(sorted(texts))

    def build_optimizer(
        self, model: nn.Module, name: str = "AdamW", *args: Any, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Build Ultralytics' optimiser, with weight decay on matrices and kernels only, not on gates and scales."""
        optimizer = super().build_optimizer(model, name, *args, **kwargs)
        groups = {g.get("param_group"): g for g in optimizer.param_groups}
        if {"weight", "bn"} <= groups.keys():
            decayed: list[Any] = []
            spared: list[Any] = []
            for p in groups["weight"]["params"]:
                (spared if p.ndim < 2 or p.shape[0] == 1 else decayed).append(p)
            groups["weight"]["params"], groups["bn"]["params"] = decayed, [*groups["bn"]["params"], *spared]
        return optimizer

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, scale images to 0..1, and add the expressions' features [B, T, D]."""
        assert self.text_features is not None
        batch = super().preprocess_batch(batch)  # includes multi_scale
        flat = [t for texts in batch["texts"] for t in texts]
        vectors = self.text_features(flat).to(self.device)  # [B * T, D], of length 1
        if self.args.text_noise:
            vectors = vectors + torch.randn_like(vectors) * (self.args.text_noise / vectors.shape[1] ** 0.5)
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        batch["txt_feats"] = vectors.view(len(batch["texts"]), -1, vectors.shape[1])
        return batch

    def get_validator(self) -> GroundingValidator:
        """Return the validator of the validation split."""
        validator = GroundingValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )
        validator.config, validator.images = self.config, self.images[self.args.split]
        validator.text_features = self.text_features
        validator.metrics.modalities = tuple(self.config.modalities)
        return validator

    def label_loss_items(self, loss_items: dict[str, Tensor] | None = None, prefix: str = "train") -> Any:
        """Return names (and values) of the loss terms. Validation has none: it grounds true expressions only."""
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
        """Do nothing: Ultralytics' label plots are of classes."""

    def save_model(self) -> bool:
        """Write last.pt, with the state that an exact resume needs, and best.pt, each replaced in one step."""
        if self.text_features is not None:
            # Last bits of a feature depend on the batch it was encoded in: a resumed run needs the same features.
            self.text_features.save()
        last, best = self.last, self.best
        parts = [path.with_name(f".{path.name}{PART}") for path in (last, best)]
        try:
            self.last, self.best = parts
            with naming(last):
                saved = super().save_model()
            add_exact_state(self, parts[0], last)
            if parts[1].exists():
                write_atomic(best, parts[1].read_bytes())
        finally:
            self.last, self.best = last, best
            for part in parts:
                part.unlink(missing_ok=True)
        return bool(saved)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore weights, averages, optimiser and random generators in full precision."""
        super()._load_checkpoint_state(ckpt)
        restore_exact_state(self, ckpt)

    def final_eval(self) -> None:
        """Strip the checkpoints, validate the best one (with plots where set), and store its calibration."""
        with torch_distributed_zero_first(LOCAL_RANK):  # all processes read the stripped file
            if RANK in {-1, 0} and self.best.exists():
                strip_checkpoint(self.best)
        if self.best.exists():
            self._validate_best()
        if RANK in {-1, 0} and self.last.exists():
            strip_checkpoint(self.last)  # at the end: until then, a run that is killed can be resumed
        if self.metrics is not None and self.best.exists():
            self.run_callbacks("on_fit_epoch_end")

    def _validate_best(self) -> None:
        LOGGER.info(f"\nValidating {self.best}...")
        self.validator.args.plots = self.args.plots
        self.validator.fit = True
        self.metrics = self.validator(model=self.best)
        if self.metrics is None:  # only the first process has the figures
            return
        if self.validator.calibration is not None:
            store_calibration(self.best, self.best, self.validator.calibration, self.validator.match_calibration)
        self.metrics.pop("fitness", None)

    def plot_metrics(self) -> None:
        """Save the curves of losses and figures over the epochs."""
        from optisar_yolo.engine.report import training_curves

        training_curves(self.csv, self.save_dir / "results.png")
        self.on_plot(self.save_dir / "results.png")

    def plot_monitor(self, record: Path) -> None:
        """Save the curves of the monitor's record."""
        from optisar_yolo.engine.monitor_plot import monitor_plot

        self.on_plot(monitor_plot(record, self.save_dir / "monitor.png"))


def _set_epoch(trainer: GroundingTrainer) -> None:
    """Callback: tell the sampler which epoch starts.

    Checkpoints of a parallel training hold the random generators of the first process alone. There the network's noise
    follows from seed, epoch and rank, so that a resumed run draws the same as an unbroken one.
    """
    trainer.train_loader.sampler.set_epoch(trainer.epoch)
    if RANK != -1:
        torch.manual_seed(int(np.random.SeedSequence([trainer.args.seed, trainer.epoch, RANK]).generate_state(1)[0]))
