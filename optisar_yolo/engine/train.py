"""Training: Ultralytics' loop with grounding data, expressions, validator and an exact resume.

1. ``get_dataset`` reads the dataset config; the order of ``get_dataloader`` depends on seed and epoch alone.
2. ``get_model`` builds the network with the width of its text encoder.
3. ``_build_train_pipeline`` encodes all expressions of the data set; ``preprocess_batch`` looks up their features.
4. Ultralytics' loop computes the loss, steps the optimiser and validates each epoch
   (:class:`~optisar_yolo.engine.val.GroundingValidator`); :mod:`optisar_yolo.engine.monitor` records its parts.
5. ``save_model`` writes checkpoints that an interrupted run resumes from exactly.
6. ``final_eval`` strips them, validates the best one and fits its calibration. A run that was killed there is resumed
   there.

A run folder belongs to one training at a time: :class:`~optisar_yolo.engine.before.FolderLock`.
"""

from __future__ import annotations

import time
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_save_dir
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER, RANK, YAML
from ultralytics.utils.torch_utils import torch_distributed_zero_first, unwrap_model

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
from optisar_yolo.engine.before import FolderLock, check_given, check_start
from optisar_yolo.engine.checkpoint import store_calibration, store_facts
from optisar_yolo.engine.facts import facts_of, facts_of_training, figures_of_rows
from optisar_yolo.engine.loggers import suit_loggers
from optisar_yolo.engine.resume import add_exact_state, all_epochs_done, restore_exact_state, strip_checkpoint
from optisar_yolo.engine.start import (
    START,
    is_trained,
    keep_start,
    mean_with_start,
    open_start,
    span_average,
    suit,
)
from optisar_yolo.engine.val import GroundingValidator
from optisar_yolo.language import flip, reword, swap, wordings
from optisar_yolo.nn import ContrastiveHead, GroundingModel
from optisar_yolo.plugin import keep_keys
from optisar_yolo.text import TextFeatureCache, load_text_encoder
from optisar_yolo.utils import PART, missing_folders, naming, remove_empty, write_atomic

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
    "cache": "auto",  # small data sets stay in memory; False keeps nothing, ram and disk are Ultralytics'
}

if LOCAL_RANK != -1:  # a process of a parallel training rebuilds the trainer from this module and needs our keys
    keep_keys()


class GroundingTrainer(DetectionTrainer):
    """Trainer of :class:`~optisar_yolo.nn.GroundingModel`; takes the arguments of Ultralytics' trainer."""

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        given = dict(overrides or {})
        check_given(given)
        if str(given.get("optimizer", "")).lower() in ("auto", "musgd"):
            LOGGER.warning(f"optimizer={given['optimizer']} may orthogonalise gates; using AdamW")
            given["optimizer"] = "AdamW"
        self.given = frozenset(given)  # what a training from weights does not overrule
        self.goes_on = False  # from trained weights, of which it has nearly all
        start = given.get("pretrained") if LOCAL_RANK == -1 and not given.get("resume") else None
        self.start = open_start(start) if isinstance(start, str | Path) else None
        if self.start is not None:
            check_start(given.get("model"), self.start, str(start))
        if not given.get("resume"):
            given = (
                TRAIN_DEFAULTS | {"nbs": given.get("batch", 16)} | given
            )  # nbs = batch: one optimiser step per batch
        self.text_features: TextFeatureCache | None = None
        self.last: Path
        self.best: Path
        self._lock: FolderLock | None = None
        self._made: list[Path] = []  # folders of this run that did not exist before
        try:
            super().__init__(cfg, given, _callbacks)
            if self._lock is None and LOCAL_RANK == -1:
                self._lock = FolderLock(self.save_dir)
        except BaseException:
            self._release()
            self._discard()
            raise
        suit_loggers(self.callbacks)
        for event, callback in {"on_train_epoch_start": _set_epoch, **monitor.CALLBACKS}.items():
            self.add_callback(event, callback)

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Find the run to resume, and claim a run folder that exists before anything in it is written anew."""
        super().check_resume(overrides)
        if LOCAL_RANK == -1:
            folder = Path(get_save_dir(self.args))
            self._made = missing_folders(folder)
            if not self._made:
                self._lock = FolderLock(folder)

    def train(self) -> None:
        """Train, and release the run folder."""
        try:
            if getattr(self, "ddp", False) and self.start is not None:
                self.setup_model()  # here, where it is known what the user set; the processes get the network
            super().train()
        except BaseException:
            self._release()
            self._discard()
            raise
        finally:
            self._release()

    def _discard(self) -> None:
        """Remove the folder of a run that could not begin: it is new and holds nothing but the settings."""
        if self._made and self._made[0].is_dir():
            folder, weights = self._made[0], self._made[0] / "weights"
            if {p.name for p in folder.iterdir()} <= {"args.yaml", "weights"} and not any(weights.glob("*")):
                (folder / "args.yaml").unlink(missing_ok=True)
                remove_empty([weights] if weights.is_dir() else [])
                remove_empty(self._made)

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
        return {"names": dict(enumerate(config.names)), "nc": len(config.names), "channels": config.channels} | {
            s: s for s in config.splits
        }

    def get_model(
        self, cfg: str | dict[str, Any] | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> GroundingModel:
        """Build the model with the text encoder's width, and load weights where given."""
        encoder = self._open_text_features().encoder
        cfg = cfg or self.args.model
        source: Any = self.start or weights
        if isinstance(cfg, str) and cfg.endswith(".safetensors"):
            opened: Any = open_start(cfg)
            source, cfg = source or (None if self.args.pretrained is False else opened), opened.yaml
        channels = self.data["channels"]
        model = GroundingModel(cfg, channels, verbose=verbose and RANK == -1, text_dim=encoder.width)
        model.text_model, model.text_fingerprint = encoder.name, encoder.fingerprint
        before: dict[str, Any] = {}
        if source is not None:
            if is_trained(source) and source.text_fingerprint != encoder.fingerprint:
                LOGGER.warning(
                    f"the weights were trained with the text encoder {source.text_model}, not with {encoder.name}: "
                    "their words have to be learned again"
                )
            found = model.load(source, verbose=RANK in {-1, 0})
            if found.goes_on and is_trained(source):
                before = facts_of(source) or {"categories": list(source.names.values())}
                self.goes_on = True
                if not self.resume:
                    self._suit_to_weights()
        if self.args.average and not self.goes_on:
            raise ValueError(
                f"average={self.args.average:g} needs trained weights to start from, whose words are to be kept: give "
                "model= or pretrained= weights of this kind of network, or leave it out"
            )
        captions = [c for image in self.images["train"] for texts in image.captions for c in texts]
        captions = captions[:: len(captions) // WORDINGS_SAMPLE + 1]
        rng = np.random.default_rng(self.args.seed)  # a share of them is said in other words: commands, questions
        words = self.config.vocabulary
        model.wordings = wordings([reword(c, rng, words) if rng.random() < self.args.reword else c for c in captions])
        model.facts = before if self.resume and before else self._facts(before)
        model.nouns = self.config.vocabulary.to_dict()
        return model

    def _suit_to_weights(self) -> None:
        """Use the settings for a training that starts from weights, where the user set no others, and say so."""
        if (said := suit(self.args, self.given)) and RANK in {-1, 0}:
            LOGGER.info(said)
            YAML.save(self.save_dir / "args.yaml", vars(self.args))

    def _facts(self, before: dict[str, Any]) -> dict[str, Any]:
        """Return what the weights will know."""
        a = self.args
        sizes = [round(a.imgsz * (1 + sign * float(a.multi_scale or 0)) / 32) * 32 for sign in (-1, 1)]
        configs = [self.config, *(load_dataset_config(name) for name in self.config.include)]
        start = Path(str(a.pretrained if self.start is not None else a.model)).name
        return facts_of_training(
            configs, self.images["train"], (sizes[0], sizes[1]), a.epochs, before, start if before else ""
        )

    def setup_model(self) -> Any:
        """Build or load the model, and open its text encoder where the model came ready made."""
        given = self.args.pretrained
        if self.start is not None:
            self.args.pretrained = True  # opened already, in forms that Ultralytics does not read
        try:
            checkpoint = super().setup_model()
        finally:
            self.args.pretrained = given
        if self.text_features is None:
            self._open_text_features()
        return checkpoint

    def _open_text_features(self) -> TextFeatureCache:
        """Open the text encoder, with the features that the data set's cache has already."""
        encoder = load_text_encoder(self.args.text_model, self.args.text_weights)
        self.text_features = TextFeatureCache(encoder, self.config.root)
        return self.text_features

    def _setup_train(self) -> None:
        """Set up as the base trainer does; keep the start and set the span of the average where they are wanted."""
        super()._setup_train()
        span_average(self)
        if self.args.average and not self.resume and RANK in {-1, 0}:
            keep_start(self)

    def _model_train(self) -> None:
        """Set the network in training mode; the normalisations of frozen layers stay as they are, also in the head."""
        super()._model_train()
        frozen = [""] if self.args.freeze_norms else self.freeze_layer_names  # "" is part of every name
        for name, module in self.model.named_modules():
            # Ultralytics' own stops the norm of a score, whose statistics the score computes itself.
            if isinstance(module, nn.modules.batchnorm._BatchNorm | ContrastiveHead):
                if any(part in f"{name}." for part in frozen):
                    module.eval()

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

    def progress_string(self) -> str:
        """Return the heading of an epoch's figures; with "_loss", names of more than ten letters run together."""
        names = ("Epoch", "GPU_mem", *(n.removesuffix("_loss") for n in self.loss_names), "Instances", "Size")
        return "\n" + "".join(f"{name:>11}" for name in names)

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
            # Last bits of a feature depend on the device it was encoded on: a resumed run needs the same features.
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
        super()._load_checkpoint_state(ckpt)  # makes the average anew
        span_average(self)
        restore_exact_state(self, ckpt)

    def final_eval(self) -> None:
        """Strip the checkpoints, validate the best one (with plots where set), and store its calibration."""
        with torch_distributed_zero_first(LOCAL_RANK):  # all processes read the stripped file
            if RANK in {-1, 0} and self.best.exists():
                strip_checkpoint(self.best)
                if self.args.average and self.best.with_name(START).exists():
                    mean_with_start(self.best, self.args.average)
        if self.best.exists():
            self._validate_best()
        if RANK in {-1, 0} and self.last.exists():
            strip_checkpoint(self.last)  # at the end: until then, a run that is killed can be resumed
            self.last.with_name(START).unlink(missing_ok=True)
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
        if facts := facts_of(unwrap_model(self.model)):
            where = f"{self.config.path.name} {self.args.split}, {self.args.imgsz} px"
            facts["figures"] = facts["figures"] | {where: figures_of_rows(self.validator.metrics.rows())}
            store_facts(self.best, self.best, facts)
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
