"""Random splits for data sets without official ones, and the tutorial's random subset of captions.

Splits are by photograph: all captions of one photograph are in the same split. (The TensorFlow tutorial splits by
caption, so that it validates on photographs it has trained on.) A photograph's split is determined by a hash of the
seed and its own name, so that it does not change when other photographs are added or removed.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

from captionlens.datasets.gathering import Draft
from captionlens.datasets.records import Record
from captionlens.errors import OptionError

SHARE = 0.1  # of the photographs for val, and as many for test
SMALL = 1_000  # up to so many photographs are too few for a test split; val then gets both shares
MOST = 2_000  # largest number of photographs taken from train where the data has no val split

VALIDATION_PHOTOGRAPHS = 1_000  # the first of val, by which training chooses an epoch


def for_training(records: Sequence[Record], validation: int = VALIDATION_PHOTOGRAPHS) -> tuple[Record, ...]:
    """Select the photographs whose features training needs: all of train, and the first of val.

    Args:
        validation: number of photographs of val.
    """
    val = [record for record in records if record.split == "val"][:validation]
    chosen = {id(record) for record in val}
    return tuple(record for record in records if record.split == "train" or id(record) in chosen)


def draw(seed: int, source_id: str) -> float:
    """Pseudo-random number of a photograph in [0, 1): 53 bits of SHA-256 over `seed:source_id`."""
    digest = hashlib.sha256(f"{seed}:{source_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def fill_splits(drafts: Sequence[Draft], seed: int) -> list[str]:
    """Assign a split to every photograph without one; return notes on the decisions.

    - Photographs without a split: numbers (`draw`) below 0.1 are val, below 0.2 test (val where there are 1,000
      photographs at most), the others train.
    - Where there is train and no val, a tenth of train becomes val, 2,000 photographs at most, and never all.
    """
    notes = []
    lots = {id(draft): (draw(seed, draft.source_id), draft.source_id) for draft in drafts}
    unsplit = sorted((draft for draft in drafts if draft.split is None), key=lambda d: lots[id(d)])
    with_test = len(unsplit) > SMALL
    for draft in unsplit:
        lot = lots[id(draft)][0]
        low = lot < SHARE or (lot < 2 * SHARE and not with_test)
        draft.split = "val" if low else "test" if lot < 2 * SHARE else "train"
    if len(unsplit) == len(drafts) >= 2:
        if unsplit[0].split != "val":
            unsplit[0].split = "val"
        if unsplit[-1].split != "train":
            unsplit[-1].split = "train"
    if unsplit:
        notes.append(f"{len(unsplit):,} photographs had no split: dealt out by photograph with seed {seed}")

    train = sorted((draft for draft in drafts if draft.split == "train"), key=lambda d: lots[id(d)])
    if len(train) >= 2 and not any(draft.split == "val" for draft in drafts):
        below = sum(lots[id(draft)][0] < SHARE for draft in train)
        taken = train[: max(1, min(below, MOST, len(train) - 1))]
        for draft in taken:
            draft.split = "val"
        notes.append(
            f"there was no val split: {len(taken):,} of {len(train):,} train photographs became val (seed {seed})"
        )
    return notes


def keep_captions(records: Sequence[Record], number: int, seed: int) -> tuple[Record, ...]:
    """Keep a random subset of captions, as the tutorial does: captions shuffled with their photographs, the first kept.

    Only the train split is reduced. A photograph keeps its chosen captions in their order; one without any is removed.

    Args:
        number: of captions of the train split to keep; all where it has fewer.

    Raises:
        OptionError: `number` is less than 1.
    """
    if number < 1:
        raise OptionError(f"max_captions must be at least 1, got {number}")
    pairs = [
        (position, index)
        for position, record in enumerate(records)
        if record.split == "train"
        for index in range(len(record.captions))
    ]
    random.Random(seed).shuffle(pairs)
    chosen: dict[int, list[int]] = {}
    for position, index in pairs[:number]:
        chosen.setdefault(position, []).append(index)
    kept = []
    for position, record in enumerate(records):
        if record.split != "train":
            kept.append(record)
        elif position in chosen:
            captions = tuple(record.captions[index] for index in sorted(chosen[position]))
            kept.append(replace(record, captions=captions))
    return tuple(kept)
