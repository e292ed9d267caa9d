"""Who is in front of whom: the occlusion order against the masks' own.

Truth: in a frame, f is in front of b where |V_f & (A_b minus V_b)| is at least 20 pixels. As with
all figures, only frames that are pairs of b count, and only backs whose A is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from amodal_model.masks import BoxedMask, empty_mask, overlap_area, subtract
from amodal_training.baselines import ObjectClip
from amodal_training.evaluation_noise import grow_mask

MIN_OVERLAP_PX = 20
"""Pixels of a hidden part under another object's visible mask from which that one is in front."""
LOWER_EDGE = "lower_edge_in_front"
"""Name of the heuristic: of two objects that touch, the one that reaches lower is nearer."""
_CONTACT_PX = 2

FramePairs = Sequence[tuple[int, int]]
"""(front, back) pairs of track ids of one frame."""


class OrderCounts(NamedTuple):
    """What a stated order is worth for one object as the back.

    Attributes:
        source: the source sequence of its clip.
        true: (front, frame) pairs of the truth.
        stated: those that were stated.
        found: those in both.
        contacts: those of the truth whose two objects were stated in either direction.
        right: sum over contacts of |directions stated & true| / |stated | true|.
    """

    source: str
    true: int
    stated: int
    found: int
    contacts: int
    right: float


def true_fronts(
    one: ObjectClip, track_id: int, frames: Sequence[Mapping[int, BoxedMask]], index: int
) -> frozenset[int]:
    """Return the objects that are in front of one object in a frame.

    Args:
        one: the object.
        track_id: its id.
        frames: the clean visible masks of every frame.
        index: the frame.
    """
    amodal = one.amodal[index]
    if amodal is None:
        return frozenset()
    hidden = subtract(amodal, one.visible[index] or empty_mask(amodal.frame_size))
    if overlap_area(hidden, one.others[index]) < MIN_OVERLAP_PX:
        return frozenset()
    return frozenset(
        other
        for other, mask in frames[index].items()
        if other != track_id and overlap_area(hidden, mask) >= MIN_OVERLAP_PX
    )


def order_of_lower_edges(masks: Mapping[int, BoxedMask], track_id: int) -> list[tuple[int, int]]:
    """Return (front, back) of one object and all it touches: what reaches lower is in front.

    Two objects touch where at least 20 pixels of one lie within 2 pixels of the other. Of two
    that reach equally low, the larger one is in front.
    """
    own = masks.get(track_id)
    if own is None:
        return []
    around = grow_mask(own, _CONTACT_PX)
    pairs = []
    for other, mask in masks.items():
        if other != track_id and overlap_area(around, mask) >= MIN_OVERLAP_PX:
            is_in_front = (own.bbox_xyxy[3], own.area) > (mask.bbox_xyxy[3], mask.area)
            pairs.append((track_id, other) if is_in_front else (other, track_id))
    return pairs


def count_order(
    source: str,
    track_id: int,
    fronts: Mapping[int, Mapping[int, frozenset[int]]],
    stated: Mapping[int, FramePairs],
) -> OrderCounts:
    """Count what the stated order of one object is worth.

    Args:
        source: of its clip.
        track_id: of the object, the back.
        fronts: its frames that are pairs, and in each the true fronts of every object known.
        stated: per frame the (front, back) pairs that name it, in both roles.

    >>> count_order("s", 1, {0: {1: frozenset({2, 3})}}, {0: [(2, 1), (1, 3), (4, 1)]})
    OrderCounts(source='s', true=2, stated=2, found=1, contacts=2, right=1.0)
    """
    true = stated_count = found = contacts = 0
    right = 0.0
    for index, known in fronts.items():
        pairs = set(stated.get(index, ()))
        truly = known.get(track_id, frozenset())
        claimed = {front for front, back in pairs if back == track_id}
        true, stated_count = true + len(truly), stated_count + len(claimed)
        found += len(truly & claimed)
        for front in truly:
            directions = pairs & {(front, track_id), (track_id, front)}
            if directions:
                both_ways = {(track_id, front)} if track_id in known.get(front, ()) else set()
                wanted = {(front, track_id)} | both_ways
                contacts += 1
                right += len(directions & wanted) / len(directions | wanted)
    return OrderCounts(source, true, stated_count, found, contacts, right)


TrackShares = Float[np.ndarray, " T"]


def order_recall(counts: Iterable[OrderCounts]) -> TrackShares:
    """Return the share of the true pairs that were stated, a value a track; NaN without any.

    >>> order_recall([OrderCounts("s", 4, 2, 1, 2, 1.0), OrderCounts("s", 0, 1, 0, 0, 0.0)])
    array([0.25,  nan])
    """
    return _shares([(one.found, one.true) for one in counts])


def order_precision(counts: Iterable[OrderCounts]) -> TrackShares:
    """Return the share of the stated pairs that are true, a value a track; NaN without any.

    >>> order_precision([OrderCounts("s", 4, 2, 1, 2, 1.0)])
    array([0.5])
    """
    return _shares([(one.found, one.stated) for one in counts])


def order_accuracy(counts: Iterable[OrderCounts]) -> TrackShares:
    """Return the share of right directions where truth and statement name the same two objects.

    >>> order_accuracy([OrderCounts("s", 4, 2, 1, 2, 1.5)])
    array([0.75])
    """
    return _shares([(one.right, one.contacts) for one in counts])


def _shares(parts: Sequence[tuple[float, int]]) -> TrackShares:
    return np.array([part / whole if whole else np.nan for part, whole in parts], float)


ORDER_FIGURES: Mapping[str, Callable[[Iterable[OrderCounts]], TrackShares]] = {
    "order_recall": order_recall,
    "order_precision": order_precision,
    "order_accuracy": order_accuracy,
}
"""The figures of the order, by the name they have in tables and JSON."""
