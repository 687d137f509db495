"""ROUGE-L, with the same results as pycocoevalcap.

Lin, "ROUGE: a package for automatic evaluation of summaries" (2004): the F-measure of the longest common
subsequence. Precision and recall are each the best over the references, not those of one reference.
"""

from collections.abc import Hashable, Sequence

BETA = 1.2


def rouge_l(candidate: Sequence[Hashable], references: Sequence[Sequence[Hashable]]) -> float:
    """Compute ROUGE-L of one caption, a fraction.

    Args:
        candidate: tokens of the caption.
        references: the photograph's captions, at least one, each a sequence of tokens.
    """
    # The official scorer splits an empty caption into one empty token, so two empty captions agree.
    candidate = candidate or ("",)
    places: dict[Hashable, int] = {}
    for position, token in enumerate(candidate):
        places[token] = places.get(token, 0) | 1 << position
    precision = recall = 0.0
    for reference in references:
        reference = reference or ("",)
        common = _longest_common_subsequence(places, len(candidate), reference)
        precision = max(precision, common / len(candidate))
        recall = max(recall, common / len(reference))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common_subsequence(places: dict[Hashable, int], length: int, other: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, with each row of the table in the bits of one integer.

    Hyyrö, "Bit-parallel LCS-length computation revisited" (2004). `places` has the bits of the positions of every token
    in the first sequence; a cleared bit of `row` is a step of the table.
    """
    everything = (1 << length) - 1
    row = everything
    for token in other:
        found = row & places.get(token, 0)
        row = (row + found) | (row - found)
    return length - (row & everything).bit_count()
