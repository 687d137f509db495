"""BLEU-1 to BLEU-4, with the same results as pycocoevalcap.

Papineni et al., "BLEU: a method for automatic evaluation of machine translation" (ACL 2002), over the whole
corpus, with the reference whose length is closest to the candidate's (the shorter of two equally close).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.scoring.ngrams import ORDERS, Ngram, count_ngrams

STATISTICS = 2 * ORDERS + 2
"""Number of statistics per photograph: n-grams matched and possible, by order; length of candidate and reference."""

# pycocoevalcap's guards against 0 / 0; they decide the score of a caption without any match.
_TINY = 1e-15
_SMALL = 1e-9


class Bleu:
    """Match counts of candidates against references, whose n-grams are counted once.

    Args:
        references: captions of every photograph, each a sequence of tokens.
    """

    def __init__(self, references: Mapping[Any, Sequence[Sequence[Hashable]]]) -> None:
        self._lengths: dict[Hashable, list[int]] = {}
        self._most: dict[Hashable, dict[Ngram, int]] = {}
        for key, captions in references.items():
            most: dict[Ngram, int] = {}
            for caption in captions:
                for ngram, count in count_ngrams(caption).items():
                    if count > most.get(ngram, 0):
                        most[ngram] = count
            self._lengths[key] = [len(caption) for caption in captions]
            self._most[key] = most

    def statistics(self, key: Hashable, tokens: Sequence[Hashable]) -> list[int]:
        """Compute the `STATISTICS` numbers of one candidate, which are additive over photographs.

        Raises:
            KeyError: the photograph has no references.
        """
        most = self._most[key]
        length = len(tokens)
        matched = [0] * ORDERS
        for ngram, count in count_ngrams(tokens).items():
            matched[len(ngram) - 1] += min(count, most.get(ngram, 0))
        possible = [max(0, length - order) for order in range(ORDERS)]
        closest = min(self._lengths[key], key=lambda reference: (abs(reference - length), reference))
        return [*matched, *possible, length, closest]


def bleu(totals: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute BLEU-1 to BLEU-4 from summed statistics.

    Args:
        totals: (..., STATISTICS), one row per corpus. The statistics of one photograph give that photograph's BLEU.

    Returns:
        (..., 4), fractions.
    """
    numbers = np.asarray(totals, dtype=np.float64)
    matched, possible = numbers[..., :ORDERS], numbers[..., ORDERS : 2 * ORDERS]
    length, reference = numbers[..., -2:-1], numbers[..., -1:]
    products = np.cumprod((matched + _TINY) / (possible + _SMALL), axis=-1)
    scores = products ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (length + _TINY) / (reference + _SMALL)
    # An empty candidate makes the exponent huge and negative: exp() is 0, as in pycocoevalcap.
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return np.asarray(scores * brevity, dtype=np.float64)
