"""The official scorers as oracles; tests that use them are skipped where Java or pycocoevalcap is missing."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def require_java() -> None:
    """Skip the calling test where the official tokeniser cannot run."""
    pytest.importorskip("pycocoevalcap", reason="needs the package pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("needs the command java for the official tokeniser")


def tokenize(captions: Mapping[Any, Sequence[str]]) -> dict[Any, list[str]]:
    """Captions as the official tokeniser leaves them, tokens joined by spaces."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    wrapped = {key: [{"caption": caption} for caption in texts] for key, texts in captions.items()}
    tokens: dict[Any, list[str]] = PTBTokenizer().tokenize(wrapped)
    return tokens


def scores(candidates: Mapping[Any, str], references: Mapping[Any, Sequence[str]]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr-D by pycocoevalcap, tokenised by Java."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    wanted = tokenize(references)
    given = tokenize({key: [caption] for key, caption in candidates.items()})
    bleu, _ = Bleu(4).compute_score(wanted, given, verbose=0)
    return {
        **{f"BLEU-{order}": value for order, value in enumerate(bleu, start=1)},
        "ROUGE-L": Rouge().compute_score(wanted, given)[0],
        "CIDEr-D": Cider().compute_score(wanted, given)[0],
    }
