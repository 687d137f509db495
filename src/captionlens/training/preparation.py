"""Training data of a run: feature extraction, vocabulary, and targets from phrase boxes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from captionlens.datasets import Record
from captionlens.datasets.blanked_phrases import BlankedReader, blanked_cells, blanked_reader
from captionlens.datasets.mirroring import mirror_pairs
from captionlens.datasets.phrase_targets import TargetsReader, targets_reader
from captionlens.errors import DatasetError
from captionlens.features.backbones import Backbone
from captionlens.features.extract import extract
from captionlens.features.store import FeatureStore, StoreIndex
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.distributed import Processes
from captionlens.training.fresh_grids import FreshGrids
from captionlens.training.grids import Grids
from captionlens.training.run_folder import RunFolder
from captionlens.training.teachers import Teachers

log = logging.getLogger("captionlens")


@dataclass(frozen=True, slots=True)
class BoxReaders:
    """Readers of the phrase boxes, each None if the run does not need it."""

    targets: TargetsReader | None = None  # attention targets of a photograph's captions
    blanked: BlankedReader | None = None  # the phrase of a photograph to blank out


def box_readers(run: RunFolder, grid: StoreIndex) -> BoxReaders:
    """Make the readers of the phrase boxes on the grid that the network attends to.

    Raises:
        DatasetError: the run's boxes are missing.
    """
    config = run.config
    if run.data.boxes is None or not (config.attention_supervision or config.blanking):
        return BoxReaders()
    targets = cache(targets_reader(run.data.boxes, grid.rows, grid.columns))  # called for features and for batches
    return BoxReaders(targets, blanked_reader(targets) if config.blanking else None)


def extract_features(
    run: RunFolder,
    training: Sequence[Record],
    validation: Sequence[Record],
    frozen: Backbone,
    blanked: BlankedReader | None,
    kind: str,
    progress: bool,
) -> set[Path]:
    """Extract all missing grids into the run's store; return the photographs that could not be read.

    Args:
        frozen: the part of the backbone that is not trained.
        blanked: gives the phrase to blank out in a photograph.
        kind: "cpu" or "cuda".
    """
    cropped = bool(run.config.crop)  # then the training photographs are encoded anew each epoch
    taken = validation if cropped else (*training, *validation)
    extraction = extract(taken, run.features, frozen, device=kind, progress=progress)
    for error in extraction.unreadable:
        log.warning("left out %s", error)
    there = extraction.extracted + extraction.already
    log.info("features of %d photographs, %d of them new", there, extraction.extracted)
    left_out = {Path(error.path) for error in extraction.unreadable}
    readable = [record for record in training if record.image not in left_out]
    if run.config.mirror and not cropped:
        mirrored = extract(readable, run.features, frozen, device=kind, mirrored=True, progress=progress)
        log.info("mirrored, %d of them new", mirrored.extracted)
    if blanked is not None:
        cells = blanked_cells(blanked)
        without = extract(readable, run.features, frozen, device=kind, blanked=cells, progress=progress)
        log.info(
            "%d with something blanked out, %d of them new", without.extracted + without.already, without.extracted
        )
    return left_out


def run_vocabulary(run: RunFolder, training: Sequence[Record]) -> Vocabulary:
    """Vocabulary of a run: its own if it is resumed, else that of the run it starts from, else built from captions."""
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


def training_photographs(
    run: RunFolder,
    training: Sequence[Sequence[Record]],
    store: Grids,
    vocabulary: Vocabulary,
    boxes: BoxReaders,
) -> CaptionedPhotographs:
    """The training photographs of each data set with their captions, with the views and weights that the run uses.

    Raises:
        DatasetError: the run's boxes are of other photographs.
    """
    config = run.config
    draws = [weight for records, weight in zip(training, run.data.draws, strict=True) for _ in records]
    photographs = CaptionedPhotographs(
        [record for records in training for record in records],
        store,
        vocabulary,
        config.max_words,
        mirror=mirror_pairs(config.mirror_words) if config.mirror else None,
        targets=boxes.targets,
        blanked=boxes.blanked,
        draws=draws,
        balance=config.photograph_balance,
        rewarded=config.rewarded_captions,
    )
    if boxes.targets is not None:
        count = sum(key in photographs.targets for key, _ in photographs.items)
        if not count:
            raise DatasetError(str(run.data.boxes), "has no phrases of the training photographs")
        log.info("boxes for %d of %d training photographs", count, len(photographs))
    return photographs


def training_grids(
    run: RunFolder, training: Sequence[Record], store: FeatureStore, frozen: Backbone, kind: str, *, half: bool
) -> Grids:
    """The source of the training photographs' grids: the feature store, or crops that are encoded in every step.

    Args:
        run: with its settings.
        training: the photographs.
        store: of the run.
        frozen: the part of the backbone that is not trained.
        kind: "cpu" or "cuda".
        half: whether to encode crops in bfloat16.
    """
    if not run.config.crop:
        return store
    there = [record for record in training if record.image.is_file()]
    grids = FreshGrids(
        there,
        frozen,
        device=kind,
        dtype=torch.bfloat16 if half else torch.float32,
        smallest=run.config.crop,
        seed=run.config.seed,
        mirrored=run.config.mirror,
    )
    for error in grids.leave_out_unreadable():
        log.warning("left out %s", error)
    return grids


def learn_from_teachers(
    run: RunFolder, photographs: CaptionedPhotographs, vocabulary: Vocabulary, progress: bool, processes: Processes
) -> None:
    """Give the training photographs what the teachers say of them: captions, and distributions over words.

    Raises:
        RunError: a teacher has other words or no kept epoch, or the run folder holds what it said of other photographs.
        StoreError: a teacher's feature store lacks a photograph.
    """
    config = run.config
    teachers = cache(
        lambda: Teachers([Path(teacher) for teacher in run.data.teachers], vocabulary, run.path / "teachers")
    )
    if config.teacher_captions:
        added = processes.from_first(
            lambda: teachers().captions(
                photographs.views, config.teacher_captions, max_words=config.max_words, progress=progress
            )
        )
        photographs.add_captions(added)
        log.info("teachers added %d captions to %d views", sum(map(len, added)), len(added))
    if config.distillation:
        masses = processes.from_first(lambda: teachers().masses(photographs.views, progress=progress))
        photographs.learn_from(masses, config.distillation)
        log.info("learning from %d teachers", len(run.data.teachers))
