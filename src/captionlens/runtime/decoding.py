"""Greedy decoding, sampling and beam search: one search over `step`, for every network that offers it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.runtime.vocabulary import END, PAD, START, UNK

FORBIDDEN = (PAD, START, UNK)  # never said, whatever the network thinks of them
_BLOCK = 64  # scores whose maximum is taken before they are sorted


@dataclass(frozen=True, slots=True)
class State:
    """The state of a network between two words, of B photographs with K hypotheses each.

    `memory` holds arrays (B, L, ...), a row a place of the grid, that a photograph's hypotheses share: who keeps
    attention to some places (`runtime.region_network`) selects rows of all of them. `recurrent` holds arrays
    (B, K, ...).
    The arrays may be NumPy's or torch's; the search only selects rows of them.
    """

    memory: tuple[Any, ...]
    recurrent: tuple[Any, ...]

    def select(self, photographs: NDArray[np.int64], hypotheses: NDArray[np.int64]) -> "State":
        """Keep `photographs` (b,), ascending, and of each the `hypotheses` (b, K'), which may repeat."""
        everything = len(photographs) == len(self.recurrent[0])
        memory = self.memory if everything else tuple(array[photographs] for array in self.memory)
        return State(memory, tuple(array[photographs[:, None], hypotheses] for array in self.recurrent))


class Network(Protocol):
    """The seam: all that search, figures and servers know of a network."""

    def encode(self, images: NDArray[np.float32]) -> Any:
        """Prepared photographs (B, 3, H, W) to grid features (B, L, D)."""

    def start(self, features: Any) -> State:
        """Grid features (B, L, D) to the state before the first word, with one hypothesis a photograph."""

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """One word further.

        Args:
            tokens: the words before (B, K).
            state: of the same B and K.

        Returns:
            log-probabilities (B, K, V), attention (B, K, L), and the next state.
        """


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How a caption is searched for.

    With `temperature` set, words are drawn at random (after `top_k` and `top_p`) instead of searched for.
    Hypotheses are compared by log-probability / words ** length_penalty, their end counted as a word: 1 is
    the mean log-probability of a word, 0 the plain sum, which favours short captions.

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

    `tokens` are its n words without start and end; `log_probs` (n,) the network's log-probability of each;
    `attention` float32 (n, L). `log_prob` is the sum over the words and the end; `complete` is False where
    the caption was cut at `max_words`.
    """

    tokens: tuple[int, ...]
    log_prob: float
    log_probs: NDArray[np.float32]
    attention: NDArray[np.float32]
    score: float
    complete: bool


def decode(
    network: Network, features: Any, options: DecodingOptions, *, first: int = 0, prefix: Sequence[int] = ()
) -> list[Hypothesis]:
    """The best caption of each photograph.

    Args:
        network: anything with `start` and `step`.
        features: grid features (B, L, D).
        options: beam 1 is greedy.
        first: number of the first photograph among all, so that random captions do not depend on batches.
        prefix: words that every caption begins with.

    Raises:
        OptionError: the prefix has more words than a caption may have.
    """
    if len(prefix) > options.max_words:
        raise OptionError(f"prefix has {len(prefix)} words, more than max_words allows ({options.max_words})")
    if not len(features):
        return []
    if options.temperature is not None:
        return _sample(network, features, options, first, prefix)
    return [best[0] for best in beam_search(network, features, options, prefix=prefix)]


def teacher_force(
    network: Network, features: Any, tokens: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Teacher forcing of captions that are given, one word after the other.

    Args:
        network: anything with `start` and `step`.
        features: grid features (B, L, D).
        tokens: K captions of each photograph (B, K, T), from `<start>` on; padding is fed as it stands.

    Yields:
        T times: log-probabilities (B, K, V) of the word that comes next, and the attention (B, K, L) they came from.
    """
    count, width, length = tokens.shape
    state = network.start(features).select(np.arange(count), np.zeros((count, width), np.int64))
    for time in range(length):
        log_probs, attention, state = network.step(np.ascontiguousarray(tokens[:, :, time]), state)
        yield log_probs, attention


def forced_words(
    network: Network, features: Any, tokens: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities (B, K, T - 1) and attention (B, K, T - 1, L) of captions (B, K, T), of all but `<start>`."""
    predicted, maps = zip(*teacher_force(network, features, tokens[:, :, :-1]), strict=True)
    log_probs = np.take_along_axis(np.stack(predicted, 2), tokens[:, :, 1:, None], -1)[..., 0]
    return log_probs, np.stack(maps, 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """A hypothesis in the making, as a linked list: extending it copies nothing."""

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
    """The one path of each photograph that says the prefix, and the state before what comes next."""
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
    """Up to `beam` finished captions of each photograph, best first, all of which begin with the words of `prefix`.

    A caption ends where the end is among the `beam` best ways to go on with the photograph's hypotheses. A
    photograph leaves the batch once it has `beam` finished captions and no open one promises more at its
    present length. Captions that do not end after `max_words` words are cut there and returned.
    """
    begun, state = _begin(network, features, prefix)
    count = len(begun)
    width = options.beam
    active = np.arange(count)  # photographs still searched
    beams: list[list[_Path]] = [[path] for path in begun]  # open hypotheses of the active ones
    finished: list[list[_Path]] = [[] for _ in range(count)]
    places = 0

    for _ in range(len(prefix), options.max_words + 1):  # the end is a word too
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
                # No room for another word: what did not end by itself is cut where it stands.
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
    """Indices (b, count) of the highest scores (b, n) in each row, best first; ties among them by index."""
    size = scores.shape[1]
    count = min(count, size)
    places = np.broadcast_to(np.arange(size), scores.shape)
    candidates = scores
    if size > count * _BLOCK:
        # The highest lie in the blocks with the highest maxima, so that few numbers are left to sort.
        maxima = np.maximum.reduceat(scores, np.arange(0, size, _BLOCK), axis=1)
        blocks = np.sort(np.argpartition(maxima, -count, axis=1)[:, -count:], axis=1)  # (b, count)
        places = (blocks[..., None] * _BLOCK + np.arange(_BLOCK)).reshape(len(scores), -1)
        within = np.minimum(places, size - 1)  # the last block may be a part of one
        candidates = np.where(places < size, np.take_along_axis(scores, within, 1), -np.inf)
    order = np.argsort(-candidates, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(places, order, 1)


def _sample(
    network: Network, features: Any, options: DecodingOptions, first: int, prefix: Sequence[int]
) -> list[Hypothesis]:
    paths, state = _begin(network, features, prefix)
    count = len(paths)
    random = [np.random.default_rng([options.seed, first + index]) for index in range(count)]
    active = np.arange(count)
    places = 0
    for words in range(len(prefix), options.max_words + 1):  # the end is a word too
        tokens = np.array([[paths[photograph].token] for photograph in active], np.int64)
        log_probs, attention, state = network.step(tokens, state)
        places = attention.shape[-1]
        for row, photograph in enumerate(active):
            weights = _truncated(log_probs[row, 0], options)
            token = int(random[photograph].choice(len(weights), p=weights))
            if token != END and words == options.max_words:
                continue  # no room for another word: the caption is cut where it stands
            paths[photograph] = paths[photograph].extend(token, float(log_probs[row, 0, token]), attention[row, 0])
        kept = np.array([row for row, photograph in enumerate(active) if paths[photograph].token != END], int)
        if not len(kept):
            break
        active = active[kept]
        state = state.select(kept, np.zeros((len(kept), 1), np.int64))
    return [path.finish(options.length_penalty, places) for path in paths]


def _truncated(log_probs: NDArray[np.float32], options: DecodingOptions) -> NDArray[np.float64]:
    """The distribution (V,) words are drawn from: temperature, then the top k, then the nucleus of mass p.

    Nucleus: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020.
    """
    assert options.temperature is not None
    scores = log_probs.astype(np.float64)
    scores[list(FORBIDDEN)] = -np.inf
    order = np.argsort(-scores, kind="stable")
    with np.errstate(over="ignore"):  # a temperature of nearly nothing leaves the likeliest word alone
        weights: NDArray[np.float64] = np.exp((scores[order] - scores[order[0]]) / options.temperature)
    if options.top_k:
        weights[options.top_k :] = 0
    weights /= weights.sum()
    before = np.cumsum(weights) - weights
    weights[before >= options.top_p] = 0  # the first word always stays
    result = np.zeros_like(weights)
    result[order] = weights / weights.sum()
    return result
