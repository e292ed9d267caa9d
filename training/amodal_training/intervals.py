"""Means over a set of tracks with bootstrap intervals that resample source sequences.

Several composites of one sequence share its object and its motion, they are not independent:
whole sources are drawn, never tracks or frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
SEED = 20240517


class Interval(NamedTuple):
    """A mean over tracks and its 95 % interval.

    Attributes:
        mean: over the tracks that have a value; NaN where none has.
        low: 2.5th percentile of the resampled means; NaN where all values are of one source,
            which says nothing about another.
        high: 97.5th percentile, likewise.
        tracks: how many tracks have a value.
    """

    mean: float
    low: float
    high: float
    tracks: int


def mean_over_tracks(values: Float[np.ndarray, " T"], sources: Sequence[str]) -> Interval:
    """Return the mean of the tracks' values, with its interval.

    The draws depend on the names of the sources alone, so that two methods on one dataset are
    resampled alike.

    Args:
        values: one a track, NaN where the track has none.
        sources: the source sequence of each track.

    >>> mean_over_tracks(np.array([0.25, 0.5, 0.75, np.nan]), ["a", "a", "b", "b"])
    Interval(mean=0.5, low=0.375, high=0.75, tracks=3)
    """
    known = ~np.isnan(values)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    names, index = np.unique(np.asarray(sources), return_inverse=True)
    counts = np.bincount(index[known], minlength=len(names)).astype(float)
    if np.count_nonzero(counts) < 2:
        nan = float("nan")
        return Interval(float(values[known].mean()), nan, nan, int(known.sum()))
    sums = np.bincount(index[known], weights=values[known], minlength=len(names))
    draws = np.random.default_rng(SEED).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )
    drawn_counts = draws @ counts
    means = (draws @ sums)[drawn_counts > 0] / drawn_counts[drawn_counts > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values[known].mean()), float(low), float(high), int(known.sum()))


def paired_difference(
    ours: Float[np.ndarray, " T"], theirs: Float[np.ndarray, " T"], sources: Sequence[str]
) -> Interval:
    """Return the mean of ours - theirs over the tracks where both have a value.

    >>> paired_difference(np.array([0.5, 0.7]), np.array([0.4, 0.4]), ["a", "b"]).mean
    0.19999999999999996
    """
    return mean_over_tracks(ours - theirs, sources)
