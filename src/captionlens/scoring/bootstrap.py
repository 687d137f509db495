"""Bootstrap confidence intervals over photographs (Efron, Tibshirani, "An introduction to the bootstrap", 1993)."""

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError

_CELLS_AT_ONCE = 4_000_000  # 32 MB of sample counts


def resampled_totals(statistics: NDArray[np.float64], *, resamples: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Sum statistics over bootstrap samples of the photographs.

    All columns use the same samples, so that scores computed from them can be compared.

    Args:
        statistics: (photographs, K), additive over photographs.
        resamples: R, the number of bootstrap samples.
        seed: of the sampling.

    Returns:
        float64 (R, K).

    Raises:
        OptionError: there are no photographs, or `resamples` is below 1.
    """
    photographs, columns = statistics.shape
    if photographs < 1:
        raise OptionError("a bootstrap interval needs at least one photograph")
    if resamples < 1:
        raise OptionError(f"resamples must be at least 1, got {resamples}")
    random = np.random.default_rng(seed)
    totals = np.empty((resamples, columns))
    # With the counts of every photograph, a block of resamples at a time, the totals are one matrix product.
    block = max(1, _CELLS_AT_ONCE // photographs)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(photographs, size=(rows, photographs))
        drawn += np.arange(rows)[:, None] * photographs
        counts = np.bincount(drawn.ravel(), minlength=rows * photographs).reshape(rows, photographs)
        totals[start : start + rows] = counts.astype(np.float64) @ statistics
    return totals


def percentile_interval(samples: NDArray[np.float64], *, coverage: float = 0.95) -> tuple[float, float]:
    """Percentile interval, which leaves out equal shares of `samples` (R,) on both sides."""
    outside = (1 - coverage) / 2
    low, high = np.quantile(samples, [outside, 1 - outside])
    return float(low), float(high)
