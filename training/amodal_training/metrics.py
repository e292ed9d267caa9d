"""The figures of the evaluation contract, as pure functions.

V is the visible mask, A the true amodal mask, P the predicted one, O the union of the other
objects' visible masks minus V. A *pair* is one object in one frame. ``measure_pair`` reduces the
masks of a pair to numbers; each figure then maps the numbers of all pairs to one mean a track,
NaN where the track has no pair that counts. ``intervals`` takes the means over the set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from amodal_model.masks import BoxedMask, enclose_boxes, mask_iou
from amodal_training.mask_motion import motion_between, move_mask

MIN_AREA_PX = 50
"""Pairs need an amodal mask of at least this many pixels."""
OCCLUDED_FROM = 0.05
"""Hidden share from which a pair counts for ``miou_occ`` and for the calibration."""
UNOCCLUDED_BELOW = 0.01
"""Hidden share under which a pair counts for ``false_growth``."""
SEEN_FROM = 0.90
"""Share of the object that an earlier frame must have shown for "seen before"."""


class PairMeasures(NamedTuple):
    """What one prediction is worth on one pair.

    Attributes:
        iou_full: IoU(P, A).
        iou_occ: IoU(P minus V, A minus V).
        savos_occ: IoU(P' & O, A & O) with P' = V | (P & O).
        savos_full: IoU(P', A).
        growth: |P minus V| / |V|; NaN where V is empty.
    """

    iou_full: float
    iou_occ: float
    savos_occ: float
    savos_full: float
    growth: float


@dataclass(frozen=True, eq=False)
class Pairs:
    """The measures of one method over all K pairs of a dataset, T tracks.

    Attributes:
        sources: the source sequence of each track, T names.
        track: index of the pair's track, in [0, T).
        hidden: 1 - |V & A| / |A|, in [0, 1].
        seen_before: an earlier frame showed at least 90 % of the object.
        measures: ``PairMeasures`` as rows.
        jitter: see ``pair_jitter``; NaN where the frame before is no pair.
        confidence_occluded: expected IoU of the hidden part, in [0, 1]; NaN where none was given.
    """

    sources: tuple[str, ...]
    track: Int[np.ndarray, " K"]
    hidden: Float[np.ndarray, " K"]
    seen_before: Bool[np.ndarray, " K"]
    measures: Float[np.ndarray, "K 5"]
    jitter: Float[np.ndarray, " K"]
    confidence_occluded: Float[np.ndarray, " K"]

    def column(self, name: str) -> Float[np.ndarray, " K"]:
        """Return one of the measures, by its name in ``PairMeasures``."""
        return self.measures[:, PairMeasures._fields.index(name)]


def hidden_share(visible: BoxedMask, amodal: BoxedMask) -> float:
    """Return hidden = 1 - |V & A| / |A| of a non-empty A.

    >>> from amodal_model.masks import box_mask
    >>> whole, seen = np.ones((2, 5), bool), np.ones((2, 5), bool)
    >>> seen[:, 4] = False
    >>> hidden_share(box_mask(seen), box_mask(whole))
    0.2
    """
    area = amodal.area
    seen = int(np.count_nonzero(visible.within(amodal.bbox_xyxy) & amodal.pixels))
    return (area - seen) / area  # not 1 - seen / area, which misses the bin edges by an ulp


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Return |a & b| / |a | b|, 1 where both are empty.

    >>> iou(np.array([[True, True, False]]), np.array([[False, True, True]]))
    0.3333333333333333
    """
    both = int(np.count_nonzero(a & b))
    either = int(np.count_nonzero(a | b))
    return both / either if either else 1.0


def measure_pair(
    predicted: BoxedMask, visible: BoxedMask, amodal: BoxedMask, others: BoxedMask
) -> PairMeasures:
    """Reduce the masks of one pair to numbers; see ``PairMeasures`` for the formulas.

    Args:
        predicted: P.
        visible: V, empty while the object is hidden.
        amodal: A.
        others: the union of the other objects' visible masks; V is taken off here.

    >>> from amodal_model.masks import box_mask
    >>> P, V, A, O = (box_mask(np.array([row], bool)) for row in (
    ...     [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]))
    >>> tuple(round(value, 3) for value in measure_pair(P, V, A, O))
    (0.75, 0.667, 0.5, 0.5, 2.0)
    """
    box = enclose_boxes(enclose_boxes(amodal.bbox_xyxy, visible.bbox_xyxy), predicted.bbox_xyxy)
    P, V, A = predicted.within(box), visible.within(box), amodal.within(box)
    O = others.within(box) & ~V  # noqa: E741 the contract's letter
    kept = V | (P & O)
    added, seen = P & ~V, int(np.count_nonzero(V))
    return PairMeasures(
        iou_full=iou(P, A),
        iou_occ=iou(added, A & ~V),
        savos_occ=iou(kept & O, A & O),
        savos_full=iou(kept, A),
        growth=int(np.count_nonzero(added)) / seen if seen else float("nan"),
    )


def pair_jitter(
    predicted_before: BoxedMask,
    predicted: BoxedMask,
    amodal_before: BoxedMask,
    amodal: BoxedMask,
) -> float:
    """Return 1 - IoU(M(P before), P), where M is the motion of A between the two frames.

    M is A's centroid motion together with the square root of its area ratio, applied to P by
    bilinear resampling (whole pixels where the area stays): what the object did as a whole is
    taken off, its change of shape is not.

    >>> from amodal_model.masks import box_mask
    >>> left, right = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    >>> left[:, 1:4], right[:, 3:6] = True, True
    >>> pair_jitter(*(box_mask(m) for m in (left, right, left, right)))
    0.0
    """
    moved = move_mask(predicted_before, motion_between(amodal_before, amodal))
    return 1.0 - mask_iou(moved, predicted)


TrackMeans = Float[np.ndarray, " T"]


def track_means(
    pairs: Pairs, values: Float[np.ndarray, " K"], chosen: Bool[np.ndarray, " K"]
) -> TrackMeans:
    """Return the mean of the chosen values of each track, NaN where none is chosen.

    Values that are NaN are not chosen.
    """
    chosen = chosen & ~np.isnan(values)
    tracks = len(pairs.sources)
    counts = np.bincount(pairs.track[chosen], minlength=tracks)
    sums = np.bincount(pairs.track[chosen], weights=values[chosen], minlength=tracks)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def miou_full(pairs: Pairs) -> TrackMeans:
    """Return the mean IoU(P, A) over all pairs of each track.

    >>> miou_full(example_pairs())
    array([0.6, 0.9])
    """
    return track_means(pairs, pairs.column("iou_full"), np.ones(pairs.hidden.shape, bool))


def miou_occ(
    pairs: Pairs, low: float = OCCLUDED_FROM, high: float = np.inf, seen_before: bool = False
) -> TrackMeans:
    """Return the mean IoU(P minus V, A minus V) over pairs with hidden in [low, high).

    Args:
        pairs: the measures of one method.
        low: least hidden share.
        high: first hidden share that is too much.
        seen_before: only pairs of which an earlier frame showed at least 90 %.

    >>> miou_occ(example_pairs())
    array([0.35,  nan])
    >>> miou_occ(example_pairs(), 0.05, 0.5, seen_before=True)
    array([0.5, nan])
    """
    chosen = (pairs.hidden >= low) & (pairs.hidden < high)
    if seen_before:
        chosen &= pairs.seen_before
    return track_means(pairs, pairs.column("iou_occ"), chosen)


def permanence(pairs: Pairs) -> TrackMeans:
    """Return the mean IoU(P, A) over pairs that are hidden entirely.

    >>> permanence(example_pairs())
    array([0.2, nan])
    """
    return track_means(pairs, pairs.column("iou_full"), pairs.hidden >= 1.0)


def savos_occ(pairs: Pairs) -> TrackMeans:
    """Return the mean IoU(P' & O, A & O) over pairs with 10 % < hidden < 70 %.

    >>> savos_occ(example_pairs())
    array([0.4, nan])
    """
    return track_means(pairs, pairs.column("savos_occ"), _savos_chosen(pairs))


def savos_full(pairs: Pairs) -> TrackMeans:
    """Return the mean IoU(P', A) over pairs with 10 % < hidden < 70 %.

    >>> savos_full(example_pairs())
    array([0.7, nan])
    """
    return track_means(pairs, pairs.column("savos_full"), _savos_chosen(pairs))


def _savos_chosen(pairs: Pairs) -> Bool[np.ndarray, " K"]:
    return (pairs.hidden > 0.1) & (pairs.hidden < 0.7)


def false_growth(pairs: Pairs) -> TrackMeans:
    """Return the mean |P minus V| / |V| over pairs with hidden under 1 %.

    >>> false_growth(example_pairs())
    array([0.1, 0.3])
    """
    return track_means(pairs, pairs.column("growth"), pairs.hidden < UNOCCLUDED_BELOW)


def jitter(pairs: Pairs) -> TrackMeans:
    """Return the mean of ``pair_jitter`` over successive pairs.

    >>> jitter(example_pairs())
    array([0.15,  nan])
    """
    return track_means(pairs, pairs.jitter, np.ones(pairs.hidden.shape, bool))


def example_pairs() -> Pairs:
    """Return two tracks with three pairs and one, for the examples of this module."""
    nan = float("nan")
    rows = [
        PairMeasures(1.0, 1.0, 1.0, 1.0, 0.1),
        PairMeasures(0.6, 0.5, 0.4, 0.7, 0.2),
        PairMeasures(0.2, 0.2, 1.0, 0.0, nan),
        PairMeasures(0.9, 0.0, 1.0, 1.0, 0.3),
    ]
    return Pairs(
        sources=("a", "b"),
        track=np.array([0, 0, 0, 1]),
        hidden=np.array([0.0, 0.4, 1.0, 0.0]),
        seen_before=np.array([False, True, True, False]),
        measures=np.array(rows),
        jitter=np.array([nan, 0.1, 0.2, nan]),
        confidence_occluded=np.array([0.9, 0.6, 0.1, 0.9]),
    )


FIGURES: Mapping[str, Callable[[Pairs], TrackMeans]] = {
    "miou_full": miou_full,
    "miou_occ": miou_occ,
    "occ_05_20": partial(miou_occ, low=0.05, high=0.20),
    "occ_20_40": partial(miou_occ, low=0.20, high=0.40),
    "occ_40_60": partial(miou_occ, low=0.40, high=0.60),
    "occ_60_80": partial(miou_occ, low=0.60, high=0.80),
    "occ_80_100": partial(miou_occ, low=0.80, high=1.00),
    "seen_05_50": partial(miou_occ, low=0.05, high=0.50, seen_before=True),
    "seen_50_100": partial(miou_occ, low=0.50, high=1.00, seen_before=True),
    "permanence": permanence,
    "savos_occ": savos_occ,
    "savos_full": savos_full,
    "false_growth": false_growth,
    "jitter": jitter,
}
"""Every figure that is a mean over tracks, by the name it has in tables and JSON."""
