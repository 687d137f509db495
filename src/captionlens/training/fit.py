"""The training pipeline: extract missing features, build the vocabulary, train, validate, and export."""

import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from captionlens.datasets import Dataset, Record
from captionlens.datasets.several import split_of, titles
from captionlens.errors import DatasetError, OptionError, RunError
from captionlens.features.backbones import Backbone
from captionlens.features.backbones.base import Tail
from captionlens.features.extract import accelerator, store_index
from captionlens.features.store import FeatureStore, StoreIndex
from captionlens.files import write_text
from captionlens.memory import keep_freed_memory
from captionlens.network import CaptioningNetwork
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.scoring.scores import References, quick_cider
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.callbacks import SAMPLES, Keeper, Progress, plot_losses
from captionlens.training.config import TrainingConfig
from captionlens.training.distributed import ALONE, Processes
from captionlens.training.module import CaptioningModule
from captionlens.training.preparation import (
    box_readers,
    extract_features,
    learn_from_teachers,
    run_vocabulary,
    training_grids,
    training_photographs,
)
from captionlens.training.run_export import export_run
from captionlens.training.run_folder import RunFolder
from captionlens.training.starting import load_starting_weights
from captionlens.training.trainer import choose_precision, hush_lightning, make_trainer
from captionlens.training.tuning import starting_backbone

log = logging.getLogger("captionlens")

EXAMPLES = 8  # photographs on which the exported graphs are compared with the network


def train(
    run: RunFolder,
    datasets: Sequence[Dataset],
    *,
    devices: str = "auto",
    precision: str = "auto",
    export: bool = True,
    progress: bool = True,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Run the training pipeline of a run, from its last checkpoint if there is one.

    Args:
        run: of `start_run` or `resume_run`.
        datasets: with train and val splits; a data set may lack one of them, if another has it.
        devices: "auto", "cpu" or "cuda".
        precision: "auto" (bfloat16 where the processor or GPU has it), "32" or "bf16".
        export: write the kept epoch as the model directory `run.model`.
        progress: show progress bars on a terminal.
        processes: of distributed training, each with its part of every batch; the first does everything else.

    Returns:
        The content of summary.json.

    Raises:
        CaptionlensError: a setting, the store, the run folder or the data set is unsuitable.
    """
    if processes.from_first(lambda: run.finished):
        log.info("%s is finished already", run.path)
        processes.from_first(lambda: export_run(run) if export and not run.model.exists() else None)
        summary: dict[str, Any] = json.loads((run.path / "summary.json").read_text())
        return summary
    if not export:
        processes.from_first(lambda: _check_no_model(run))
    began = time.perf_counter()
    config = run.config
    training = split_of(datasets, "train")
    photographs = [*chain(*training)]
    validation = [records[: config.validation_photographs] for records in split_of(datasets, "val")]
    # An invalid value is refused here, before the features are extracted.
    kind, numbers = processes.from_first(lambda: _devices(devices, precision, processes))
    backbone, frozen, tail = _seeded_backbone(run, processes)

    grid = store_index(backbone)
    boxes = box_readers(run, grid)
    left_out = processes.from_first(
        lambda: extract_features(run, photographs, [*chain(*validation)], frozen, boxes.blanked, kind, progress)
    )
    by_set = {
        dataset.name: [record for record in records if record.image not in left_out]
        for dataset, records in zip(datasets, validation, strict=True)
        if records
    }
    usable = [*chain(*by_set.values())]
    processes.from_first(lambda: _check_validation(datasets, by_set, processes))
    store = FeatureStore.open(run.features)
    features_done = time.perf_counter()

    vocabulary = processes.from_first(lambda: run_vocabulary(run, photographs))
    half = str(numbers).startswith("bf16")
    grids = training_grids(run, photographs, store, frozen, kind, half=half)
    training_data = training_photographs(run, training, grids, vocabulary, boxes)
    if run.data.teachers:
        learn_from_teachers(run, training_data, vocabulary, progress, processes)
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
    network = make_network(config, vocabulary, grid, tail)
    if run.data.from_run and not run.checkpoint:
        load_starting_weights(network, Path(run.data.from_run), config.starting_temperature)
    module = _module(config, network, vocabulary, training_data, validation_data, by_set, processes)
    keeper = _fit(run, module, by_set, kind=kind, precision=numbers, progress=progress)
    fitted = time.perf_counter()

    def finish() -> dict[str, Any]:
        plot_losses(keeper.history, run.path / "loss.png")
        log.info("kept epoch %d: CIDEr-D %.1f on validation", keeper.best["epoch"], 100 * keeper.best["val_cider"])
        if export:
            export_run(run, examples=[record.image for record in _firsts(by_set, EXAMPLES)])
        ended = time.perf_counter()
        seconds = {
            "features": features_done - began,
            "training": module.seconds["training"],
            "validation": module.seconds["validation"],
            "export": ended - fitted,
            "this_command": ended - began,
        }
        summary = _summary(datasets, module, keeper, len(left_out), seconds)
        write_text(run.path / "summary.json", json.dumps(summary, indent=2) + "\n")
        return summary

    return processes.from_first(finish)


def _devices(devices: str, precision: str, processes: Processes) -> tuple[str, Any]:
    """The accelerator, "cpu" or "cuda", and Lightning's name of the precision."""
    kind = accelerator(devices)
    if kind == "cuda" and processes.local_count > torch.cuda.device_count():
        raise OptionError(
            f"{processes.local_count} processes for {torch.cuda.device_count()} CUDA cards: start one for each card"
        )
    return kind, choose_precision(precision, kind)


def _seeded_backbone(run: RunFolder, processes: Processes) -> tuple[Backbone, Backbone, Tail | None]:
    """Seed the random numbers, then load the backbone; also its frozen part, and its last blocks if they are trained.

    The order matters: building a backbone draws random numbers, and the next ones initialise the network.
    """
    if processes.count > 1:
        # The first process downloads missing weights and reports errors before the others load them.
        processes.from_first(lambda: starting_backbone(run).name)
    pl.seed_everything(run.config.seed, verbose=False)
    backbone = starting_backbone(run)
    blocks = run.config.finetune_blocks
    frozen, tail = backbone.split(blocks) if blocks else (backbone, None)
    return backbone, frozen, tail


def _check_no_model(run: RunFolder) -> None:
    """Refuse to leave a model that the run is about to outgrow: nothing would tell that it is not the kept epoch."""
    if run.model.exists():
        raise RunError(run.model, "is of this run before it went on: move it away, or train without --no-export")


def _check_validation(
    datasets: Sequence[Dataset], by_set: Mapping[str, Sequence[Record]], processes: Processes
) -> None:
    roots = {dataset.name: dataset.root for dataset in datasets}
    for name, records in by_set.items():
        if not records:
            raise DatasetError(roots[name], "no photograph of the val split can be read")
    count = sum(map(len, by_set.values()))
    if count < processes.count:
        raise DatasetError(
            datasets[0].root, f"photographs of the val split: {count}, too few for {processes.count} processes"
        )


def _firsts(by_set: Mapping[str, Sequence[Record]], count: int) -> list[Record]:
    """The first photographs of each data set, about `count` together."""
    each = -(-count // len(by_set))
    return [record for records in by_set.values() for record in records[:each]]


def make_network(
    config: TrainingConfig, vocabulary: Vocabulary, index: StoreIndex, tail: Tail | None = None
) -> CaptioningNetwork:
    """Make the network of these settings, for grids of a backbone or for the input of its tail."""
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
    by_set: Mapping[str, Sequence[Record]],
    processes: Processes,
) -> CaptioningModule:
    sets: dict[str, range] = {}
    for name, records in by_set.items():
        begin = sum(map(len, sets.values()))
        sets[name] = range(begin, begin + len(records))
    references = {
        name: References(dict(zip(sets[name], (record.captions for record in records), strict=True)))
        for name, records in by_set.items()
    }

    def score(captions: Sequence[str]) -> dict[str, float]:
        return {
            name: quick_cider({number: captions[number] for number in numbers}, references[name])
            for name, numbers in sets.items()
        }

    return CaptioningModule(network, config, training, validation, vocabulary, sets, score, processes)


def _fit(
    run: RunFolder,
    module: CaptioningModule,
    by_set: Mapping[str, Sequence[Record]],
    *,
    kind: str,
    precision: Any,
    progress: bool,
) -> Keeper:
    shown = {
        number: record
        for name, records in by_set.items()
        for number, record in zip(module.sets[name], records[:SAMPLES], strict=False)
    }
    keeper = Keeper(run.path, run.config.keep, shown)
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
        # The checkpoint is this run's own, with plain state that torch loads without unpickling code.
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not keeper.history:
        raise RunError(run.path, "trained for no epoch")
    return keeper


def _summary(
    datasets: Sequence[Dataset], module: CaptioningModule, keeper: Keeper, unreadable: int, seconds: dict[str, float]
) -> dict[str, Any]:
    """The content of summary.json."""
    training, validation = module.training_data, module.validation_data
    return {
        "dataset": titles(datasets),
        "captions": training.caption_count,
        "photographs": {"train": len(training), "val": len(validation), "unreadable": unreadable},
        "vocabulary": len(module.vocabulary),
        "best": keeper.best,
        "history": keeper.history,
        "captions_per_second": round(module.caption_total / max(module.seconds["training"], 1e-9), 1),
        "seconds": {part: round(taken, 1) for part, taken in seconds.items()},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "processes": module.processes.count,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
