"""BLEU, METEOR, ROUGE-L and CIDEr-D of a set of captions, with bootstrap intervals."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError, OptionError
from captionlens.scoring import bleu, meteor, ptb
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals
from captionlens.scoring.cider import CiderD
from captionlens.scoring.rouge import rouge_l

Tokenizer = Callable[[str], list[str]]

_BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
_NAMED = 5  # largest number of photographs in an error message


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a set of captions.

    Scores are fractions, as in the official scorers, except for CIDEr-D, which goes up to 10.
    """

    scores: dict[str, float]
    photographs: int
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, if requested
    per_photograph: dict[str, dict[Hashable, float]] = field(default_factory=dict)  # CIDEr-D and ROUGE-L
    left_out: dict[str, str] = field(default_factory=dict)  # score -> the cause why it is missing


class References:
    """Reference captions, tokenised and counted once for any number of scorings.

    Args:
        captions: captions of every photograph, at least one each.
        tokenizer: of references and candidates.

    Raises:
        OptionError: there are no photographs, or some have no captions.
    """

    def __init__(self, captions: Mapping[Any, Sequence[str]], tokenizer: Tokenizer = ptb.tokenize) -> None:
        if not captions:
            raise OptionError("there are no reference captions to score against")
        bare = [key for key, texts in captions.items() if not texts]
        if bare:
            raise OptionError(f"{len(bare)} photographs have no reference captions: {_some(bare)}")
        self.tokenizer = tokenizer
        self.tokens = {key: [tokenizer(text) for text in texts] for key, texts in captions.items()}

    @cached_property
    def words(self) -> dict[Hashable, list[list[str]]]:
        """The captions in the tokens of BLEU and CIDEr-D."""
        return {key: [split_tokens(tokens) for tokens in captions] for key, captions in self.tokens.items()}

    @cached_property
    def cider(self) -> CiderD:
        """Scorer of CIDEr-D against these references."""
        return CiderD(self.words)

    @cached_property
    def bleu(self) -> bleu.Bleu:
        """Counter of BLEU's statistics against these references."""
        return bleu.Bleu(self.words)

    def check_keys(self, keys: Collection[Hashable]) -> None:
        """Check that `keys` are exactly the photographs of these references.

        Raises:
            OptionError: some are missing or unknown; the message names the first.
        """
        unknown = [key for key in keys if key not in self.tokens]
        known = set(keys)
        missing = [key for key in self.tokens if key not in known]
        problems = []
        if missing:
            problems.append(f"{len(missing)} photographs have no caption to score: {_some(missing)}")
        if unknown:
            problems.append(f"{len(unknown)} captions have no references: {_some(unknown)}")
        if problems:
            raise OptionError("; ".join(problems))


def split_tokens(tokens: list[str]) -> list[str]:
    """Split tokens for BLEU and CIDEr-D.

    Their official scorers split at any white space, so that a token with a no-break space inside (`1 1/2`) is two words
    for them, and one for ROUGE-L.
    """
    joined = " ".join(tokens)
    return joined.split() if "\u00a0" in joined else tokens


def quick_cider(candidates: Mapping[Any, str], references: References) -> float:
    """Compute the mean CIDEr-D alone, for validation in training.

    Raises:
        OptionError: the photographs of candidates and references differ.
    """
    references.check_keys(candidates.keys())
    captions = [split_tokens(references.tokenizer(candidates[key])) for key in references.tokens]
    return float(references.cider.score_many(list(references.tokens), captions).mean())


def score_captions(
    candidates: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]] | References,
    *,
    intervals: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    meteor: bool = True,
    tokenizer: Tokenizer = ptb.tokenize,
) -> Scores:
    """Compute BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and, if Java is installed, METEOR.

    Args:
        candidates: the caption of every photograph to score.
        references: the references of every photograph, or `References` made of them before.
        intervals: whether to add 95 % percentile bootstrap intervals over photographs. The document frequencies of
            CIDEr-D stay those of all photographs; BLEU and METEOR are recomputed for every resample.
        resamples: number of bootstrap samples.
        seed: of the sampling.
        meteor: whether to run METEOR.
        tokenizer: of the captions; `References` have their own.

    Raises:
        OptionError: the photographs of candidates and references differ, or there are none.
    """
    if not isinstance(references, References):
        references = References(references, tokenizer)
    references.check_keys(candidates.keys())
    keys = list(references.tokens)
    tokens = [references.tokenizer(candidates[key]) for key in keys]
    words = [split_tokens(caption) for caption in tokens]

    rouge = [rouge_l(caption, references.tokens[key]) for key, caption in zip(keys, tokens, strict=True)]
    cider = references.cider.score_many(keys, words)
    matches = [references.bleu.statistics(key, caption) for key, caption in zip(keys, words, strict=True)]
    columns = [np.array(matches, dtype=np.float64), np.array(rouge)[:, None], cider[:, None]]

    left_out: dict[str, str] = {}
    if meteor:
        try:
            columns.append(_meteor_statistics(tokens, [references.tokens[key] for key in keys]))
        except CaptionlensError as error:
            left_out["METEOR"] = str(error)

    statistics = np.concatenate(columns, axis=1)
    samples: dict[str, tuple[float, float]] = {}
    if intervals:
        totals = resampled_totals(statistics, resamples=resamples, seed=seed)
        samples = {name: percentile_interval(values) for name, values in _from_totals(totals, len(keys)).items()}
    total = statistics.sum(axis=0)
    return Scores(
        scores={name: float(value) for name, value in _from_totals(total, len(keys)).items()},
        photographs=len(keys),
        intervals=samples,
        per_photograph={
            "ROUGE-L": dict(zip(keys, rouge, strict=True)),
            "CIDEr-D": dict(zip(keys, cider.tolist(), strict=True)),
        },
        left_out=left_out,
    )


def _meteor_statistics(candidates: list[list[str]], references: list[list[list[str]]]) -> NDArray[np.float64]:
    return meteor.meteor_statistics(candidates, references)


def _from_totals(totals: NDArray[np.float64], photographs: int) -> dict[str, NDArray[np.float64]]:
    """Compute scores from summed statistics (..., columns), in the order of reports."""
    bleus = bleu.bleu(totals[..., : bleu.STATISTICS])  # (..., 4)
    rest = totals[..., bleu.STATISTICS :]
    scores = {name: bleus[..., order] for order, name in enumerate(_BLEU)}
    scores["ROUGE-L"] = rest[..., 0] / photographs
    scores["CIDEr-D"] = rest[..., 1] / photographs
    if rest.shape[-1] > 2:
        scores["METEOR"] = meteor.meteor(rest[..., 2:])
    return scores


def _some(keys: Sequence[Hashable]) -> str:
    """Name the first few photographs, for a message."""
    more = ", ..." if len(keys) > _NAMED else ""
    return ", ".join(str(key) for key in keys[:_NAMED]) + more
