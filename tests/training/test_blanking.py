"""Photographs with something blanked out: what is hidden becomes less likely there, and the rest stays as likely."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captionlens.datasets import read_dataset
from captionlens.datasets.blanked_phrases import BlankedPhrase, blanked_cells, choose_phrase
from captionlens.datasets.phrase_targets import CaptionTargets, targets_reader
from captionlens.features.backbones import load_backbone
from captionlens.features.extract import extract
from captionlens.features.store import FeatureStore, photograph_key
from captionlens.geometry.grid_cells import blank
from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.batch import BlankedBatch
from captionlens.training.batches import CaptionedPhotographs
from captionlens.training.objectives.blanking import (
    HIDDEN,
    SEEN,
    Blanking,
    blanking_loss,
    wanted_of_words,
    word_log_probs,
)
from helpers.cli import SMALL_CAPTIONER, run_cli
from helpers.training import batch_of


def targets_of(words: list[int], *boxes: tuple[slice, slice]) -> CaptionTargets:
    """Phrases that fill these cells of a grid of 4 x 5."""
    coverages = np.zeros((len(boxes), 4, 5), np.float32)
    for coverage, cells in zip(coverages, boxes, strict=True):
        coverage[cells] = 1
    return CaptionTargets(np.array(words), coverages)


LEFT, RIGHT = (slice(0, 4), slice(0, 2)), (slice(0, 4), slice(3, 5))
EVERYTHING = (slice(0, 4), slice(0, 5))


def choices(*targets: CaptionTargets | None) -> list[BlankedPhrase]:
    """What is chosen for photographs of twenty names."""
    chosen = [choose_phrase(str(number), targets) for number in range(20)]
    assert all(chosen)
    return [choice for choice in chosen if choice is not None]


def test_a_phrase_is_hidden_and_the_others_are_seen() -> None:
    # "a dog" on the left, "runs at", "the red ball" on the right; "a ball" on the right, "of", "a dog" on the left
    first, last = targets_of([0, 0, -1, -1, 1, 1, 1], LEFT, RIGHT), targets_of([0, 0, -1, 1, 1], RIGHT, LEFT)
    phrases = set()
    for chosen in choices(None, first, last):
        phrase = 0 if chosen.cells[:, :2].any() else 1
        assert not chosen.cells[:, [(2, 3, 4), (0, 1, 2)][phrase]].any()
        assert 4 <= chosen.cells.sum() <= 8  # half of its eight cells to all
        assert wanted_of_words(chosen, None) is None
        wanted = [wanted_of_words(chosen, target) for target in (first, last)]
        expected = [
            ([0, HIDDEN, 0, 0, SEEN, SEEN, SEEN], [SEEN, SEEN, 0, 0, HIDDEN]),
            ([SEEN, SEEN, 0, 0, 0, 0, HIDDEN], [0, HIDDEN, 0, SEEN, SEEN]),
        ][phrase]
        assert tuple(wish.tolist() for wish in wanted if wish is not None) == expected
        phrases.add(phrase)
    assert phrases == {0, 1}
    for one, other in zip(choices(first), choices(first), strict=True):
        assert np.array_equal(one.cells, other.cells)


def test_the_middle_goes_first() -> None:
    for chosen in choices(targets_of([0], (slice(0, 3), slice(0, 3)))):
        assert chosen.cells[1, 1]
        assert chosen.cells[[0, 1, 1, 2], [1, 0, 2, 1]].all()  # the corners last


def test_at_most_half_of_the_grid_goes_and_no_cell_is_not_enough() -> None:
    for chosen in choices(targets_of([0, 0], EVERYTHING)):
        assert chosen.cells.sum() == 10
    small = CaptionTargets(np.array([0]), np.full((1, 4, 5), 0.02, np.float32))
    assert choose_phrase("a", [small, None]) is None
    assert choose_phrase("a", []) is None
    # A part of everything is gone with the left: whether its words can still be seen depends on how much.
    counts = set()
    target = targets_of([0, 1], LEFT, EVERYTHING)
    for chosen in choices(target):
        if not chosen.cells[:, 2:].any():
            wanted = wanted_of_words(chosen, target)
            assert wanted is not None
            assert wanted.tolist() == [HIDDEN, SEEN if chosen.cells.sum() <= 4 else 0]
            counts.add(int(chosen.cells.sum()))
    assert min(counts) == 4 < max(counts)


def test_loss_is_of_words_that_do_not_tell_the_photographs_apart() -> None:
    # hidden: equally likely, much less likely; seen: less likely, more likely; whatever
    with_, without = torch.tensor([0.5, 0.8, 0.6, 0.7, 0.9]), torch.tensor([0.5, 0.2, 0.2, 0.9, 0.5])
    wanted = torch.tensor([HIDDEN, HIDDEN, SEEN, SEEN, 0])
    log_probs, whole = without.log().requires_grad_(), with_.log().requires_grad_()
    loss = blanking_loss(log_probs, whole, wanted)
    # Odds of 1 and 1, 4 and 1/4: the logistic regression gives the whole photograph 1/2, and 16/17.
    told = (0.5 * math.log(2) + 0.8 * math.log(17 / 16)) / 1.3
    assert loss.item() == pytest.approx(told + 0.4 / 2, abs=1e-6)
    loss.backward()
    assert log_probs.grad is not None
    assert whole.grad is not None
    assert (log_probs.grad.sign().tolist(), whole.grad.sign().tolist()) == ([1, 1, -1, 0, 0], [-1, -1, 0, 0, 0])
    nothing = blanking_loss(log_probs, whole, torch.zeros_like(wanted))
    assert nothing.item() == 0
    nothing.backward()
    certain = torch.zeros(1, requires_grad=True)
    assert math.isfinite(blanking_loss(certain, certain, torch.tensor([HIDDEN])).item())


def test_log_probabilities_of_words_are_those_of_captioning() -> None:
    torch.manual_seed(0)
    network = CaptioningNetwork(NetworkConfig(9, 2, 3, 10, memory=12, embedding=8, units=16, attention=8)).eval()
    features = torch.rand(2, 6, 10)
    captions = torch.tensor([[[2, 5, 6, 3, 0]], [[2, 4, 7, 8, 3]]])
    teacher = network.teach(features, captions)
    log_probs, tokens = word_log_probs(teacher), teacher.words.of_tokens(captions)
    assert tokens.tolist() == [5, 4, 6, 7, 3, 8, 3]
    memory, keys, state = network.start(features)
    expected = []
    for place in range(4):
        predicted, _, state = network.step(captions[:, :, place], memory, keys, state)
        following = captions[:, :, place + 1]
        expected += predicted.gather(2, following[:, :, None])[following > 0].flatten().tolist()
    assert log_probs.tolist() == pytest.approx(expected, abs=1e-5)


def test_halves_of_the_captions_take_turns() -> None:
    torch.manual_seed(0)
    network = CaptioningNetwork(NetworkConfig(9, 2, 3, 10, memory=12, embedding=8, units=16, attention=8)).eval()
    without, whole = torch.rand(2, 6, 10), torch.rand(2, 6, 10)
    captions = torch.tensor([[[2, 5, 6, 3], [2, 4, 3, 0], [2, 7, 3, 0]], [[2, 4, 7, 3], [2, 8, 3, 0], [0, 0, 0, 0]]])
    wanted = torch.tensor([[[0, HIDDEN, SEEN, 0], [0, HIDDEN, 0, 0], [0, SEEN, 0, 0]], [[0, SEEN, HIDDEN, 0]] * 3])
    batch = replace(batch_of(captions), blanked=BlankedBatch(without, whole, captions, wanted))
    for epoch, some in [(0, [0, 2]), (1, [1]), (2, [0, 2])]:
        taught = network.teach(without, captions[:, some])
        log_probs, with_all = word_log_probs(taught), word_log_probs(network.teach(whole, captions[:, some]))
        expected = blanking_loss(log_probs, with_all, taught.words.of_tokens(wanted[:, some]))
        assert expected > 0
        torch.testing.assert_close(Blanking(0.5).loss(network, batch, epoch), 0.5 * expected)
    lone = BlankedBatch(without, whole, captions[:, :1], wanted[:, :1])
    assert Blanking(0.5).loss(network, replace(batch, blanked=lone), 1) == 0
    assert Blanking(0.5).loss(network, replace(batch, blanked=None), 0) == 0


def test_store_holds_photographs_with_something_blanked_out(small_scenes: Path, tmp_path: Path) -> None:
    records = read_dataset(small_scenes).split("train")[:6]
    backbone = load_backbone("efficientnet_lite0")
    rows, columns = backbone.grid
    targets = targets_reader(small_scenes, rows, columns)
    chosen = {record: choose_phrase(record.source_id, targets(record)) for record in records}
    del chosen[records[0]]  # nothing of this one is blanked out

    cells = blanked_cells(chosen.get)
    for extracted in (5, 0):
        network = load_backbone("efficientnet_lite0")
        done = extract(records, tmp_path, network, blanked=cells, bfloat16=False, progress=False)
        assert (done.extracted, done.already) == (extracted, 5 - extracted)
    network = load_backbone("efficientnet_lite0")
    for record in records[1:]:
        what = chosen[record]
        assert what is not None
        pixels = blank(network.preprocessing.read(record.image), what.cells)
        with torch.no_grad():
            expected = network(torch.from_numpy(network.preprocessing.normalise(pixels[None])))[0].numpy()
        (kept,) = FeatureStore.open(tmp_path).read([photograph_key(record, blanked=what.cells)])
        np.testing.assert_allclose(kept, expected, atol=0.002 * np.abs(expected).max())

    # In a batch stand the photographs that have something blanked out, with what is wanted of their captions.
    extract(records, tmp_path, load_backbone("efficientnet_lite0"), progress=False)
    vocabulary = Vocabulary.build(caption for record in records for caption in record.captions)
    data = CaptionedPhotographs(
        records, FeatureStore.open(tmp_path), vocabulary, targets=targets, blanked=lambda record: chosen.get(record)
    )
    batch = data.collate([data[number] for number in range(6)]).blanked
    assert batch is not None
    store = FeatureStore.open(tmp_path)
    np.testing.assert_array_equal(batch.whole, store.read(photograph_key(record) for record in records[1:]))
    np.testing.assert_array_equal(
        batch.features, store.read(photograph_key(record, blanked=cells(record)) for record in records[1:])
    )
    for row, record in enumerate(records[1:]):
        what = chosen[record]
        assert what is not None
        wishes = zip(record.captions, (wanted_of_words(what, target) for target in targets(record)), strict=True)
        expected = [(vocabulary.encode(caption), wish.tolist()) for caption, wish in wishes if wish is not None]
        assert len(expected) == len(record.captions)
        expected.sort(key=lambda caption: -len(caption[0]))
        for slot, (numbers, wanted) in enumerate(expected):
            assert batch.captions[row, slot, : len(numbers)].tolist() == numbers
            assert batch.wanted[row, slot, 1 : len(numbers) - 1].tolist() == wanted
            assert not batch.wanted[row, slot, len(numbers) - 1 :].any()
    assert data.collate([data[0]]).blanked is None


@pytest.mark.parametrize("objective", ["cross-entropy", "self-critical"])
def test_blanking_needs_boxes(objective: str, small_scenes: Path, tmp_path: Path) -> None:
    done = run_cli(
        *("train", small_scenes, "-o", tmp_path / "run", *SMALL_CAPTIONER, "--set=blanking=1"),
        f"--set=objective={objective}",
        code=2,
    )
    assert "blanking needs the boxes of the training photographs: name them with --boxes" in done.stderr


@pytest.mark.slow
def test_command_extracts_photographs_with_something_blanked_out(small_scenes: Path, tmp_path: Path) -> None:
    store_options = ["-o", tmp_path / "store", "--backbone=efficientnet_lite0", "--all"]
    arguments = ["extract", small_scenes, *store_options, "--blanked"]
    done = run_cli(*arguments, tmp_path, code=1)
    assert f"{tmp_path}: has neither Annotations/ and Sentences/" in done.stderr
    assert not (tmp_path / "store").exists()
    done = run_cli(*arguments, small_scenes)
    assert "120 blanked extracted, 0 were there" in done.stderr
    store = FeatureStore.open(tmp_path / "store")
    targets = targets_reader(small_scenes, store.index.rows, store.index.columns)
    for record in read_dataset(small_scenes).records:
        chosen = choose_phrase(record.source_id, targets(record))
        assert chosen is not None
        assert photograph_key(record, blanked=chosen.cells) in store
