"""Is a stated confidence worth what it says? Calibration error and rank correlation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def expected_calibration_error(
    confidence: Float[np.ndarray, " K"], truth: Float[np.ndarray, " K"], bins: int = 10
) -> float:
    """Return sum over bins of n_b / n * |mean confidence - mean truth|, NaN without any value.

    Bins are equal parts of [0, 1]; a confidence of exactly 1 falls into the last.

    Args:
        confidence: stated, in [0, 1].
        truth: what came out, in [0, 1].
        bins: number of bins.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.

    >>> expected_calibration_error(np.array([0.75, 0.75, 0.0]), np.array([1.0, 0.0, 0.25]))
    0.25
    """
    if confidence.size == 0:
        return float("nan")
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.bincount(index, weights=confidence - truth, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)


def rank_correlation(a: Float[np.ndarray, " K"], b: Float[np.ndarray, " K"]) -> float:
    """Return Spearman's rho: Pearson's correlation of the ranks, ties sharing their mean rank.

    NaN where one of the two does not vary.

    >>> rank_correlation(np.array([0.1, 0.2, 0.3]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    if a.size < 2:
        return float("nan")
    ranks_a, ranks_b = mean_ranks(a), mean_ranks(b)
    centred_a, centred_b = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    norm = float(np.sqrt((centred_a @ centred_a) * (centred_b @ centred_b)))
    return float(centred_a @ centred_b) / norm if norm > 0 else float("nan")


def mean_ranks(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Return the ranks of the values from 1, ties sharing their mean rank.

    >>> mean_ranks(np.array([5.0, 7.0, 5.0]))
    array([1.5, 3. , 1.5])
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Float[np.ndarray, " K"] = (last - (counts - 1) / 2.0)[inverse]
    return mean
