"""Greedy decoding, sampling and beam search on a network small enough to try every caption there is."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from captionlens.errors import OptionError
from captionlens.runtime.decoding import (
    FORBIDDEN,
    DecodingOptions,
    Hypothesis,
    State,
    _best,
    beam_search,
    decode,
)
from captionlens.runtime.teacher_forcing import teacher_force
from captionlens.runtime.vocabulary import END, PAD, START, UNK

WORDS = (4, 5, 6, 7)
PLACES, SIZE = 3, 6


class SmallNetwork:
    """Four words and the specials; what comes next depends on the photograph and on all words before.

    `bias` is added to the logits (8,). With `stubborn`, END has probability 0 in about half of all states.
    """

    def __init__(self, seed: int, *, bias: dict[int, float] | None = None, stubborn: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.recurrent = random.normal(size=(SIZE, SIZE)) * 0.8
        self.embedding = random.normal(size=(8, SIZE))
        self.output = random.normal(size=(SIZE, 8)) * 1.5
        self.places = random.normal(size=(SIZE, PLACES))
        self.bias = np.zeros(8)
        for token, value in (bias or {}).items():
            self.bias[token] = value
        self.stubborn = stubborn

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("search does not encode")

    def start(self, features: NDArray[np.float32]) -> State:
        """Features (B, 3, 6); the state (B, 1, 6) is their mean."""
        return State((features,), (features.mean(1, keepdims=True),))

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        (memory,), (before,) = state.memory, state.recurrent
        assert tokens.shape == before.shape[:2]
        assert len(memory) == len(tokens)
        scores = before @ self.places + np.einsum("bld,bkd->bkl", memory, before)
        attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        after = np.tanh(before @ self.recurrent + self.embedding[tokens] + attention @ memory)
        logits = after @ self.output + self.bias
        if self.stubborn:
            logits[..., END] = np.where(after[..., 0] > 0, -np.inf, logits[..., END])
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return log_probs.astype(np.float32), attention.astype(np.float32), State((memory,), (after,))


def photographs(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, PLACES, SIZE)).astype(np.float32)


def forced(
    network: SmallNetwork, features: NDArray[np.float32], tokens: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities (n + 1, 8) and attention (n + 1, 3) of every step of a caption of n words."""
    state = network.start(features[None])
    rows = []
    for token in (START, *tokens):
        log_probs, attention, state = network.step(np.array([[token]]), state)
        rows.append((log_probs[0, 0], attention[0, 0]))
    return np.stack([row for row, _ in rows]), np.stack([row for _, row in rows])


def every_caption(
    network: SmallNetwork, features: NDArray[np.float32], max_words: int
) -> Iterator[tuple[tuple[int, ...], float, bool]]:
    """All captions that can be: words, log-probability, and whether they end by themselves."""
    for length in range(max_words + 1):
        for tokens in product(WORDS, repeat=length):
            log_probs, _ = forced(network, features, tokens)
            total = float(sum(log_probs[time, token] for time, token in enumerate(tokens)))
            if np.isfinite(log_probs[-1, END]):
                yield tokens, total + float(log_probs[-1, END]), True
            elif length == max_words:
                yield tokens, total, False


def ranked(captions: Any, penalty: float) -> list[tuple[tuple[int, ...], float, bool]]:
    scored = [
        (tokens, total / max(len(tokens) + complete, 1) ** penalty, complete) for tokens, total, complete in captions
    ]
    return sorted(scored, key=lambda caption: -caption[1])


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_brute_force_finds(seed: int, stubborn: bool) -> None:
    network, features = SmallNetwork(seed, stubborn=stubborn), photographs(1, seed)
    captions = list(every_caption(network, features[0], max_words=3))
    assert len(captions) > 64
    assert any(not complete for *_, complete in captions) == stubborn
    for penalty in (0.0, 0.6, 1.0, 2.0, -0.5):
        wanted = ranked(captions, penalty)
        # 64 captions of three words, each with four words or the end to go on: nothing falls off this beam.
        options = DecodingOptions(beam=320, max_words=3, length_penalty=penalty)
        found = beam_search(network, features, options)[0]
        assert len(found) == len(wanted)
        assert {hypothesis.tokens for hypothesis in found} == {tokens for tokens, *_ in wanted}
        np.testing.assert_allclose([h.score for h in found], [score for _, score, _ in wanted], rtol=1e-5)
        assert (found[0].tokens, found[0].complete) == (wanted[0][0], wanted[0][2])
        assert decode(network, features, options)[0].tokens == wanted[0][0]


def test_length_penalties_choose_captions_of_different_length() -> None:
    """Else the test above would say little."""
    network, features = SmallNetwork(1), photographs(1, 1)
    captions = list(every_caption(network, features[0], max_words=3))
    lengths = {len(ranked(captions, penalty)[0][0]) for penalty in (0.0, 1.0, 2.0)}
    assert len(lengths) > 1


def argmax_chain(network: SmallNetwork, features: NDArray[np.float32], max_words: int) -> tuple[int, ...]:
    tokens: tuple[int, ...] = ()
    while len(tokens) < max_words:
        last = forced(network, features, tokens)[0][-1].copy()
        last[list(FORBIDDEN)] = -np.inf
        if int(last.argmax()) == END:
            break
        tokens = (*tokens, int(last.argmax()))
    return tokens


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 3.0])
def test_a_beam_of_one_is_greedy(penalty: float) -> None:
    features = photographs(4)
    lengths = set()
    for seed in range(12):
        network = SmallNetwork(seed, bias={END: 0.5})
        found = decode(network, features, DecodingOptions(beam=1, max_words=5, length_penalty=penalty))
        for photograph, hypothesis in zip(features, found, strict=True):
            assert hypothesis.tokens == argmax_chain(network, photograph, 5)
            lengths.add(len(hypothesis.tokens))
    assert {0, 5} < lengths


def check_hypothesis(network: SmallNetwork, features: NDArray[np.float32], hypothesis: Hypothesis) -> None:
    """Its numbers are those of its words, when these are given to the network one by one."""
    tokens = hypothesis.tokens
    log_probs, attention = forced(network, features, tokens)
    wanted = np.array([log_probs[time, token] for time, token in enumerate(tokens)], np.float32)
    assert hypothesis.log_probs.shape == (len(tokens),)
    np.testing.assert_allclose(hypothesis.log_probs, wanted, rtol=1e-5)
    assert hypothesis.attention.shape == (len(tokens), PLACES)
    assert hypothesis.attention.dtype == np.float32
    np.testing.assert_allclose(hypothesis.attention, attention[:-1], rtol=1e-4)
    total = wanted.sum() + (log_probs[-1, END] if hypothesis.complete else 0)
    assert hypothesis.log_prob == pytest.approx(float(total), rel=1e-5)


CASES = [
    DecodingOptions(beam=1, max_words=4),
    DecodingOptions(beam=2, max_words=6),
    DecodingOptions(beam=3, max_words=6, length_penalty=0.0),
    DecodingOptions(beam=5, max_words=3, length_penalty=0.7),
    DecodingOptions(temperature=1.0, max_words=6),
    DecodingOptions(temperature=2.0, max_words=3, top_k=3, top_p=0.9),
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("stubborn", [False, True])
def test_log_probabilities_and_attention_belong_to_the_words(options: DecodingOptions, stubborn: bool) -> None:
    features = photographs(5)
    for seed in range(4):
        network = SmallNetwork(seed, stubborn=stubborn)
        for photograph, hypothesis in zip(features, decode(network, features, options), strict=True):
            check_hypothesis(network, photograph, hypothesis)
            assert len(hypothesis.tokens) <= options.max_words
            assert hypothesis.complete or len(hypothesis.tokens) == options.max_words


@pytest.mark.parametrize("options", CASES)
def test_a_batch_says_what_its_photographs_say_alone(options: DecodingOptions) -> None:
    features = photographs(7)
    captions = set()
    for seed in range(4, 8):
        network = SmallNetwork(seed, bias={END: 0.5})
        together = decode(network, features, options)
        for number, hypothesis in enumerate(together):
            (alone,) = decode(network, features[number : number + 1], options, numbers=[number])
            assert alone.tokens == hypothesis.tokens
            assert alone.complete == hypothesis.complete
            np.testing.assert_allclose(alone.log_probs, hypothesis.log_probs, rtol=1e-5)
            np.testing.assert_allclose(alone.attention, hypothesis.attention, rtol=1e-5)
            captions.add(hypothesis.tokens)
    assert len({len(tokens) for tokens in captions}) > 2  # photographs left the batch at different times


@pytest.mark.parametrize("beam", [1, 2, 3, 6])
def test_hypotheses_are_distinct_and_sorted(beam: int) -> None:
    features = photographs(4)
    for seed in range(4):
        network = SmallNetwork(seed)
        for photograph, found in zip(
            features, beam_search(network, features, DecodingOptions(beam=beam, max_words=5)), strict=True
        ):
            assert 1 <= len(found) <= beam
            assert len({hypothesis.tokens for hypothesis in found}) == len(found)
            assert all(one.score >= other.score for one, other in pairwise(found))
            for hypothesis in found:
                check_hypothesis(network, photograph, hypothesis)
                steps = len(hypothesis.tokens) + hypothesis.complete
                assert hypothesis.score == pytest.approx(hypothesis.log_prob / steps)


@pytest.mark.parametrize("beam", [1, 3, 50])
def test_what_never_ends_is_cut(beam: int) -> None:
    network, features = SmallNetwork(0, bias={END: -np.inf}), photographs(2)
    for photograph, found in zip(
        features, beam_search(network, features, DecodingOptions(beam=beam, max_words=4)), strict=True
    ):
        assert len(found) == beam
        for hypothesis in found:
            assert len(hypothesis.tokens) == 4
            assert not hypothesis.complete
            check_hypothesis(network, photograph, hypothesis)
    sampled = decode(network, features, DecodingOptions(temperature=1.0, max_words=4))
    assert [(len(h.tokens), h.complete) for h in sampled] == [(4, False)] * 2


class OneWord(SmallNetwork):
    """Says one word and ends, with near certainty."""

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        self.bias[END] = -np.inf if (tokens == START).all() else 50.0
        return super().step(tokens, state)


def test_a_caption_of_the_most_words_may_still_end() -> None:
    """The end needs no room."""
    for options in (DecodingOptions(beam=1), DecodingOptions(beam=3), DecodingOptions(temperature=1.0)):
        options = dataclasses.replace(options, max_words=1)
        (hypothesis,) = decode(OneWord(0), photographs(1), options)
        assert len(hypothesis.tokens) == 1
        assert hypothesis.complete


def test_an_empty_caption_has_empty_arrays() -> None:
    network, features = SmallNetwork(0, bias={END: 50.0}), photographs(1)
    for options in (DecodingOptions(beam=1), DecodingOptions(temperature=1.0)):
        (hypothesis,) = decode(network, features, options)
        assert hypothesis.tokens == ()
        assert hypothesis.complete
        check_hypothesis(network, features[0], hypothesis)


@pytest.mark.parametrize("options", CASES)
def test_forbidden_tokens_are_never_said(options: DecodingOptions) -> None:
    assert set(FORBIDDEN) == {PAD, START, UNK}
    network = SmallNetwork(2, bias={PAD: 8.0, START: 9.0, UNK: 10.0})
    for hypothesis in decode(network, photographs(8), options):
        assert set(hypothesis.tokens) <= set(WORDS)


def test_no_photographs_no_captions() -> None:
    for options in (DecodingOptions(), DecodingOptions(temperature=1.0)):
        assert decode(SmallNetwork(0), photographs(0), options) == []


# Sampling.


def sampled(network: SmallNetwork, features: NDArray[np.float32], first: int = 0, **options: Any) -> list[Any]:
    numbers = range(first, first + len(features))
    found = decode(network, features, DecodingOptions(**{"temperature": 1.0} | options), numbers=numbers)
    return [hypothesis.tokens for hypothesis in found]


def test_samples_are_those_of_their_seed() -> None:
    network, features = SmallNetwork(0), photographs(20)
    assert sampled(network, features, seed=1) == sampled(network, features, seed=1)
    assert sampled(network, features, seed=1) != sampled(network, features, seed=2)
    same = np.repeat(features[:1], 20, axis=0)
    assert len(set(sampled(network, same))) > 5  # each photograph has its own numbers


def test_samples_do_not_depend_on_the_batches() -> None:
    network, features = SmallNetwork(0), photographs(20)
    whole = sampled(network, features, seed=3)
    parts = [
        tokens
        for start, stop in ((0, 1), (1, 8), (8, 20))
        for tokens in sampled(network, features[start:stop], first=start, seed=3)
    ]
    assert parts == whole


def test_sampling_from_the_likeliest_word_is_greedy() -> None:
    features = photographs(6)
    for seed in range(6):
        network = SmallNetwork(seed, bias={END: 0.5})
        greedy = decode(network, features, DecodingOptions(beam=1, max_words=4))
        for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-3}, {"temperature": 5e-324}):
            found = decode(network, features, DecodingOptions(**{"temperature": 1.5, "max_words": 4} | options))
            for one, other in zip(found, greedy, strict=True):
                assert (one.tokens, one.complete) == (other.tokens, other.complete)
                assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)


def first_words(count: int, **options: Any) -> tuple[dict[int, float], NDArray[np.float64]]:
    """Shares of the first words in many samples of one photograph, and the network's log-probabilities."""
    network, features = SmallNetwork(4), photographs(1)
    found = sampled(network, np.repeat(features, count, axis=0), max_words=1, **options)
    counts = Counter(tokens[0] if tokens else END for tokens in found)
    return {token: number / count for token, number in counts.items()}, forced(network, features[0], ())[0][0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_words_are_drawn_as_likely_as_the_temperature_makes_them(temperature: float) -> None:
    shares, log_probs = first_words(3000, temperature=temperature)
    weights = np.exp(log_probs.astype(np.float64) / temperature)
    weights[list(FORBIDDEN)] = 0
    weights /= weights.sum()
    assert set(shares) <= {END, *WORDS}
    for token in (END, *WORDS):
        # Five standard deviations of a share.
        assert abs(shares.get(token, 0) - weights[token]) < 5 * np.sqrt(0.25 / 3000)


def allowed_best_first(log_probs: NDArray[Any]) -> list[int]:
    return sorted((END, *WORDS), key=lambda token: -log_probs[token])


@pytest.mark.parametrize("top_k", [1, 2, 3, 100])
def test_top_k_keeps_the_k_likeliest(top_k: int) -> None:
    shares, log_probs = first_words(600, temperature=3.0, top_k=top_k)
    assert set(shares) == set(allowed_best_first(log_probs)[:top_k])


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.8, 0.95, 1.0])
def test_top_p_keeps_the_nucleus(top_p: float) -> None:
    shares, log_probs = first_words(1500, temperature=2.0, top_p=top_p)
    order = allowed_best_first(log_probs)
    weights = np.exp(log_probs[order].astype(np.float64) / 2.0)
    mass = np.cumsum(weights / weights.sum())
    nucleus = order[: int(np.argmax(mass >= top_p - 1e-12)) + 1]  # the fewest words of that mass
    assert set(shares) == set(nucleus)


# Options.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam", 0),
        ("beam", -1),
        ("beam", 2.5),
        ("beam", float("nan")),
        ("max_words", 0),
        ("max_words", 1.5),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", float("nan")),
        ("seed", -1),
        ("length_penalty", float("nan")),
        ("length_penalty", float("inf")),
    ],
)
def test_a_bad_option_is_named_with_its_value(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=rf"^{name} must be .*, got {value}$"):
        DecodingOptions(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=name):
        dataclasses.replace(DecodingOptions(), **{name: value})  # type: ignore[arg-type]


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DecodingOptions().beam = 5  # type: ignore[misc]


def test_forcing_captions_together_is_forcing_each_alone() -> None:
    network, features = SmallNetwork(2), photographs(2, 4)
    captions = [[(4, 5, 6), (7, 7, 4), (6, 4, 4)], [(5, 5, 5), (4, 6, 7), (7, 4, 5)]]
    tokens = np.array([[(START, *caption) for caption in row] for row in captions])  # (2, 3, 4)
    steps = list(teacher_force(network, features, tokens))
    log_probs, attention = (np.stack(arrays, 2) for arrays in zip(*steps, strict=True))
    assert log_probs.shape == (2, 3, 4, 8)
    assert attention.shape == (2, 3, 4, PLACES)
    for photograph, caption in product(range(2), range(3)):
        wanted = forced(network, features[photograph], captions[photograph][caption])
        np.testing.assert_allclose(log_probs[photograph, caption], wanted[0], atol=1e-6)
        np.testing.assert_allclose(attention[photograph, caption], wanted[1], atol=1e-6)


@pytest.mark.parametrize("size", [5, 300, 1000, 7617])
def test_the_best_of_many_are_those_of_sorting_them_all(size: int) -> None:
    random = np.random.default_rng(size)
    for scores in (
        random.normal(size=(4, size)),
        np.round(random.normal(size=(4, size)), 1),  # many alike
        np.where(random.random((4, size)) < 0.99, -np.inf, random.normal(size=(4, size))),
    ):
        found = np.take_along_axis(scores, _best(scores, 6), 1)
        assert np.array_equal(found, -np.sort(-scores, axis=1)[:, :6])
        assert all(len(set(row)) == len(row) for row in _best(scores, 6).tolist())
