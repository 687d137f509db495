"""Vectorised CIDEr-D of batches of captions as word indices: the reward of self-critical training.

The scores are those of `cider.CiderD`. There every n-gram is looked up by itself; here all n-grams of a batch are
numbered, counted and looked up together, and the references of a large data set are stored in a few arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.scoring.cider import SIGMA
from captionlens.scoring.ngrams import ORDERS

_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """The references' n-grams of one order.

    `known` (G,) are the n-grams, encoded by `_ngrams`, ascending; an n-gram's position is its index. `weights` (G,) are
    their log inverse document frequencies. The S postings, one per n-gram and reference, are sorted by `keys` (S,),
    photograph times G plus n-gram. `references`, `values` and `normed` (S,) are the index of the reference among all,
    the n-gram's tf-idf in it, and the latter divided by the reference's norm.
    """

    known: _Integers
    weights: _Floats
    keys: _Integers
    references: _Integers
    values: _Floats
    normed: _Floats


class CiderReward:
    """CIDEr-D against references whose n-grams are numbered and weighted once.

    Args:
        references: captions of every photograph, each a sequence of word indices of at least 0.

    Raises:
        OptionError: there are no photographs, or one has no captions.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        if not references:
            raise OptionError("CIDEr-D needs the references of at least one photograph")
        counts = np.array([len(captions) for captions in references])
        if not counts.all():
            raise OptionError(f"photograph {int(counts.argmin())} has no reference captions")
        captions = [caption for of_photograph in references for caption in of_photograph]
        photographs = np.repeat(np.arange(len(references)), counts)  # (R,) index of each reference's photograph
        lengths = np.array([len(caption) for caption in captions])
        tokens = np.fromiter((token for caption in captions for token in caption), np.int64, int(lengths.sum()))
        self._size = int(tokens.max(initial=0)) + 1
        self._reference_counts = counts
        self._reference_lengths = np.maximum(lengths - 1, 0)
        self._rare = float(np.log(len(references)))  # weight of an n-gram in no reference
        self._orders: list[_Order] = []
        for owners, counted, ngrams in _ngrams(tokens, lengths, self._size, self._orders):
            known, numbers = np.unique(ngrams, return_inverse=True)
            seen = np.unique(photographs[owners] * len(known) + numbers)
            weights = self._rare - np.log(np.bincount(seen % max(len(known), 1), minlength=len(known)))
            values = counted * weights[numbers]
            norms = np.sqrt(np.bincount(owners, values**2, len(captions)))[owners]
            kept = np.flatnonzero(values)
            keys = photographs[owners[kept]] * len(known) + numbers[kept]
            kept, keys = kept[np.argsort(keys, kind="stable")], np.sort(keys)
            order = _Order(known, weights, keys, owners[kept], values[kept], values[kept] / norms[kept])
            self._orders.append(order)

    def score_many(self, photographs: _Integers, captions: Sequence[Sequence[int]]) -> _Floats:
        """Compute the CIDEr-D (n,), from 0 to 10, of n captions for the photographs with these indices (n,).

        Raises:
            IndexError: an index of a photograph is too high.
        """
        lengths = np.array([len(caption) for caption in captions], np.int64)
        tokens = np.fromiter((token for caption in captions for token in caption), np.int64, int(lengths.sum()))
        counted_lengths = np.maximum(lengths - 1, 0)  # in bigrams, as in the official scorer
        total = np.zeros(len(captions))
        for number, (owners, counts, ngrams) in enumerate(_ngrams(tokens, lengths, self._size, self._orders)):
            order = self._orders[number]
            places, there = _find(order.known, ngrams)
            values = counts * np.where(there, order.weights[places] if len(order.known) else 0.0, self._rare)
            norms = np.sqrt(np.bincount(owners, values**2, len(captions)))
            keys = np.where(there, photographs[owners] * len(order.known) + places, -1)
            begins = np.searchsorted(order.keys, keys, "left")
            matches = np.searchsorted(order.keys, keys, "right") - begins  # references that have the n-gram
            ends = matches.cumsum()
            stands = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - ends + matches, matches)
            of_caption = np.repeat(owners, matches)
            apart = counted_lengths[of_caption] - self._reference_lengths[order.references[stands]]
            similar = np.minimum(np.repeat(values, matches), order.values[stands]) * order.normed[stands]
            similar *= np.exp(-(apart**2) / (2 * SIGMA**2))
            total += np.bincount(of_caption, similar, len(captions)) / np.where(norms > 0, norms, 1.0)
        scores: _Floats = 10.0 * total / ORDERS / self._reference_counts[photographs]
        return scores


def _ngrams(
    tokens: _Integers, lengths: _Integers, size: int, orders: Sequence[_Order]
) -> Iterator[tuple[_Integers, _Integers, _Integers]]:
    """Yield the distinct n-grams of each caption, order by order: caption, count, and the n-gram.

    An n-gram is encoded as the index of its first n - 1 words among `known` of the next lower order, times `size`, plus
    its last word. That is exact in 64 bits for any vocabulary. An n-gram in no reference is -1.

    Args:
        tokens: of all captions, one after the other (N,).
        lengths: of the captions.
        size: greater than every known token.
        orders: the references' n-grams; an order must be complete before the next higher one is requested.
    """
    captions = np.repeat(np.arange(len(lengths)), lengths)
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(tokens))  # words from here to the caption's end
    # Tokens beyond the known ones must be counted, but not be taken for another n-gram.
    span = int(max(size, tokens.max(initial=0) + 1))
    local = captions  # indices of the n-grams so far, in these captions only
    known = np.zeros(len(tokens), np.int64)
    here = ngrams = np.arange(0)
    for order in range(ORDERS):
        if order:
            places, there = _find(orders[order - 1].known, ngrams)
            known = np.full(len(tokens), -1)
            known[here] = np.where(there, places, -1)
        here = np.flatnonzero(left > order)
        last = tokens[here + order]
        _, first, numbers, counts = np.unique(
            local[here] * span + last, return_index=True, return_inverse=True, return_counts=True
        )
        local = np.zeros_like(captions)
        local[here] = numbers
        before = known[here]
        ngrams = np.where((before >= 0) & (last < size), before * size + last, -1)
        yield captions[here[first]], counts, ngrams[first]


def _find(known: _Integers, ngrams: _Integers) -> tuple[_Integers, NDArray[np.bool_]]:
    """Position of n-grams in `known`, and a mask of those found."""
    places = np.searchsorted(known, ngrams)
    places[places == len(known)] = 0
    if not len(known):
        return places, np.zeros(len(ngrams), bool)
    there: NDArray[np.bool_] = known[places] == ngrams
    return places, there
