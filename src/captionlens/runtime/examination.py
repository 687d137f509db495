"""Measurement of the faithfulness of a caption's words, by running the network on blanked photographs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.geometry.grid_cells import attended_cells, blank
from captionlens.runtime.caption import Caption
from captionlens.runtime.decoding import Network
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.teacher_forcing import forced_words

_BLANKED_AT_ONCE = 16  # pictures of one photograph in a batch


def examine(
    caption: Caption,
    pixels: NDArray[np.uint8],
    tokens: Sequence[int],
    *,
    encode: Callable[[NDArray[np.uint8]], Any],
    network: Network,
) -> Caption:
    """Add its faithfulness to each word of a caption, see `runtime.faithfulness`.

    Args:
        caption: with at least one word.
        pixels: of its photograph (size, size, 3).
        tokens: indices of its words, from `<start>` to the last word.
        encode: pictures (B, size, size, 3) to grid features (B, L, D).
        network: the one that generated the caption.
    """
    # Words with like attention blank the same cells: every picture is encoded once.
    pairs = [attended_cells(map_) for map_ in caption.attention]
    blanks = {cells.tobytes(): cells for pair in pairs for cells in pair}
    parts = []
    for first in range(0, len(blanks), _BLANKED_AT_ONCE):
        some = list(blanks.values())[first : first + _BLANKED_AT_ONCE]
        pictures = np.stack([blank(pixels, cells) for cells in some])
        repeated = np.broadcast_to(np.array(tokens), (len(pictures), 1, len(tokens)))
        parts.append(forced_words(network, encode(pictures), repeated)[0][:, 0])
    log_probs = dict(zip(blanks, np.concatenate(parts), strict=True))
    words = []
    for number, (word, pair) in enumerate(zip(caption.words, pairs, strict=True)):
        blanked, control = (float(np.exp(log_probs[cells.tobytes()][number])) for cells in pair)
        words.append(replace(word, faithfulness=Faithfulness(word.probability, blanked, control)))
    return replace(caption, words=tuple(words))
