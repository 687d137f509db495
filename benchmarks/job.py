"""What `training.py` and `curves.py` share: a captioner to train on a real data set, and the same for TensorFlow."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from common import fail, positive
from numpy.typing import NDArray

from captionlens.datasets import Record, read_dataset
from captionlens.errors import CaptionlensError
from captionlens.features.extract import accelerator
from captionlens.features.store import FeatureStore, StoreIndex
from captionlens.memory import keep_freed_memory
from captionlens.runtime.vocabulary import PAD, Vocabulary
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.config import PRESETS, TrainingConfig, make_config
from captionlens.training.fit import make_network
from captionlens.training.module import CaptioningModule
from captionlens.training.trainer import choose_precision, hush_lightning, make_trainer

ROWS, COLUMNS, CHANNELS = 8, 8, 2048  # InceptionV3's grid
GRIDS = 512  # different random grids


@dataclass(frozen=True)
class Job:
    """What is trained on what."""

    config: TrainingConfig
    vocabulary: Vocabulary
    training: CaptionedPhotographs
    validation: CaptionedPhotographs
    grid: StoreIndex
    precision: Any
    device: str

    def module(self) -> CaptioningModule:
        """A captioner to train, with the weights that its seed draws."""
        torch.manual_seed(self.config.seed)
        network = make_network(self.config, self.vocabulary, self.grid)
        return CaptioningModule(
            network,
            self.config,
            self.training,
            self.validation,
            self.vocabulary,
            {"val": range(len(self.validation))},
            lambda _: {"val": 0.0},
        )

    def trainer(self, callback: pl.Callback, epochs: int, precision: Any = None) -> pl.Trainer:
        """As `captionlens train` has it, but without validation and files."""
        return make_trainer(
            self.config,
            self.device,
            precision or self.precision,
            max_epochs=epochs,
            limit_val_batches=0,
            callbacks=[callback],
            logger=False,
        )


class RepeatedGrids:
    """A store's grids under the photographs' numbers, over and over."""

    def __init__(self, store: FeatureStore, keys: Sequence[str]) -> None:
        self.store, self.keys = store, keys
        self.index = store.index
        self.numbers: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        self.numbers.setdefault(key, len(self.numbers))
        return True

    def read(self, keys: Iterable[str]) -> NDArray[np.float16]:
        """Grids (B, L, D)."""
        return self.store.read(self.keys[self.numbers[key] % len(self.keys)] for key in keys)


def job_options(description: str) -> argparse.ArgumentParser:
    """The options of both benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("dataset", help="of any layout")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tutorial", help="default: tutorial")
    parser.add_argument("--max-captions", type=positive, default=30000, help="of the data set (default: 30000)")
    parser.add_argument("--devices", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with TensorFlow")
    return parser


def prepare(options: argparse.Namespace, folder: Path, store_folder: Path | None = None) -> Job:
    """Captions and grids; what cannot be used ends the benchmark.

    Args:
        options: of `job_options`.
        folder: for the random grids.
        store_folder: a feature store of the data set; without it, grids are random.
    """
    hush_lightning()
    keep_freed_memory()
    try:
        dataset = read_dataset(options.dataset, max_captions=options.max_captions)
        training, validation = dataset.split("train"), dataset.split("val")
        config = make_config(options.preset)
        vocabulary = Vocabulary.build(
            (caption for record in training for caption in record.captions),
            size=config.vocabulary_size,
            min_count=config.min_count,
        )
        store: Any = random_store(folder / "store") if store_folder is None else FeatureStore.open(store_folder)
        device = accelerator(options.devices)

        def captioned(records: Sequence[Record]) -> CaptionedPhotographs:
            data = CaptionedPhotographs(records, store, vocabulary, config.max_words)
            if data.missing:
                fail(f"--store {store_folder}: has no grids of {data.missing} photographs")
            return data

        return Job(
            config=config,
            vocabulary=vocabulary,
            training=captioned(training),
            validation=captioned(validation),
            grid=store.index,
            precision=choose_precision("auto", device),
            device=device,
        )
    except CaptionlensError as error:
        fail(str(error))


def random_store(folder: Path) -> RepeatedGrids:
    """Random grids that stand for those of all photographs."""
    store = FeatureStore.create(folder, StoreIndex("random", "random", ROWS, COLUMNS, CHANNELS))
    random = np.random.default_rng(0)
    keys = [str(number) for number in range(GRIDS)]
    store.append(keys, random.random((GRIDS, ROWS * COLUMNS, CHANNELS), np.float32).astype(np.float16))
    return RepeatedGrids(store, keys)


def write_for_peer(job: Job, folder: Path, *, validation: bool) -> None:
    """The captions as padded numbers, and the grids, as files that TensorFlow's process reads."""
    splits = {"": job.training} | ({"validation_": job.validation} if validation else {})
    longest = max(len(captions[0]) for data in splits.values() for _, captions in data.items)
    for name, data in splits.items():
        flat = [(row, caption) for row, (_, captions) in enumerate(data.items) for caption in captions]
        padded = np.full((len(flat), longest), PAD, np.int32)
        for row, (_, caption) in enumerate(flat):
            padded[row, : len(caption)] = caption
        np.save(folder / f"{name}captions.npy", padded)
        np.save(folder / f"{name}photographs.npy", np.array([row for row, _ in flat]))
        count = min(GRIDS, len(data)) if isinstance(data.store, RepeatedGrids) else len(data)
        shape = (count, job.grid.rows * job.grid.columns, job.grid.channels)
        grids = np.lib.format.open_memmap(folder / f"{name}grids.npy", "w+", np.float16, shape)
        for begin in range(0, count, GRIDS):
            grids[begin : begin + GRIDS] = data.store.read(key for key, _ in data.items[begin : begin + GRIDS])
        grids.flush()
