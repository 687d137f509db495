"""Splits by photograph, and the random part of the captions."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from captionlens.datasets import Record, count_captions, read_dataset
from captionlens.datasets.gathering import Draft
from captionlens.datasets.splits import draw, fill_splits, for_training, keep_captions
from captionlens.errors import OptionError
from captionlens.training.config import make_config


def drafts(number: int, split: str | None = None) -> list[Draft]:
    return [Draft(Path(f"{n}.jpg"), f"id{n}", split, f"{n}.jpg", ["a"]) for n in range(number)]


def filled(number: int, seed: int = 1, split: str | None = None) -> dict[str, str | None]:
    some = drafts(number, split)
    fill_splits(some, seed)
    return {draft.source_id: draft.split for draft in some}


def test_lots_are_even_and_depend_on_the_seed() -> None:
    lots = [draw(1, str(n)) for n in range(20_000)]
    assert all(0 <= lot < 1 for lot in lots)
    assert abs(sum(lots) / len(lots) - 0.5) < 0.01
    assert draw(1, "a") != draw(2, "a")


def test_shares_of_small_and_large_sets() -> None:
    small, large = Counter(filled(1_000).values()), Counter(filled(5_000).values())
    assert 170 < small["val"] < 230
    assert small["test"] == 0
    assert 430 < large["val"] < 570
    assert 430 < large["test"] < 570


def test_photographs_stay_where_they_are_when_others_come() -> None:
    before, after = filled(1_500), filled(4_000)
    assert all(after[name] == split for name, split in before.items())
    # Across the threshold part of val becomes test; nobody moves between training and evaluation.
    tiny = filled(500)
    assert all((split == "train") == (before[name] == "train") for name, split in tiny.items())


@given(st.integers(2, 40), st.integers(0, 1_000))
def test_train_and_val_are_never_empty(number: int, seed: int) -> None:
    assert {"train", "val"} <= set(filled(number, seed).values())


@given(st.integers(2, 40), st.integers(0, 1_000))
@example(2, 499)  # both lots are low
def test_train_without_val_gives_some(number: int, seed: int) -> None:
    counts = Counter(filled(number, seed, "train").values())
    assert counts["val"] >= 1
    assert counts["train"] >= 1


def test_at_most_2000_are_taken_from_train() -> None:
    assert Counter(filled(30_000, split="train").values()) == {"train": 28_000, "val": 2_000}


def test_stated_splits_stay_and_only_the_others_are_dealt_out() -> None:
    some = drafts(2_000)
    for draft in some[:1_000]:
        draft.split = "test"
    notes = fill_splits(some, 1)
    assert {draft.split for draft in some[:1_000]} == {"test"}
    assert {draft.split for draft in some[1_000:]} == {"train", "val"}
    assert notes == ["1,000 photographs had no split: dealt out by photograph with seed 1"]
    only_val = drafts(10, "val")
    assert fill_splits(only_val, 1) == []
    assert {draft.split for draft in only_val} == {"val"}


def records() -> list[Record]:
    captions = tuple(f"caption {k}" for k in range(5))
    splits = ["train"] * 40 + ["val"] * 5 + ["test"] * 5
    return [Record(Path(f"{n}.jpg"), captions, split, str(n)) for n, split in enumerate(splits)]


def test_the_part_of_the_captions_is_exact_deterministic_and_leaves_val_alone() -> None:
    some = records()
    kept = keep_captions(some, 60, 1)
    train = [record for record in kept if record.split == "train"]
    assert count_captions(train) == 60
    assert kept == keep_captions(some, 60, 1)
    assert kept != keep_captions(some, 60, 2)
    assert [record for record in kept if record.split != "train"] == some[40:]
    assert [int(record.source_id) for record in kept] == sorted(int(record.source_id) for record in kept)
    # Captions are drawn, not photographs: some keep one, some several, and in their order.
    assert len({len(record.captions) for record in train}) > 1
    assert all(list(record.captions) == sorted(record.captions) for record in train)
    assert keep_captions(some, 1_000, 1) == tuple(some)
    with pytest.raises(OptionError, match="max_captions must be at least 1, got 0"):
        keep_captions(some, 0, 1)


def test_training_asks_for_train_and_the_first_of_val() -> None:
    splits = ["val", "train", "test", "val", "train", "val", "test"]
    some = [Record(Path(f"{n}.jpg"), ("a",), split, "same id") for n, split in enumerate(splits)]
    assert [record.image.name for record in for_training(some, 2)] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    many = [Record(Path(f"{n}.jpg"), ("a",), "val", str(n)) for n in range(1_200)]
    assert for_training(many) == tuple(many[:1_000])
    assert make_config("base").validation_photographs == 1_000


def test_the_tutorials_part_of_real_flickr8k(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "flickr8k", max_captions=3_000, seed=1)
    assert count_captions(dataset.split("train")) == 3_000
    assert len(dataset.split("val")) == 1_000
    assert dataset.notes == (
        "9 captions are there twice for one photograph, and are kept",
        "3,000 of 30,000 train captions kept (seed 1)",
    )
    again = read_dataset(shared_data / "flickr8k", max_captions=3_000, seed=1)
    assert again.records == dataset.records
