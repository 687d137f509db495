"""Counting of n-grams, shared by BLEU and CIDEr-D."""

from collections.abc import Hashable, Sequence

ORDERS = 4  # both scores use n-grams of one to four words

Ngram = tuple[Hashable, ...]


def count_ngrams(tokens: Sequence[Hashable]) -> dict[Ngram, int]:
    """Count the n-grams of one to four tokens, unigrams first."""
    tokens = tuple(tokens)
    counts: dict[Ngram, int] = {}
    for order in range(1, ORDERS + 1):
        for start in range(len(tokens) - order + 1):
            ngram = tokens[start : start + order]
            counts[ngram] = counts.get(ngram, 0) + 1
    return counts
