"""Counting n-grams, which BLEU and CIDEr-D share."""

from collections.abc import Hashable, Sequence

ORDERS = 4  # both scores look at runs of one to four words

Ngram = tuple[Hashable, ...]


def count_ngrams(tokens: Sequence[Hashable]) -> dict[Ngram, int]:
    """How often each run of one to four tokens occurs, runs of one first."""
    tokens = tuple(tokens)
    counts: dict[Ngram, int] = {}
    for order in range(1, ORDERS + 1):
        for start in range(len(tokens) - order + 1):
            ngram = tokens[start : start + order]
            counts[ngram] = counts.get(ngram, 0) + 1
    return counts
