"""The whole job: extract what is missing, build the vocabulary, train, validate, keep the best, export."""

import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from captionlens.datasets import Dataset, Record
from captionlens.datasets.blanked_phrases import BlankedReader, blanked_cells, blanked_reader
from captionlens.datasets.mirroring import mirror_pairs
from captionlens.datasets.phrase_targets import TargetsReader, targets_reader
from captionlens.errors import DatasetError, OptionError, RunError
from captionlens.features.backbones import Backbone
from captionlens.features.backbones.base import Tail, has_fast_bfloat16
from captionlens.features.extract import accelerator, extract, store_index
from captionlens.features.store import FeatureStore, StoreIndex
from captionlens.files import write_text
from captionlens.memory import keep_freed_memory
from captionlens.network import CaptioningNetwork
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.scoring.scores import References, quick_cider
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.callbacks import Keeper, Progress, plot_losses
from captionlens.training.config import TrainingConfig
from captionlens.training.distributed import ALONE, Processes
from captionlens.training.module import CaptioningModule
from captionlens.training.run_export import export_run
from captionlens.training.run_folder import RunFolder
from captionlens.training.starting import load_starting_weights
from captionlens.training.tuning import starting_backbone

log = logging.getLogger("captionlens")


def train(
    run: RunFolder,
    dataset: Dataset,
    *,
    devices: str = "auto",
    precision: str = "auto",
    progress: bool = True,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Do the whole job of a run, from where it stands.

    Args:
        run: as `start_run` or `resume_run` gave it.
        dataset: with a train and a val split.
        devices: "auto", "cpu" or "cuda".
        precision: "auto" (bfloat16 where the processor or card has it), "32" or "bf16".
        progress: show bars on a terminal.
        processes: that train together, each with its part of every batch; the first does all the rest.

    Returns:
        The content of summary.json.

    Raises:
        CaptionlensError: a setting, the store, the run folder or the data set is not fit for it.
    """
    if processes.from_first(lambda: run.finished):
        log.info("%s is finished already", run.path)
        summary: dict[str, Any] = json.loads((run.path / "summary.json").read_text())
        return summary
    began = time.perf_counter()
    training, validation = dataset.split("train"), dataset.split("val")
    config = run.config
    # A wrong word is refused before the work, not after the features.
    kind, numbers = processes.from_first(lambda: _devices(devices, precision, processes))
    if processes.count > 1:
        # The first downloads weights that are missing, and tells what is wrong, before all read them.
        processes.from_first(lambda: starting_backbone(run).name)
    backbone = starting_backbone(run)
    grid = store_index(backbone)
    pl.seed_everything(config.seed, verbose=False)

    validation = validation[: config.validation_photographs]
    targets = _targets(run, grid)
    blanked = blanked_reader(targets) if targets is not None and config.blanking else None
    left_out = processes.from_first(lambda: _features(run, training, validation, kind, progress, blanked))
    usable = [record for record in validation if record.image not in left_out]
    processes.from_first(lambda: _check_validation(dataset, len(usable), processes))
    store = FeatureStore.open(run.features)
    features_done = time.perf_counter()

    vocabulary = processes.from_first(lambda: _vocabulary(run, training))
    training_data = CaptionedPhotographs(
        training,
        store,
        vocabulary,
        config.max_words,
        mirror=mirror_pairs(config.mirror_words) if config.mirror else None,
        targets=targets,
        blanked=blanked,
    )
    validation_data = CaptionedPhotographs(usable, store, vocabulary, config.max_words)
    if kind == "cuda":
        training_data.keep_on(torch.device(kind, processes.rank % processes.local_count))
    log.info(
        "training on %d captions of %d photographs, validating on %d; %d words",
        training_data.caption_count,
        len(training_data),
        len(validation_data),
        len(vocabulary),
    )
    tail = backbone.split(config.finetune_blocks)[1] if config.finetune_blocks else None
    network = make_network(config, vocabulary, grid, tail)
    if run.data.from_run and not run.checkpoint:
        load_starting_weights(network, Path(run.data.from_run), config.starting_temperature)
    module = _module(config, network, vocabulary, training_data, validation_data, usable, processes)
    keeper = _fit(run, module, usable, kind=kind, precision=numbers, progress=progress)
    fitted = time.perf_counter()

    def finish() -> dict[str, Any]:
        plot_losses(keeper.history, run.path / "loss.png")
        log.info("kept epoch %d: CIDEr-D %.1f on validation", keeper.best["epoch"], 100 * keeper.best["val_cider"])
        export_run(run, examples=[record.image for record in usable[:8]])
        ended = time.perf_counter()
        summary = {
            "dataset": dataset.name,
            "captions": training_data.caption_count,
            "photographs": {
                "train": len(training_data),
                "val": len(validation_data),
                "unreadable": len(left_out),
            },
            "vocabulary": len(vocabulary),
            "best": keeper.best,
            "history": keeper.history,
            "captions_per_second": round(module.caption_total / max(module.seconds["training"], 1e-9), 1),
            "seconds": {
                "features": round(features_done - began, 1),
                "training": round(module.seconds["training"], 1),
                "validation": round(module.seconds["validation"], 1),
                "export": round(ended - fitted, 1),
                "this_command": round(ended - began, 1),
            },
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "processes": processes.count,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        write_text(run.path / "summary.json", json.dumps(summary, indent=2) + "\n")
        return summary

    return processes.from_first(finish)


def _devices(devices: str, precision: str, processes: Processes) -> tuple[str, Any]:
    """The accelerator, "cpu" or "cuda", and Lightning's word for the precision."""
    kind = accelerator(devices)
    if kind == "cuda" and processes.local_count > torch.cuda.device_count():
        raise OptionError(
            f"{processes.local_count} processes for {torch.cuda.device_count()} CUDA cards: start one for each card"
        )
    return kind, choose_precision(precision, kind)


def _check_validation(dataset: Dataset, count: int, processes: Processes) -> None:
    if not count:
        raise DatasetError(dataset.root, "no photograph of the val split can be read")
    if count < processes.count:
        raise DatasetError(
            dataset.root, f"photographs of the val split: {count}, too few for {processes.count} processes"
        )


def _features(
    run: RunFolder,
    training: Sequence[Record],
    validation: Sequence[Record],
    kind: str,
    progress: bool,
    blanked: BlankedReader | None,
) -> set[Path]:
    """Put all grids into the run's store; the photographs that could not be read."""
    extraction = extract((*training, *validation), run.features, _frozen_part(run), device=kind, progress=progress)
    for error in extraction.unreadable:
        log.warning("left out %s", error)
    there = extraction.extracted + extraction.already
    log.info("features of %d photographs, %d of them new", there, extraction.extracted)
    left_out = {Path(error.path) for error in extraction.unreadable}
    readable = [record for record in training if record.image not in left_out]
    if run.config.mirror:
        mirrored = extract(readable, run.features, _frozen_part(run), device=kind, mirrored=True, progress=progress)
        log.info("mirrored, %d of them new", mirrored.extracted)
    if blanked is not None:
        cells = blanked_cells(blanked)
        without = extract(readable, run.features, _frozen_part(run), device=kind, blanked=cells, progress=progress)
        log.info(
            "%d with something blanked out, %d of them new", without.extracted + without.already, without.extracted
        )
    return left_out


def _frozen_part(run: RunFolder) -> Backbone:
    """What makes of a photograph what the store keeps; extraction fuses it, so each needs its own."""
    backbone = starting_backbone(run)
    return backbone.split(run.config.finetune_blocks)[0] if run.config.finetune_blocks else backbone


def _targets(run: RunFolder, index: StoreIndex) -> TargetsReader | None:
    """What tells where the words of a photograph's captions should look, if the run has a use for it."""
    config = run.config
    if run.data.boxes is None or not (config.attention_supervision or config.blanking):
        return None
    return cache(targets_reader(run.data.boxes, index.rows, index.columns))  # asked for features and for batches


def _vocabulary(run: RunFolder, training: Sequence[Record]) -> Vocabulary:
    path = run.path / "tokenizer.json"
    if run.checkpoint and path.exists():
        return Vocabulary.load(path)
    if run.data.from_run:
        vocabulary = Vocabulary.load(Path(run.data.from_run) / "tokenizer.json")
        vocabulary.save(path)
        return vocabulary
    vocabulary = Vocabulary.build(
        (caption for record in training for caption in record.captions),
        size=run.config.vocabulary_size,
        min_count=run.config.min_count,
    )
    vocabulary.save(path)
    return vocabulary


def make_network(
    config: TrainingConfig, vocabulary: Vocabulary, index: StoreIndex, tail: Tail | None = None
) -> CaptioningNetwork:
    """The network that these settings ask for, to be trained on grids of a backbone or on what its tail takes."""
    return CaptioningNetwork(
        config.network_config(
            vocabulary=len(vocabulary), rows=index.rows, columns=index.columns, channels=index.channels
        ),
        tail,
    )


def _module(
    config: TrainingConfig,
    network: CaptioningNetwork,
    vocabulary: Vocabulary,
    training: CaptionedPhotographs,
    validation: CaptionedPhotographs,
    records: Sequence[Record],
    processes: Processes,
) -> CaptioningModule:
    references = References({number: record.captions for number, record in enumerate(records)})

    def score(captions: Sequence[str]) -> float:
        return quick_cider(dict(enumerate(captions)), references)

    return CaptioningModule(network, config, training, validation, vocabulary, score, processes)


def _fit(
    run: RunFolder,
    module: CaptioningModule,
    validation: Sequence[Record],
    *,
    kind: str,
    precision: Any,
    progress: bool,
) -> Keeper:
    keeper = Keeper(
        run.path,
        run.config.keep,
        [record.image.name for record in validation],
        [list(record.captions) for record in validation],
    )
    processes = module.processes
    keep_freed_memory()
    logs = run.path / "logs"
    with warnings.catch_warnings():
        hush_lightning()
        trainer = make_trainer(
            run.config,
            kind,
            precision,
            processes,
            callbacks=[Progress(progress and processes.first), keeper],
            logger=[TensorBoardLogger(logs, name="", version="tensorboard"), CSVLogger(logs, name="csv")],
            default_root_dir=run.path,
        )
        checkpoint = run.checkpoint
        if checkpoint:
            log.info("going on from %s", checkpoint)
        # The checkpoint is this run's own; it holds plain state that torch loads without unpickling code.
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not keeper.history:
        raise RunError(run.path, "trained for no epoch")
    return keeper


def hush_lightning() -> None:
    """Silence its advice: it warns of few loader workers, but to read mapped features in this process is faster."""
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def make_trainer(
    config: TrainingConfig, kind: str, precision: Any, processes: Processes = ALONE, **others: Any
) -> pl.Trainer:
    """The trainer of a run; what it shows and keeps is up to `others`, more of Lightning's options.

    Args:
        config: of the run.
        kind: "cpu" or "cuda".
        precision: as `choose_precision` gives it.
        processes: that train together.
        others: laid over the run's own.
    """
    options: dict[str, Any] = {
        "accelerator": kind,
        "devices": processes.local_count,
        "num_nodes": processes.count // processes.local_count,
        "strategy": DDPStrategy(gradient_as_bucket_view=True) if processes.count > 1 else "auto",
        "precision": precision,
        "max_epochs": config.epochs,
        "gradient_clip_val": config.gradient_clip,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "reload_dataloaders_every_n_epochs": 1,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**options | others)


def choose_precision(precision: str, kind: str) -> Any:
    """Lightning's word for "auto" (bfloat16 where the processor or card has it), "32" or "bf16".

    Raises:
        OptionError: another word.
    """
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if kind == "cuda" else has_fast_bfloat16()
        return "bf16-mixed" if fast else "32-true"
    choices = {"32": "32-true", "bf16": "bf16-mixed"}
    if precision not in choices:
        raise OptionError(f"precision must be auto, 32 or bf16, got {precision!r}")
    return choices[precision]
