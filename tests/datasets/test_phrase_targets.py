"""Which phrase a caption's words belong to, and which cells of a grid its boxes cover."""

from pathlib import Path

import numpy as np
import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.phrase_targets import caption_targets, phrase_of_words
from captionlens.datasets.phrases import PhraseBoxes, PhrasedCaption, phrase_reader
from captionlens.geometry.boxes import coverage, in_a_box
from captionlens.runtime.vocabulary import split_words

LEFT, RIGHT = [[0.0, 0.0, 0.5, 1.0]], [[0.5, 0.0, 1.0, 1.0]]


def phrased(text: str, *phrases: tuple[int, int, list[list[float]]]) -> PhrasedCaption:
    return PhrasedCaption(
        tuple(text.split()),
        tuple(PhraseBoxes(start, end, "other", np.array(boxes, np.float32)) for start, end, boxes in phrases),
    )


@pytest.mark.parametrize("seed", range(5))
def test_coverage_is_what_a_fine_raster_counts(seed: int) -> None:
    random = np.random.default_rng(seed)
    fine, rows, columns = 720, 9, 5
    corners = random.integers(0, fine + 1, (4, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], 1).clip(0, fine) / fine  # (4, 4), they overlap
    raster = np.zeros((fine, fine))
    for left, top, right, bottom in (boxes * fine).round().astype(int):
        raster[top:bottom, left:right] = 1
    cells = raster.reshape(rows, fine // rows, columns, fine // columns).mean((1, 3))
    covered = coverage(boxes, rows, columns)
    np.testing.assert_allclose(covered, cells, atol=1e-9)
    assert 0 < covered.mean() < 1
    assert in_a_box(boxes[0, 0], boxes[0, 1], boxes)  # the edge belongs to the box
    inside = [
        in_a_box((x + 0.5) / fine, (y + 0.5) / fine, boxes) for y in range(0, fine, 71) for x in range(0, fine, 67)
    ]
    assert inside == [bool(raster[y, x]) for y in range(0, fine, 71) for x in range(0, fine, 67)]


def test_boxes_beyond_the_edges_cover_all() -> None:
    np.testing.assert_array_equal(coverage(np.array([[-0.5, -0.5, 1.5, 1.5]]), 3, 4), np.ones((3, 4)))


def test_words_that_the_vocabulary_splits_or_drops() -> None:
    sentence = phrased("Two men , in T-shirts - & - run .", (0, 2, LEFT), (4, 5, RIGHT), (5, 8, LEFT))
    said, phrase_of = phrase_of_words(sentence)
    assert said == split_words("Two men , in T-shirts - & - run .") == ["two", "men", "in", "t", "shirts", "run"]
    assert phrase_of.tolist() == [0, 0, -1, 1, 1, -1]


def test_the_targets_of_a_caption() -> None:
    sentences = [
        phrased("A dog and a cat", (0, 2, RIGHT), (3, 5, LEFT)),
        # The first phrase has no word that a vocabulary keeps, the second none of its own in the caption.
        phrased("! A boy , in the sun", (0, 1, RIGHT), (1, 3, LEFT), (5, 7, [*LEFT, *RIGHT])),
    ]
    targets = caption_targets("A boy in the sun .", sentences, 2, 2)
    assert targets is not None
    phrase_of, covered = targets
    assert phrase_of.tolist() == [0, 0, -1, 1, 1]
    assert covered.dtype == np.float32
    np.testing.assert_array_equal(covered, [[1, 0, 1, 0], [1, 1, 1, 1]])
    assert caption_targets("A girl in her room", sentences, 2, 2) is None
    assert caption_targets("A boy in the sun", [], 2, 2) is None
    without = caption_targets("nothing here", [phrased("Nothing here .")], 2, 3)
    assert without is not None
    assert without[0].tolist() == [-1, -1]
    assert without[1].shape == (0, 6)


@pytest.mark.parametrize(
    ("caption", "written", "wanted"),
    [
        # All as Flickr8k and Flickr30k Entities have it; the phrases are the words in brackets.
        ("A grey dog is leaping over a fallen tree .", "[A gray dog] is leaping over [a fallen tree] .", "000---111"),
        ("The man fishes with a near by stroller", "[The man] fishes with [a nearby stroller] .", "00--1111"),
        ("A red headed boy swimming underwater .", "[A redheaded boy] swimming [underwater] .", "0000-1"),
        ("two smaller dogs int the dirt .", "[two smaller dogs] in [the dirt] .", "000-11"),
        ("A man in a white hardhat works", "[A man] in [a white hard hat] works .", "00-111-"),
        ("a skips rocks near a bridge .", "[A boy] skips [rocks] near [a bridge] .", "0-1-22"),
        ("The dancers are onstage now", "[The dancers] are on [stage] now .", "00-1-"),
    ],
)
def test_captions_that_were_spelt_otherwise(caption: str, written: str, wanted: str) -> None:
    spans: list[tuple[int, int, list[list[float]]]] = []
    for number, word in enumerate(written.split()):
        if word.startswith("["):
            spans.append((number, number + 1, [[0.0, 0.0, (len(spans) + 1) / 4, 1.0]]))
        if word.endswith("]"):
            spans[-1] = (spans[-1][0], number + 1, spans[-1][2])
    other = phrased("A man in a red hat rests", (0, 2, LEFT))
    targets = caption_targets(caption, [other, phrased(written.replace("[", "").replace("]", ""), *spans)], 1, 4)
    assert targets is not None
    assert "".join("-" if number < 0 else str(number) for number in targets[0]) == wanted
    np.testing.assert_array_equal(targets[1], np.tri(len(spans), 4))


def test_every_caption_of_flickr8k_dev_finds_its_sentence(shared_data: Path) -> None:
    flickr8k = shared_data / "flickr8k"
    read = phrase_reader(flickr8k / "Flickr30kEntities")
    phrases = 0
    for record in read_dataset(flickr8k).split("dev"):
        sentences = read(record)
        for caption in record.captions:
            targets = caption_targets(caption, sentences, 9, 9)
            assert targets is not None, caption
            assert len(targets[0]) == len(split_words(caption))
            assert sorted(set(targets[0].tolist()) - {-1}) == list(range(len(targets[1])))
            assert (targets[1].sum(1) > 0).all()
            phrases += len(targets[1])
    assert phrases == 13_123
