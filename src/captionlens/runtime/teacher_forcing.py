"""Teacher forcing: the probabilities and attention of given captions, over any network with a `step`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.decoding import Network
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.vocabulary import PAD, split_words

if TYPE_CHECKING:
    from captionlens.runtime.captioner import Captioner


def teacher_force(
    network: Network, features: Any, tokens: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Apply teacher forcing to given captions, one time step after the other.

    Args:
        network: anything with `start` and `step`.
        features: grid features (B, L, D).
        tokens: K captions of each photograph (B, K, T), from `<start>` on; padding is fed like any token.

    Yields:
        At each of T steps, log-probabilities (B, K, V) of the next word and the attention (B, K, L) behind them.
    """
    count, width, length = tokens.shape
    state = network.start(features).select(np.arange(count), np.zeros((count, width), np.int64))
    for time in range(length):
        log_probs, attention, state = network.step(np.ascontiguousarray(tokens[:, :, time]), state)
        yield log_probs, attention


def forced_words(
    network: Network, features: Any, tokens: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities (B, K, T - 1) and attention (B, K, T - 1, L) of captions (B, K, T), without `<start>`."""
    predicted, maps = zip(*teacher_force(network, features, tokens[:, :, :-1]), strict=True)
    log_probs = np.take_along_axis(np.stack(predicted, 2), tokens[:, :, 1:, None], -1)[..., 0]
    return log_probs, np.stack(maps, 2)


def forced_captions(captioner: "Captioner", photograph: Photograph, texts: Sequence[str]) -> list[Caption]:
    """Apply teacher forcing to texts, of which there is at least one; see `Captioner.force`."""
    features = captioner.encode(photograph.pixels(captioner.preprocessing)[None])
    photograph.release()
    numbers = [captioner.vocabulary.encode(text) for text in texts]
    tokens = np.full((1, len(numbers), max(map(len, numbers))), PAD, np.int64)
    for row, caption in enumerate(numbers):
        tokens[0, row, : len(caption)] = caption
    log_probs, attention = (array[0] for array in forced_words(captioner.network, features, tokens))
    results = []
    for row, text in enumerate(texts):
        said = split_words(text)
        probabilities = np.exp(log_probs[row, : len(said)])
        results.append(
            Caption(
                captioner.vocabulary.text(said),
                log_prob=float(log_probs[row, : len(said) + 1].sum()),  # <end> included
                words=tuple(Word(word, float(p)) for word, p in zip(said, probabilities, strict=True)),
                attention=attention[row, : len(said)].reshape(len(said), *captioner.grid),
                path=photograph.name,
                model=captioner.name,
                photograph=photograph,
            )
        )
    return results
