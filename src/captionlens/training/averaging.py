"""Averages of the weights of runs that started from one another, or from the same run.

Fine-tuning gains where it is trained and forgets elsewhere; the mean of the weights before and after keeps most of both
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, and "Model soups", ICML 2022).
"""

from collections.abc import Sequence

from torch import Tensor

from captionlens.errors import OptionError, RunError
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.run_folder import RunFolder, kept_weights


def averaged_weights(runs: Sequence[RunFolder], shares: Sequence[float]) -> dict[str, Tensor]:
    """Average the kept weights of runs.

    Args:
        runs: with the same network, vocabulary and frozen backbone.
        shares: of each run, positive; only their proportions count.

    Returns:
        The weights by name, as in `best.safetensors`.

    Raises:
        OptionError: there is not one share for each run, or one is not positive.
        RunError: the kept weights of a run are missing or damaged, or do not go with those of the first.
    """
    if len(shares) != len(runs):
        raise OptionError(f"{len(runs)} runs are averaged, so {len(runs)} shares are needed, got {len(shares)}")
    if not all(share > 0 for share in shares):
        raise OptionError(f"shares must be above 0, got {', '.join(f'{share:g}' for share in shares)}")
    first = runs[0]
    mean: dict[str, Tensor] = {}
    for run, share in zip(runs, shares, strict=True):
        kept = kept_weights(run.path)
        if run is not first:
            _check_alike(run, first)
            if {name: tensor.shape for name, tensor in kept.items()} != {name: mean[name].shape for name in mean}:
                raise RunError(run.path, f"cannot be averaged with {first.path}: its network has other weights")
        for name, tensor in kept.items():
            part = tensor * (share / sum(shares))
            mean[name] = mean[name] + part if name in mean else part
    return mean


def _check_alike(run: RunFolder, first: RunFolder) -> None:
    def vocabulary(of: RunFolder) -> tuple[str, ...]:
        return Vocabulary.load(of.path / "tokenizer.json").tokens

    if (run.config.backbone, run.config.image_size) != (first.config.backbone, first.config.image_size):
        raise RunError(run.path, f"cannot be averaged with {first.path}: it has another backbone or size of pictures")
    if run.config.finetune_blocks or first.config.finetune_blocks:
        raise RunError(
            run.path, "cannot be averaged: blocks of the backbone were trained, and averages are of networks"
        )
    if vocabulary(run) != vocabulary(first):
        raise RunError(run.path, f"cannot be averaged with {first.path}: it has other words")
