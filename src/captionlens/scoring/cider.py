"""CIDEr-D, with the same results as pycocoevalcap (whose class is named Cider).

Vedantam, Zitnick, Parikh, "CIDEr: consensus-based image description evaluation" (CVPR 2015), section 7: the
mean over n = 1..4 of cosine similarities of tf-idf vectors, with clipping and a Gaussian penalty on length,
times 10.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.scoring.ngrams import ORDERS, Ngram, count_ngrams

SIGMA = 6.0


class CiderD:
    """CIDEr-D against references whose document frequencies and vectors are computed once.

    All captions of a photograph are one document. Tokens may be words or word indices, alike in candidates and
    references.

    Args:
        references: captions of every photograph, each a sequence of tokens.

    Raises:
        OptionError: there are no photographs, or one has no captions.
    """

    def __init__(self, references: Mapping[Any, Sequence[Sequence[Hashable]]]) -> None:
        if not references:
            raise OptionError("CIDEr-D needs the references of at least one photograph")
        counted: dict[Hashable, list[dict[Ngram, int]]] = {}
        documents: dict[Ngram, int] = {}
        for key, captions in references.items():
            if not captions:
                raise OptionError(f"photograph {key!r} has no reference captions")
            counted[key] = [count_ngrams(caption) for caption in captions]
            for ngram in set().union(*counted[key]):
                documents[ngram] = documents.get(ngram, 0) + 1
        # An n-gram in no reference has the weight of one in the references of a single photograph.
        self._rare = math.log(len(references))
        self._weights = {ngram: self._rare - math.log(count) for ngram, count in documents.items()}
        self._lengths = {key: [_length(caption) for caption in captions] for key, captions in references.items()}
        self._vectors = {key: self._postings(captions) for key, captions in counted.items()}

    def _postings(self, captions: list[dict[Ngram, int]]) -> dict[Ngram, list[tuple[int, float, float]]]:
        """Postings of each n-gram of a photograph: index of the reference, weight, weight / norm."""
        postings: dict[Ngram, list[tuple[int, float, float]]] = {}
        for number, counts in enumerate(captions):
            vector = {ngram: count * self._weights[ngram] for ngram, count in counts.items()}
            norms = _norms(vector)
            for ngram, weight in vector.items():
                if weight:
                    postings.setdefault(ngram, []).append((number, weight, weight / norms[len(ngram) - 1]))
        return postings

    def score(self, key: Hashable, tokens: Sequence[Hashable]) -> float:
        """Compute the CIDEr-D of one caption for the photograph `key`, from 0 to 10.

        Raises:
            KeyError: the photograph has no references.
        """
        lengths = self._lengths[key]
        postings = self._vectors[key]
        weights, rare = self._weights, self._rare
        vector = {ngram: count * weights.get(ngram, rare) for ngram, count in count_ngrams(tokens).items()}
        length = _length(tokens)
        penalties = [math.exp(-((length - other) ** 2) / (2 * SIGMA**2)) for other in lengths]
        similar = [0.0] * ORDERS
        for ngram, weight in vector.items():
            for number, other, normed in postings.get(ngram, ()):
                similar[len(ngram) - 1] += (weight if weight < other else other) * normed * penalties[number]
        cosines = (value / norm for value, norm in zip(similar, _norms(vector), strict=True) if norm)
        return 10.0 * sum(cosines) / ORDERS / len(lengths)

    def score_many(self, keys: Sequence[Hashable], captions: Sequence[Sequence[Hashable]]) -> NDArray[np.float64]:
        """Compute the CIDEr-D of many captions, float64 (captions,); `keys` are their photographs.

        Raises:
            KeyError: a photograph has no references.
            ValueError: the numbers of keys and captions differ.
        """
        pairs = zip(keys, captions, strict=True)
        return np.array([self.score(key, tokens) for key, tokens in pairs], dtype=np.float64)


def _length(tokens: Sequence[Hashable]) -> int:
    """Length of a caption as in the official scorer: its number of bigrams."""
    return max(0, len(tokens) - 1)


def _norms(vector: dict[Ngram, float]) -> list[float]:
    """Euclidean norms of a vector, one for each order of n-grams."""
    squares = [0.0] * ORDERS
    for ngram, weight in vector.items():
        squares[len(ngram) - 1] += weight * weight
    return [math.sqrt(square) for square in squares]
