"""Decoding: greedy, sampling and beam search, over any network with a `step`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.runtime.vocabulary import END, PAD, START, UNK

FORBIDDEN = (PAD, START, UNK)  # never generated, whatever their probability
_BLOCK = 64  # scores per block of `_best`


@dataclass(frozen=True, slots=True)
class State:
    """The decoder's state between two time steps, for B photographs with K hypotheses each.

    `memory` holds arrays (B, L, ...) that a photograph's hypotheses share, with a row per place of the grid, so that
    selecting rows restricts attention (`runtime.region_network`). `recurrent` holds arrays (B, K, ...). The arrays may
    be NumPy's or torch's; the search only selects rows of them.
    """

    memory: tuple[Any, ...]
    recurrent: tuple[Any, ...]

    def select(self, photographs: NDArray[np.int64], hypotheses: NDArray[np.int64]) -> "State":
        """Keep `photographs` (b,), ascending, and of each the `hypotheses` (b, K'), which may repeat."""
        everything = len(photographs) == len(self.recurrent[0])
        memory = self.memory if everything else tuple(array[photographs] for array in self.memory)
        return State(memory, tuple(array[photographs[:, None], hypotheses] for array in self.recurrent))


class Network(Protocol):
    """The interface between networks and everything that uses one: decoding, figures, the server."""

    def encode(self, images: NDArray[np.float32]) -> Any:
        """Encode preprocessed photographs (B, 3, H, W) as grid features (B, L, D)."""

    def start(self, features: Any) -> State:
        """Make the initial state from grid features (B, L, D), with one hypothesis per photograph."""

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """Decode one time step.

        Args:
            tokens: the previous words (B, K).
            state: of the same B and K.

        Returns:
            Log-probabilities (B, K, V), attention (B, K, L), and the next state.
        """


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Options of decoding.

    With `temperature` set, words are sampled (after `top_k` and `top_p`) instead of found by beam search.
    Hypotheses are ranked by log-probability / words ** length_penalty, with `<end>` counted as a word: 1 gives the
    mean log-probability of a word, 0 the plain sum, which favours short captions.

    Raises:
        OptionError: a value makes no sense; the message names it.
    """

    beam: int = 3
    length_penalty: float = 1.0
    max_words: int = 30
    temperature: float | None = None
    top_k: int = 0  # 0: all words
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        hot = self.temperature is None or (self.temperature > 0 and math.isfinite(self.temperature))
        checks = (
            ("beam", _is_whole(self.beam) and self.beam >= 1, "a whole number of at least 1"),
            ("length_penalty", math.isfinite(self.length_penalty), "a finite number"),
            ("max_words", _is_whole(self.max_words) and self.max_words >= 1, "a whole number of at least 1"),
            ("temperature", hot, "above 0 and finite"),
            ("top_k", _is_whole(self.top_k) and self.top_k >= 0, "a whole number of at least 0"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("seed", _is_whole(self.seed) and self.seed >= 0, "a whole number of at least 0"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise OptionError(f"{name} must be {wanted}, got {getattr(self, name)}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer)


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """One decoded caption.

    `tokens` are its n words without `<start>` and `<end>`; `log_probs` (n,) the network's log-probability of each;
    `attention` float32 (n, L). `log_prob` is the sum over the words and `<end>`; `complete` is False where the
    caption was cut at `max_words`.
    """

    tokens: tuple[int, ...]
    log_prob: float
    log_probs: NDArray[np.float32]
    attention: NDArray[np.float32]
    score: float
    complete: bool


def decode(
    network: Network,
    features: Any,
    options: DecodingOptions,
    *,
    numbers: Sequence[int] | None = None,
    prefix: Sequence[int] = (),
) -> list[Hypothesis]:
    """Decode the best caption of each photograph.

    Args:
        network: anything with `start` and `step`.
        features: grid features (B, L, D).
        options: a beam of 1 is greedy decoding.
        numbers: of the photographs in the whole sequence, by default from 0; the random numbers of a sample are those
            of its seed and number, so that samples do not depend on batching.
        prefix: words that every caption begins with.

    Raises:
        OptionError: the prefix has more words than a caption may have.
    """
    if len(prefix) > options.max_words:
        raise OptionError(f"prefix has {len(prefix)} words, more than max_words allows ({options.max_words})")
    if not len(features):
        return []
    if options.temperature is not None:
        return _sample(network, features, options, range(len(features)) if numbers is None else numbers, prefix)
    return [best[0] for best in beam_search(network, features, options, prefix=prefix)]


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """An open hypothesis as a linked list, so that extending it copies nothing."""

    token: int
    log_prob: float  # of this token
    attention: NDArray[np.float32] | None
    total: float
    length: int
    before: Self | None

    def extend(self, token: int, log_prob: float, attention: NDArray[np.float32]) -> "_Path":
        return _Path(token, log_prob, attention, self.total + log_prob, self.length + 1, self)

    def finish(self, penalty: float, places: int) -> Hypothesis:
        tokens, log_probs, maps = [], [], []
        complete = self.token == END
        path = self.before if complete else self
        while path is not None and path.before is not None:
            tokens.append(path.token)
            log_probs.append(path.log_prob)
            maps.append(path.attention)
            path = path.before
        attention = np.array(maps[::-1], np.float32).reshape(len(maps), places)
        score = self.total / max(self.length, 1) ** penalty
        return Hypothesis(
            tuple(tokens[::-1]), self.total, np.array(log_probs[::-1], np.float32), attention, score, complete
        )


_ROOT = _Path(START, 0.0, None, 0.0, 0, None)
_NOTHING = _Path(PAD, 0.0, None, -np.inf, 1, None)  # fills a beam where there are too few words


def _begin(network: Network, features: Any, prefix: Sequence[int]) -> tuple[list[_Path], State]:
    """The path of each photograph through the prefix, and the state after it."""
    state = network.start(features)
    paths = [_ROOT] * len(state.recurrent[0])
    for token in prefix:
        log_probs, attention, state = network.step(np.array([[path.token] for path in paths], np.int64), state)
        paths = [
            path.extend(token, float(log_probs[row, 0, token]), attention[row, 0]) for row, path in enumerate(paths)
        ]
    return paths, state


def beam_search(
    network: Network, features: Any, options: DecodingOptions, *, prefix: Sequence[int] = ()
) -> list[list[Hypothesis]]:
    """Search up to `beam` finished captions of each photograph, best first, that begin with `prefix`.

    A hypothesis is finished where `<end>` is among the `beam` best extensions of the photograph's hypotheses. A
    photograph leaves the batch once it has `beam` finished captions and no open hypothesis scores higher at its
    present length. Captions without an end after `max_words` words are cut there and returned.
    """
    begun, state = _begin(network, features, prefix)
    count = len(begun)
    width = options.beam
    active = np.arange(count)  # photographs whose search goes on
    beams: list[list[_Path]] = [[path] for path in begun]  # open hypotheses of the active photographs
    finished: list[list[_Path]] = [[] for _ in range(count)]
    places = 0

    for _ in range(len(prefix), options.max_words + 1):  # one more step for <end>
        tokens = np.array([[path.token for path in paths] for paths in beams], np.int64)  # (b, K)
        log_probs, attention, state = network.step(tokens, state)
        places = attention.shape[-1]
        last = beams[0][0].length == options.max_words
        totals = np.array([[path.total for path in paths] for paths in beams])[..., None]  # (b, K, 1)
        scores = log_probs + totals  # (b, K, V)
        scores[..., FORBIDDEN] = -np.inf
        choices = _best(scores.reshape(len(beams), -1), 2 * width)  # (b, 2K)
        kept: list[int] = []  # rows of the batch that go on
        parents: list[list[int]] = []
        going_on: list[list[_Path]] = []
        for row, photograph in enumerate(active):
            opened: list[_Path] = []
            origins: list[int] = []
            ended: set[int] = set()
            for rank, choice in enumerate(choices[row]):
                origin, token = divmod(int(choice), scores.shape[-1])
                if not np.isfinite(scores[row, origin, token]):
                    break
                path = beams[row][origin].extend(token, float(log_probs[row, origin, token]), attention[row, origin])
                if token == END:
                    if rank < width:
                        finished[photograph].append(path)
                        ended.add(origin)
                elif len(opened) < width:
                    opened.append(path)
                    origins.append(origin)
            if last:
                # The length limit is reached: hypotheses without <end> are cut here.
                cut = (path for origin, path in enumerate(beams[row]) if origin not in ended)
                finished[photograph].extend(path for path in cut if path is not _NOTHING)
            elif opened and not _settled(finished[photograph], opened, options):
                kept.append(row)
                parents.append(origins + [0] * (width - len(origins)))
                going_on.append(opened + [_NOTHING] * (width - len(opened)))
        if not kept:
            break
        active = active[kept]
        beams = going_on
        state = state.select(np.array(kept), np.array(parents))
    results = []
    for paths in finished:
        hypotheses = [path.finish(options.length_penalty, places) for path in paths]
        results.append(sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:width])
    return results


def _settled(finished: Sequence[_Path], opened: Sequence[_Path], options: DecodingOptions) -> bool:
    if len(finished) < options.beam:
        return False
    scores = sorted((path.total / path.length**options.length_penalty for path in finished), reverse=True)
    promise = max(path.total / path.length**options.length_penalty for path in opened)
    return bool(promise <= scores[options.beam - 1])


def _best(scores: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Indices (b, count) of the highest scores in each row of (b, n), best first; ties by index."""
    size = scores.shape[1]
    count = min(count, size)
    places = np.broadcast_to(np.arange(size), scores.shape)
    candidates = scores
    if size > count * _BLOCK:
        # The highest scores lie in the blocks with the highest maxima, which leaves few to sort.
        maxima = np.maximum.reduceat(scores, np.arange(0, size, _BLOCK), axis=1)
        blocks = np.sort(np.argpartition(maxima, -count, axis=1)[:, -count:], axis=1)  # (b, count)
        places = (blocks[..., None] * _BLOCK + np.arange(_BLOCK)).reshape(len(scores), -1)
        within = np.minimum(places, size - 1)  # the last block may be incomplete
        candidates = np.where(places < size, np.take_along_axis(scores, within, 1), -np.inf)
    order = np.argsort(-candidates, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(places, order, 1)


def _sample(
    network: Network, features: Any, options: DecodingOptions, numbers: Sequence[int], prefix: Sequence[int]
) -> list[Hypothesis]:
    paths, state = _begin(network, features, prefix)
    count = len(paths)
    random = [np.random.default_rng([options.seed, number]) for number in numbers]
    active = np.arange(count)
    places = 0
    for words in range(len(prefix), options.max_words + 1):  # one more step for <end>
        tokens = np.array([[paths[photograph].token] for photograph in active], np.int64)
        log_probs, attention, state = network.step(tokens, state)
        places = attention.shape[-1]
        for row, photograph in enumerate(active):
            weights = _truncated(log_probs[row, 0], options)
            token = int(random[photograph].choice(len(weights), p=weights))
            if token != END and words == options.max_words:
                continue  # the length limit is reached: the caption is cut here
            paths[photograph] = paths[photograph].extend(token, float(log_probs[row, 0, token]), attention[row, 0])
        kept = np.array([row for row, photograph in enumerate(active) if paths[photograph].token != END], int)
        if not len(kept):
            break
        active = active[kept]
        state = state.select(kept, np.zeros((len(kept), 1), np.int64))
    return [path.finish(options.length_penalty, places) for path in paths]


def _truncated(log_probs: NDArray[np.float32], options: DecodingOptions) -> NDArray[np.float64]:
    """Sampling distribution (V,): temperature, then the top k, then the nucleus of mass p.

    Nucleus: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020.
    """
    assert options.temperature is not None
    scores = log_probs.astype(np.float64)
    scores[list(FORBIDDEN)] = -np.inf
    order = np.argsort(-scores, kind="stable")
    with np.errstate(over="ignore"):  # with a temperature near 0 only the most probable word is left
        weights: NDArray[np.float64] = np.exp((scores[order] - scores[order[0]]) / options.temperature)
    if options.top_k:
        weights[options.top_k :] = 0
    weights /= weights.sum()
    before = np.cumsum(weights) - weights
    weights[before >= options.top_p] = 0  # the first word always stays
    result = np.zeros_like(weights)
    result[order] = weights / weights.sum()
    return result
