"""Captions of photographs seen in a mirror."""

import pytest

from captionlens.datasets.mirroring import mirror_caption, mirror_pairs


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("A dog to the left of a cat .", "A dog to the right of a cat ."),
        ("Left hand, right foot", "right hand, left foot"),
        ("a left-handed player leaves the bright upright post", "a right-handed player leaves the bright upright post"),
        ("two dogs", "two dogs"),
    ],
)
def test_words_of_side_trade_places_and_no_others(caption: str, mirrored: str) -> None:
    pairs = mirror_pairs("left right")
    assert mirror_caption(caption, pairs) == mirrored
    assert mirror_caption(mirrored, pairs).lower() == caption.lower()


def test_other_languages_name_their_own_pairs() -> None:
    pairs = mirror_pairs("links rechts linken rechten")
    assert mirror_caption("links ein Hund, am rechten Rand", pairs) == "rechts ein Hund, am linken Rand"
    assert mirror_caption("left", mirror_pairs("")) == "left"


@pytest.mark.parametrize("words", ["left", "left right left", "a b b c"])
def test_words_that_are_no_pairs_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="not pairs of different words"):
        mirror_pairs(words)
