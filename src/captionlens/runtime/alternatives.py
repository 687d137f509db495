"""Alternatives to the words of a caption: the most probable other words at each time step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from captionlens.runtime.caption import Alternative
from captionlens.runtime.decoding import Hypothesis, Network
from captionlens.runtime.teacher_forcing import teacher_force
from captionlens.runtime.vocabulary import PAD, SPECIALS, START, Vocabulary


def likeliest_others(
    network: Network, features: Any, hypotheses: Sequence[Hypothesis], vocabulary: Vocabulary, count: int
) -> list[list[tuple[Alternative, ...]]]:
    """Most probable other words at every step of the captions, with their probability after the same prefix.

    Args:
        network: the one that generated the captions.
        features: grid features (B, L, D).
        hypotheses: the captions of the B photographs.
        vocabulary: of the network.
        count: largest number of alternatives of a word.

    Returns:
        Alternatives of each word of each caption, most probable first.
    """
    longest = max((len(hypothesis.tokens) for hypothesis in hypotheses), default=0)
    if count == 0 or longest == 0:
        return [[()] * len(hypothesis.tokens) for hypothesis in hypotheses]
    found: list[list[tuple[Alternative, ...]]] = [[] for _ in hypotheses]
    said = np.full((len(hypotheses), 1, longest + 1), PAD, np.int64)  # from <start> on
    said[:, :, 0] = START
    for row, hypothesis in enumerate(hypotheses):
        said[row, 0, 1 : len(hypothesis.tokens) + 1] = hypothesis.tokens
    for time, (log_probs, _) in enumerate(teacher_force(network, features, said[:, :, :-1])):
        scores = log_probs[:, 0].copy()  # (B, V)
        scores[:, : len(SPECIALS)] = -np.inf  # <end> included: only words are alternatives to words
        scores[np.arange(len(scores)), said[:, 0, time + 1]] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        for row, numbers in enumerate(best):
            if time < len(hypotheses[row].tokens):
                found[row].append(
                    tuple(
                        Alternative(vocabulary.tokens[number], float(np.exp(scores[row, number])))
                        for number in numbers
                        if np.isfinite(scores[row, number])
                    )
                )
    return found
