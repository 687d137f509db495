"""Batches: every caption once an epoch, a photograph's captions together, little padding, the same order again."""

from collections import Counter
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets.mirroring import mirror_pairs
from captionlens.datasets.phrase_targets import CaptionTargets
from captionlens.datasets.records import Record
from captionlens.errors import OptionError
from captionlens.features.store import FeatureStore, StoreIndex, photograph_key
from captionlens.runtime.vocabulary import END, PAD, START, Vocabulary
from captionlens.training.batch import Batch
from captionlens.training.batches import CaptionedPhotographs, LengthBatches, training_loader
from captionlens.training.distributed import Processes
from captionlens.training.grids import ResidentGrids

PHOTOGRAPHS = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CaptionedPhotographs:
    """Photographs with one to five captions of 2 to 30 words."""
    folder = tmp_path_factory.mktemp("batches")
    random = np.random.default_rng(4)
    store = FeatureStore.create(folder / "store", StoreIndex("some", "f", 1, 2, 3))
    records = []
    for number in range(PHOTOGRAPHS):
        image = folder / f"{number}.jpg"
        image.write_bytes(b"x" * (number + 1))
        captions = [
            " ".join(f"w{word}" for word in random.integers(0, 200, random.integers(2, 31)))
            for _ in range(random.integers(1, 6))
        ]
        records.append(Record(image, tuple(captions), "train", str(number)))
    store.append(
        [photograph_key(record) for record in records],
        np.arange(PHOTOGRAPHS * 6, dtype=np.float16).reshape(PHOTOGRAPHS, 2, 3),
    )
    vocabulary = Vocabulary.build(caption for record in records for caption in record.captions)
    return CaptionedPhotographs(records, store, vocabulary, max_words=20)


def epoch(data: CaptionedPhotographs, number: int, seed: int = 1) -> list[Batch]:
    return list(training_loader(data, captions=16, seed=seed, epoch=number))


def captions_of(batches: list[Batch]) -> Counter[tuple[int, ...]]:
    rows = (row for batch in batches for row in batch.captions.flatten(0, 1).tolist())
    return Counter(tuple(token for token in row if token != PAD) for row in rows if row[0] != PAD)


def test_every_caption_comes_once_with_its_own_features(data: CaptionedPhotographs) -> None:
    batches = epoch(data, 0)
    expected = Counter(tuple(caption) for _, captions in data.items for caption in captions)
    assert captions_of(batches) == expected
    by_first_feature = {float(6 * number): item for number, item in enumerate(data.items)}
    for batch in batches:
        for features, captions in zip(batch.features, batch.captions, strict=True):
            _, wanted = by_first_feature[float(features[0, 0])]
            rows = [[token for token in row if token != PAD] for row in captions.tolist()]
            assert rows[: len(wanted)] == wanted
            assert not any(rows[len(wanted) :])


def test_captions_are_ordered_from_long_to_short_and_cut(data: CaptionedPhotographs) -> None:
    longest = 0
    for batch in epoch(data, 0):
        lengths = (batch.captions != PAD).sum(-1)
        assert (lengths.diff(dim=1) <= 0).all()
        longest = max(longest, int(lengths.max()))
        for caption in batch.captions.flatten(0, 1).tolist():
            if caption[0] != PAD:
                bare = [token for token in caption if token != PAD]
                assert bare[0] == START
                assert bare[-1] == END
    assert longest == 20 + 2


def test_batches_keep_to_their_budget_and_waste_little(data: CaptionedPhotographs) -> None:
    batches = epoch(data, 0)
    assert all(batch.captions.shape[0] * batch.captions.shape[1] <= 16 for batch in batches)
    assert sum(batch.caption_count for batch in batches) == sum(len(c) for _, c in data.items)
    padded = sum(batch.captions.numel() for batch in batches)
    words = sum(int((batch.captions != PAD).sum()) for batch in batches)
    photographs_in_any_order = PHOTOGRAPHS * 5 * 22
    assert words < padded < 0.75 * photographs_in_any_order


def test_order_depends_on_seed_and_epoch_only(data: CaptionedPhotographs) -> None:
    assert list(LengthBatches(data, 16, 1, 3)) == list(LengthBatches(data, 16, 1, 3))
    assert list(LengthBatches(data, 16, 1, 3)) != list(LengthBatches(data, 16, 1, 4))
    assert list(LengthBatches(data, 16, 1, 3)) != list(LengthBatches(data, 16, 2, 3))
    assert len(LengthBatches(data, 16, 1, 3)) == len(list(LengthBatches(data, 16, 1, 3)))


@pytest.mark.parametrize("count", [3, 5])
def test_processes_share_every_batch(count: int, data: CaptionedPhotographs) -> None:
    parts = [
        list(training_loader(data, captions=16, seed=1, epoch=0, processes=Processes(rank, count)))
        for rank in range(count)
    ]
    standing_in = 0
    for whole, *own in zip(epoch(data, 0), *parts, strict=True):
        assert {(part.caption_count, part.word_count) for part in own} == {(whole.caption_count, whole.word_count)}
        assert (whole.caption_share, whole.word_share) == (1, 1)
        assert sum(part.caption_share for part in own) == pytest.approx(count)
        assert sum(part.word_share for part in own) == pytest.approx(count)
        counted = [part for part in own if part.word_share]
        assert captions_of(counted) == captions_of([whole])
        for part in counted:
            words = int((part.captions[:, :, 1:] != PAD).sum())
            assert part.word_share == pytest.approx(count * words / whole.word_count)
        standing_in += len(own) - len(counted)
    assert standing_in  # some batches have fewer photographs than there are processes


def test_resident_grids_are_those_of_the_store(data: CaptionedPhotographs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captionlens.training.grids._CARRIED", 7)
    keys = [key for key, _ in data.items]
    resident = ResidentGrids(data.store, keys, torch.device("cpu"))
    assert keys[3] in resident
    assert "stranger" not in resident
    some = [keys[number] for number in (59, 0, 8, 8)]
    np.testing.assert_array_equal(resident.read(some), data.store.read(some))


@pytest.mark.parametrize(("free", "resident"), [(4, True), (3, False)])
def test_grids_go_to_a_card_that_has_room(
    free: int, resident: bool, data: CaptionedPhotographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = PHOTOGRAPHS * 2 * 3 * 2  # places, channels, bytes
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda card: (free * size, 10 * size))
    copy_of_data = copy(data)
    copy_of_data.keep_on(torch.device("cpu"))
    assert isinstance(copy_of_data.store, ResidentGrids) == resident


def test_photographs_without_features_are_counted(data: CaptionedPhotographs, tmp_path: Path) -> None:
    lone = tmp_path / "lone.jpg"
    lone.write_bytes(b"y")
    stranger = Record(lone, ("a dog",), "train", "stranger")
    gone = Record(tmp_path / "gone.jpg", ("a dog",), "train", "gone")
    assert isinstance(data.store, FeatureStore)
    known = Record(data.store.folder.parent / "0.jpg", ("a dog",), "train", "0")
    vocabulary = Vocabulary.build(["a dog"])
    mixed = CaptionedPhotographs([stranger, known, gone], data.store, vocabulary)
    assert (len(mixed), mixed.missing) == (1, 2)
    with pytest.raises(OptionError, match="no photograph"):
        CaptionedPhotographs([stranger], data.store, vocabulary)


SIDES = ("a dog left of a cat", "two dogs", "the right one of three dogs on the left side")


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> CaptionedPhotographs:
    """Ten photographs with three captions each and with boxes; a mirrored grid holds a number above 100."""
    folder = tmp_path_factory.mktemp("mirrored")
    store = FeatureStore.create(folder / "store", StoreIndex("some", "f", 2, 2, 1))
    records = []
    for number in range(10):
        image = folder / f"{number}.jpg"
        image.write_bytes(b"x")
        records.append(Record(image, SIDES, "train", str(number)))
    keys = [photograph_key(record, mirrored=flag) for flag in (False, True) for record in records]
    numbers = np.array([*range(10), *range(100, 110)], np.float16)
    store.append(keys, np.repeat(numbers, 4).reshape(20, 4, 1))

    def targets(record: Record) -> list[CaptionTargets | None]:
        number = np.float32(int(record.source_id) / 10)
        # A phrase of words 0 and 1 with its box on the left, and one of the last word with its box below.
        coverages = np.array([[[number, 0], [number, 0]], [[0, 0], [0.5, 1]]], np.float32)
        return [
            CaptionTargets(np.array([0, 0, *[-1] * (len(caption.split()) - 3), 1]), coverages) if place != 1 else None
            for place, caption in enumerate(record.captions)
        ]

    vocabulary = Vocabulary.build(SIDES)
    pairs = mirror_pairs("left right")
    return CaptionedPhotographs(records, store, vocabulary, max_words=8, mirror=pairs, targets=targets)


def test_one_photograph_in_two_is_seen_in_a_mirror_with_its_captions(mirrored: CaptionedPhotographs) -> None:
    assert (len(mirrored), mirrored.caption_count) == (10, 30)
    plain, swapped = (
        {tuple(numbers) for _, captions in items for numbers in captions}
        for items in (mirrored.items, mirrored.mirrored)
    )
    assert plain != swapped
    flips = 0
    for number in range(40):
        seen = []
        for batch in epoch(mirrored, number):
            for features, captions in zip(batch.features, batch.captions, strict=True):
                said = {tuple(token for token in row if token != PAD) for row in captions.tolist()}
                seen.append(int(features[0, 0]) % 100)
                flips += int(features[0, 0]) >= 100
                assert said == (swapped if features[0, 0] >= 100 else plain)
        assert sorted(seen) == list(range(10))
    assert 160 < flips < 240  # of 400; four standard deviations
    assert list(LengthBatches(mirrored, 16, 1, 3)) == list(LengthBatches(mirrored, 16, 1, 3))


def test_words_keep_their_boxes_in_a_batch_and_in_the_mirror(mirrored: CaptionedPhotographs) -> None:
    for batch in (*epoch(mirrored, 0), *epoch(mirrored, 1)):
        assert batch.phrases is not None
        assert batch.coverages is not None
        assert batch.phrases.shape == batch.captions.shape
        for features, captions, phrases in zip(batch.features, batch.captions, batch.phrases, strict=True):
            first = float(features[0, 0])
            number = np.float32(first % 100 / 10)
            left = torch.tensor([0, number, 0, number] if first >= 100 else [number, 0, number, 0])
            below = torch.tensor([0, 0, 1, 0.5] if first >= 100 else [0, 0, 0.5, 1])
            for caption, numbers in zip(captions, phrases, strict=True):
                words = [int(token) for token in caption if token not in (PAD, START, END)]
                if len(words) == 2:  # "two dogs": nothing is known of it
                    assert (numbers == -1).all()
                    continue
                wanted = [left, left, *[None] * (len(words) - 3), None if len(words) == 8 else below]  # 8: cut
                got = [None if row < 0 else batch.coverages[row] for row in numbers[1 : len(words) + 1]]
                assert numbers[0] == -1
                assert (numbers[len(words) + 1 :] == -1).all()
                for ours, theirs in zip(got, wanted, strict=True):
                    assert (ours is None) == (theirs is None)
                    if ours is not None:
                        torch.testing.assert_close(ours, theirs)


def test_batches_without_boxes_have_no_targets(data: CaptionedPhotographs) -> None:
    batch = epoch(data, 0)[0]
    assert batch.phrases is None
    assert batch.coverages is None


def redrawn(data: CaptionedPhotographs, draws: list[float], balance: float = 0.0) -> CaptionedPhotographs:
    """The same photographs, each drawn so often."""
    again = copy(data)
    again.draws, again.balance = draws, balance
    return again


def test_photographs_are_drawn_as_often_as_they_weigh(data: CaptionedPhotographs) -> None:
    draws = [2.5 if number < 20 else 0.25 if number < 40 else 1.0 for number in range(PHOTOGRAPHS)]
    weighed = redrawn(data, draws)
    counts = np.zeros(PHOTOGRAPHS)
    for number in range(200):
        of_epoch = np.bincount([index for batch in LengthBatches(weighed, 16, 1, number) for index in batch])
        assert set(of_epoch[:20]) <= {2, 3}
        assert set(of_epoch[20:40]) <= {0, 1}
        assert set(of_epoch[40:]) == {1}
        counts += np.pad(of_epoch, (0, PHOTOGRAPHS - len(of_epoch)))
    assert counts[:20].mean() / 200 == pytest.approx(2.5, abs=0.05)
    assert counts[20:40].mean() / 200 == pytest.approx(0.25, abs=0.05)
    expected = sum(drawn * len(captions) for (_, captions), drawn in zip(data.items, draws, strict=True))
    assert weighed.captions_per_epoch == pytest.approx(expected)


def test_photograph_drawn_twice_is_seen_from_both_sides(data: CaptionedPhotographs) -> None:
    weighed = redrawn(data, [2.0] * PHOTOGRAPHS)
    weighed.mirrored = list(data.items)
    for batches in (LengthBatches(weighed, 16, 1, number) for number in range(3)):
        assert sorted(index for batch in batches for index in batch) == list(range(2 * PHOTOGRAPHS))


def test_batches_of_sampled_captions_have_as_many_photographs(data: CaptionedPhotographs) -> None:
    batches = list(LengthBatches(data, 20, 1, 0, sampled=5))
    assert [len(batch) for batch in batches] == [4] * (PHOTOGRAPHS // 4)


def test_photographs_with_few_captions_are_not_rewarded_and_keep_to_themselves(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", StoreIndex("some", "f", 1, 2, 3))
    records = []
    for number in range(30):
        image = tmp_path / f"{number}.jpg"
        image.write_bytes(b"x" * (number + 1))
        records.append(Record(image, ("a dog",) * (1, 5, 4)[number % 3], "train", str(number)))
    keys = [photograph_key(record) for record in records]
    views = keys + [photograph_key(record, mirrored=True) for record in records]
    store.append(views, np.zeros((60, 2, 3), np.float16))
    vocabulary = Vocabulary.build(["a dog"])
    data = CaptionedPhotographs(records, store, vocabulary, mirror=mirror_pairs("left right"), rewarded=5)
    data.add_captions([[[START, END]] * 4] * 60)  # those of teachers do not count
    few = {view for number, view in enumerate(views) if number % 3 != 1}
    assert data.unrewarded == few
    for number in range(3):
        batches = list(LengthBatches(data, 20, 1, number, sampled=2))
        assert sorted(index % 30 for batch in batches for index in batch) == list(range(30))
        for batch in batches:
            assert len({data[index][0] in few for index in batch}) == 1
        # Ten photographs with two sampled captions each fill a batch.
        assert [len(batch) for batch in batches if data[batch[0]][0] not in few] == [10]
    alike = list(LengthBatches(data, 1000, 1, 0))  # without sampling, they share batches
    assert (len(alike), len(list(LengthBatches(data, 1000, 1, 0, sampled=2)))) == (1, 2)


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_captions_of_a_photograph_share_its_weight(balance: float, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", StoreIndex("some", "f", 1, 2, 3))
    records = []
    for number, count in enumerate((1, 5, 5, 2)):
        image = tmp_path / f"{number}.jpg"
        image.write_bytes(b"x")
        records.append(Record(image, ("a dog",) * count, "train", str(number)))
    store.append([photograph_key(record) for record in records], np.zeros((4, 2, 3), np.float16))
    vocabulary = Vocabulary.build(["a dog"])
    draws = [3.0, 1.0, 1.0, 1.0]
    data = CaptionedPhotographs(records, store, vocabulary, draws=draws, balance=balance)
    weights = data.collate(data.items).weights
    assert weights is not None
    assert weights[1, 0] / weights[0, 0] == pytest.approx(5**-balance)
    assert weights[3, 0] / weights[0, 0] == pytest.approx(2**-balance)
    # In an epoch, the weight of a caption is 1 in the mean.
    of_epoch = sum(
        drawn * len(captions) * float(weight)
        for (_, captions), drawn, weight in zip(data.items, draws, weights[:, 0], strict=True)
    )
    assert of_epoch == pytest.approx(data.captions_per_epoch)
    assert CaptionedPhotographs(records, store, vocabulary).collate(data.items).weights is None
