"""The order of a batch's words."""

import torch

from captionlens.network.words import Words


def test_words_are_packed_by_time_photograph_slot() -> None:
    words = Words.of(torch.tensor([[2, 1], [0, 0], [3, 2]]))
    assert [slots.tolist() for slots in words.slots] == [[0, 1, 4, 5], [0, 4, 5], [4]]
    assert [kept.tolist() for kept in words.kept[1:]] == [[0, 2, 3], [1]]
    assert words.starts.tolist() == [0, 2, 2, 4, 5, 5, 7, 7, 7, 8]
    padded = words.padded(torch.arange(1.0, 9.0)[:, None]).squeeze(-1)  # (T, P, C)
    assert padded.sum(0).tolist() == [[6, 2], [0, 0], [3 + 6 + 8, 4 + 7]]


def test_the_token_before_each_word_and_the_word_itself() -> None:
    captions = torch.tensor([[[1, 5, 6, 2], [1, 7, 2, 0]], [[1, 2, 0, 0], [0, 0, 0, 0]]])  # (P, C, T)
    words = Words.of((captions[:, :, 1:] != 0).sum(-1))
    assert words.before(captions).tolist() == [1, 1, 1, 5, 7, 6]
    assert words.of_tokens(captions).tolist() == [5, 7, 2, 6, 2, 2]
