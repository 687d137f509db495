"""METEOR by the official Java program, if pycocoevalcap and `java` are installed.

Denkowski, Lavie, "Meteor universal: language specific translation evaluation for any target language" (WMT 2014). The
program aligns the captions. Its statistics per photograph give the corpus score of any set of photographs, as
bootstrap intervals require.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError

STATISTICS = 23
"""Number of statistics per photograph: words, function words, matches by kind, chunks, matched words."""

# Parameters of METEOR 1.5 for English, from its paper and `-l en`.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_KINDS = np.array([1.0, 0.6, 0.8, 0.6])  # weights of matches by form, stem, synonym, paraphrase


def why_not() -> str | None:
    """The missing requirement of METEOR, or None if it can run."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return "needs the package pycocoevalcap: pip install 'captionlens[meteor]'"
    from pycocoevalcap.meteor import meteor

    if not Path(meteor.__file__).with_name(meteor.METEOR_JAR).is_file():
        return "pycocoevalcap is installed without its METEOR program"
    if shutil.which("java") is None:
        return "needs the command java, which is not on the path"
    return None


def meteor_statistics(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> NDArray[np.float64]:
    """Compute the official program's statistics of each photograph, float64 (photographs, STATISTICS).

    Args:
        candidates: one caption per photograph, as tokens.
        references: references of each photograph, as tokens.

    Raises:
        CaptionlensError: the program cannot be started, or ends early.
    """
    reason = why_not()
    if reason is not None:
        raise CaptionlensError(f"METEOR {reason}")
    from pycocoevalcap.meteor.meteor import Meteor

    rows: list[list[float]] = []
    try:
        program = Meteor()
        try:
            for candidate, captions in zip(candidates, references, strict=True):
                line = program._stat(" ".join(candidate), [" ".join(caption) for caption in captions])
                rows.append([float(number) for number in line.split()])
        finally:
            _stop(program)
        statistics = np.array(rows, dtype=np.float64).reshape(len(candidates), STATISTICS)
    except (OSError, ValueError) as error:
        raise CaptionlensError(f"METEOR's Java program failed ({error})") from error
    # A complete match in one chunk counts as no chunk, alone and in the sum over photographs.
    words, chunks, matched = statistics[:, 0:2], statistics[:, 20], statistics[:, 21:23]
    statistics[(matched == words).all(axis=1) & (chunks == 1), 20] = 0
    return statistics


def _stop(program: object) -> None:
    process = program.meteor_p  # type: ignore[attr-defined]
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        try:
            stream.close()
        except OSError:  # unwritten bytes for a program that has ended
            continue


def meteor(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute METEOR from summed statistics.

    Args:
        totals: (..., STATISTICS), one row per corpus; the row of one photograph gives that photograph's METEOR.

    Returns:
        (...,), fractions.
    """
    words, functions = totals[..., 0:2], totals[..., 2:4]  # (..., 2): of the candidate, of the reference
    matches = totals[..., 4:20].reshape(*totals.shape[:-1], 4, 4)  # by kind: content twice, function twice
    chunks, aligned = totals[..., 20], totals[..., 21:23]
    weighted = _DELTA * matches[..., 0:2] + (1 - _DELTA) * matches[..., 2:4]
    found = (weighted * _KINDS[:, None]).sum(axis=-2)  # (..., 2)
    possible = _DELTA * (words - functions) + (1 - _DELTA) * functions
    shares = _ratio(found, possible)
    precision, recall = shares[..., 0], shares[..., 1]
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    penalty = _GAMMA * _ratio(chunks, aligned.mean(axis=-1)) ** _BETA
    return np.asarray(mean * (1 - penalty), dtype=np.float64)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """`above / below`, 0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
