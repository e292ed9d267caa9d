"""Every baseline of the evaluation contract: completion without learning.

Each is a pure function of an object's visible masks V and of O, the union of the others' visible
masks minus V, one of each a frame; it gives one predicted mask a frame, ``None`` where it has
nothing to say. ``complete_by_baselines`` runs them all and shares what they have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from amodal_model.masks import Box, BoxedMask, union
from amodal_training.baseline_motion import (
    Shifts,
    bridge_hidden,
    place_by_shifts,
    shifts_by_masks,
)
from amodal_training.baseline_union import (
    Masks,
    coast,
    merge_masks,
    true_motions,
    union_both_directions,
    union_causal,
)

BOX_RATIO = 1.5


class BaselineTraits(NamedTuple):
    """What a baseline may look at.

    Attributes:
        sees_future: later frames too: to be compared with offline methods.
        reads_truth: the amodal ground truth: an oracle, never a competitor.
    """

    sees_future: bool = False
    reads_truth: bool = False


BASELINES: Mapping[str, BaselineTraits] = {
    "visible_mask": BaselineTraits(),
    "convex_hull": BaselineTraits(),
    "hull_under_occluders": BaselineTraits(),
    "filled_box": BaselineTraits(),
    "coasting": BaselineTraits(),
    "union_by_masks": BaselineTraits(),
    "union_by_flow": BaselineTraits(),
    "union_or_hull": BaselineTraits(),
    "union_by_masks_both": BaselineTraits(sees_future=True),
    "union_by_flow_both": BaselineTraits(sees_future=True),
    "union_or_hull_both": BaselineTraits(sees_future=True),
    "union_truly_placed": BaselineTraits(reads_truth=True),
    "union_truly_placed_both": BaselineTraits(sees_future=True, reads_truth=True),
}
"""The baselines by name, in the order of the tables."""


class ObjectClip(NamedTuple):
    """One object over the T frames of a clip.

    Attributes:
        visible: V of each frame, ``None`` where it has no visible pixel.
        others: O of each frame.
        amodal: A of each frame, for the oracles alone; ``None`` where it has no pixel.
    """

    visible: Sequence[BoxedMask | None]
    others: Sequence[BoxedMask]
    amodal: Sequence[BoxedMask | None]


def complete_by_baselines(clip: ObjectClip, flow_shifts: Shifts | None) -> dict[str, Masks]:
    """Return the predictions of every baseline, by name.

    Args:
        clip: one object.
        flow_shifts: its displacements by optical flow; ``None`` leaves those baselines out.
    """
    visible, others, amodal = clip
    hulls = hull_under_occluders(visible, others)
    found: dict[str, Masks] = {
        "visible_mask": list(visible),
        "convex_hull": convex_hulls(visible),
        "hull_under_occluders": hulls,
        "filled_box": filled_box(visible, others),
    }
    shifts = shifts_by_masks(visible, others)
    motions = place_by_shifts(shifts)
    found["coasting"] = coast(visible, others, motions)
    found["union_by_masks"] = union_causal(visible, others, motions)
    found["union_or_hull"] = merge_masks(found["union_by_masks"], hulls)
    bridged = place_by_shifts(bridge_hidden(shifts, visible))
    found["union_by_masks_both"] = union_both_directions(visible, others, bridged)
    found["union_or_hull_both"] = merge_masks(found["union_by_masks_both"], hulls)
    if flow_shifts is not None:
        by_flow = place_by_shifts(flow_shifts)
        found["union_by_flow"] = union_causal(visible, others, by_flow)
        found["union_by_flow_both"] = union_both_directions(visible, others, by_flow)
    truly = true_motions(amodal)
    found["union_truly_placed"] = union_causal(visible, others, truly)
    found["union_truly_placed_both"] = union_both_directions(visible, others, truly)
    return found


def convex_hulls(visible: Sequence[BoxedMask | None]) -> Masks:
    """Return the convex hull of V; nothing while the object is hidden."""
    return [None if mask is None else convex_hull(mask) for mask in visible]


def convex_hull(mask: BoxedMask) -> BoxedMask:
    """Return the convex hull of a non-empty mask, its outline included."""
    points = cv2.findNonZero(mask.pixels.view(np.uint8))
    hull = np.zeros(mask.pixels.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return BoxedMask(mask.bbox_xyxy, hull.astype(bool), mask.frame_size)


def hull_under_occluders(visible: Sequence[BoxedMask | None], others: Sequence[BoxedMask]) -> Masks:
    """Return V | (hull of V & O); nothing while the object is hidden."""
    return [
        None if mask is None else union(mask, _under(convex_hull(mask), over))
        for mask, over in zip(visible, others, strict=True)
    ]


def filled_box(visible: Sequence[BoxedMask | None], others: Sequence[BoxedMask]) -> Masks:
    """Return V and every pixel of O in a 1.5x box around V; the last box while it is hidden."""
    filled: Masks = []
    box: Box | None = None
    for mask, over in zip(visible, others, strict=True):
        if mask is not None:
            box = enlarged_box(mask.bbox_xyxy, BOX_RATIO, mask.frame_size)
        inside = None if box is None else BoxedMask(box, over.within(box), over.frame_size)
        filled.append(inside if mask is None or inside is None else union(mask, inside))
    return filled


def enlarged_box(box: Box, ratio: float, frame_size: tuple[int, int]) -> Box:
    """Return the box with its sides times ``ratio`` about its centre, cut to the frame."""
    x0, y0, x1, y1 = box
    height, width = frame_size
    by_x, by_y = (x1 - x0) * (ratio - 1) / 2, (y1 - y0) * (ratio - 1) / 2
    return (
        max(0, math.floor(x0 - by_x)),
        max(0, math.floor(y0 - by_y)),
        min(width, math.ceil(x1 + by_x)),
        min(height, math.ceil(y1 + by_y)),
    )


def _under(mask: BoxedMask, others: BoxedMask) -> BoxedMask:
    box = mask.bbox_xyxy
    return BoxedMask(box, mask.pixels & others.within(box), mask.frame_size)
