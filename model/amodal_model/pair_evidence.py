"""What speaks for a mask being a known object: overlaps, sizes and distances of each pair.

An object may show anywhere on a silhouette of it: the whole one where the amodal state expects it,
and the one that was remembered, moved with the scene. Without amodal state the last visible mask
stands in, its place known ever less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from amodal_model.known_colours import Colours, likeness
from amodal_model.masks import (
    Box,
    BoxedMask,
    enclose_boxes,
    intersect_boxes,
    overlap_area,
    shift_mask,
    tighten,
)

_GATE = 3.0
"""Reaches beyond which a mask is too far away: its nearness would be under a tenth."""


class AssociationConfig(NamedTuple):
    """What makes a mask an object's. Sizes are sides of squares of the object's area.

    Attributes:
        clear_iou: IoU with the last visible mask from which no more is asked.
        least_affinity: below, a mask is rather a new object.
        like_weight: what a mask near the last one and of its size is worth, against 1 for one
            that covers what it should.
        near_weight: what a mask near the whole silhouette is worth.
        reach_px: how far from its place an object is expected to show, at least.
        reach_std: the same for each pixel of standard deviation of its place.
        reach_size: the same as a share of its size.
        stray_size: by how much of its size a visible object misses its predicted place.
        largest_growth: how much larger than ever seen or expected an object may come back.
    """

    clear_iou: float = 0.6
    least_affinity: float = 0.05
    like_weight: float = 0.7
    near_weight: float = 0.5
    reach_px: float = 2.0
    reach_std: float = 2.0
    reach_size: float = 0.25
    stray_size: float = 0.5
    largest_growth: float = 2.5


class Reference(NamedTuple):
    """Where an object may show: a silhouette, and how well its place is known.

    Attributes:
        silhouette: of the object; may have no pixel, and its box may reach beyond the frame.
        place_std_px: standard deviation of its place, frame pixels.
    """

    silhouette: BoxedMask
    place_std_px: float


class Candidate(NamedTuple):
    """A known object that a mask may be.

    Attributes:
        recent: its last visible mask, moved to where it should be now; may have no pixel.
        references: where it may show; the best of them counts.
        area: the most pixels that it is known to have.
        is_hidden: whether it was hidden in the last frame.
        colours: that it is known to have; ``None`` where there is no image.
    """

    recent: BoxedMask
    references: tuple[Reference, ...]
    area: float
    is_hidden: bool
    colours: Colours | None = None


class PairEvidence(NamedTuple):
    """What is known of each pair of M masks and N objects, and of the objects.

    Attributes:
        stays: (M, N) IoU of the mask and the object's last one.
        fills: (M, N) IoU of the mask and what should show: the part of a silhouette that is not
            under masks of known objects.
        likeness: (M, N) ratio of the areas of the mask and the last one, in [0, 1]; 0 where the
            object was hidden.
        offset: (M, N) distance of their centres, in sizes of the object.
        gap: (M, N) mean distance of the mask's pixels from the nearest silhouette, in reaches.
        growth: (M, N) area of the mask over the largest known of the object.
        likeness_of_colours: (M, N) how well the mask's colours fit a hidden object, in [0, 1];
            1 where there is no image, and for objects in sight.
    """

    stays: Float64[np.ndarray, "M N"]
    fills: Float64[np.ndarray, "M N"]
    likeness: Float64[np.ndarray, "M N"]
    offset: Float64[np.ndarray, "M N"]
    gap: Float64[np.ndarray, "M N"]
    growth: Float64[np.ndarray, "M N"]
    likeness_of_colours: Float64[np.ndarray, "M N"]


def weigh(
    masks: Sequence[BoxedMask],
    candidates: Sequence[Candidate],
    covered: Bool[np.ndarray, "H W"],
    config: AssociationConfig,
    seen: Sequence[Colours] | None = None,
) -> PairEvidence:
    """Return what is known of each pair; nothing speaks for those beyond three reaches.

    Args:
        masks: of one frame.
        candidates: the objects that they may be.
        covered: which pixels of the frame masks of known objects hold.
        config: what makes a mask an object's.
        seen: colours of the masks, where there is an image.
    """
    shape = (len(masks), len(candidates))
    far = np.full(shape, np.inf)
    evidence = PairEvidence(
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape),
        far,
        far.copy(),
        np.zeros(shape),
        np.ones(shape),
    )
    boxes = mask_boxes(masks)
    areas = np.array([mask.area for mask in masks], float)
    centers = np.array([mask_center(mask) for mask in masks]).reshape(-1, 2)
    for column, one in enumerate(candidates):
        evidence.growth[:, column] = areas / max(one.area, 1)
        recent_area = one.recent.area
        if recent_area:
            for row in np.flatnonzero(meets(boxes, one.recent.bbox_xyxy)).tolist():
                both = overlap_area(masks[row], one.recent)
                evidence.stays[row, column] = both / (areas[row] + recent_area - both)
        if recent_area and not one.is_hidden:
            ratio = areas / recent_area
            evidence.likeness[:, column] = np.minimum(ratio, 1 / ratio)
            missed = np.hypot(*(centers - mask_center(one.recent)).T)
            evidence.offset[:, column] = missed / np.sqrt(max(one.area, 1))
        if seen is not None and one.is_hidden and one.colours is not None:
            evidence.likeness_of_colours[:, column] = [
                likeness(colours, mask.area, one.colours)
                for colours, mask in zip(seen, masks, strict=True)
            ]
        for reference in one.references:
            _weigh_reference(reference, one.area, (masks, boxes, covered), column, evidence, config)
    return evidence


def _weigh_reference(
    reference: Reference,
    largest_area: float,
    frame: tuple[Sequence[BoxedMask], np.ndarray, np.ndarray],
    column: int,
    evidence: PairEvidence,
    config: AssociationConfig,
) -> None:
    """Add what a silhouette says for each mask of a frame: masks, their boxes, what is covered."""
    masks, boxes, covered = frame
    silhouette = reference.silhouette
    reach = (
        config.reach_px
        + config.reach_std * reference.place_std_px
        + config.reach_size * float(np.sqrt(largest_area))
    )
    region = _grow(silhouette, _GATE * reach)
    rows = np.flatnonzero(meets(boxes, region)).tolist()
    if not rows:
        return
    distance = _distance(silhouette, region)
    open_area = _open_area(silhouette, covered)
    for row in rows:
        mask = masks[row]
        fills = overlap_area(mask, silhouette) / (mask.area + open_area)
        gap = _mean_distance(mask, distance, region, _GATE * reach) / reach
        evidence.fills[row, column] = max(evidence.fills[row, column], fills)
        if gap < _GATE:
            evidence.gap[row, column] = min(evidence.gap[row, column], gap)


def mask_center(mask: BoxedMask) -> Float64[np.ndarray, " 2"]:
    """Return the mean of a mask's pixel centres, (x, y) frame pixels; the mask is not empty."""
    x0, y0 = mask.bbox_xyxy[:2]
    across, down = mask.pixels.sum(0), mask.pixels.sum(1)
    count = int(across.sum())
    x, y = across @ np.arange(across.size) / count, down @ np.arange(down.size) / count
    return np.array([x0 + x + 0.5, y0 + y + 0.5])


def move_inside(mask: BoxedMask, shift: Float64[np.ndarray, " 2"]) -> BoxedMask:
    """Return a mask moved by whole pixels, as far as its box keeps inside the frame."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    height, width = mask.frame_size
    x, y = (round(step) for step in shift.tolist())
    return shift_mask(mask, min(max(x, -x0), width - x1), min(max(y, -y0), height - y1))


def bring_inside(mask: BoxedMask) -> tuple[BoxedMask, tuple[int, int]]:
    """Return a mask moved into the frame, as far as it fits, and by how much, (x, y) pixels."""
    mask = tighten(mask)
    x0, y0, x1, y1 = mask.bbox_xyxy
    height, width = mask.frame_size
    x, y = min(max(0, -x0), width - x1), min(max(0, -y0), height - y1)
    return shift_mask(mask, x, y), (x, y)


def move_unclipped(mask: BoxedMask, x: int, y: int) -> BoxedMask:
    """Return a mask moved by whole pixels; its box may come to reach beyond the frame."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    return BoxedMask((x0 + x, y0 + y, x1 + x, y1 + y), mask.pixels, mask.frame_size)


def mask_boxes(masks: Sequence[BoxedMask]) -> Int64[np.ndarray, "M 4"]:
    """Return the boxes of masks, half-open, frame pixels."""
    return np.array([mask.bbox_xyxy for mask in masks], np.int64).reshape(-1, 4)


def _grow(mask: BoxedMask, reach: float) -> Box:
    """Return the box of a mask grown by a reach, inside the frame; empty for an empty mask."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    if x1 <= x0:
        return 0, 0, 0, 0
    height, width = mask.frame_size
    step = int(np.ceil(min(reach, height + width)))
    return intersect_boxes((x0 - step, y0 - step, x1 + step, y1 + step), (0, 0, width, height))


def meets(boxes: Int64[np.ndarray, "M 4"], box: Box) -> Bool[np.ndarray, " M"]:
    """Return which of some boxes have a pixel in common with another."""
    x0, y0, x1, y1 = box
    return np.asarray(
        (np.minimum(boxes[:, 2], x1) > np.maximum(boxes[:, 0], x0))
        & (np.minimum(boxes[:, 3], y1) > np.maximum(boxes[:, 1], y0))
    )


def _distance(mask: BoxedMask, region: Box) -> Float32[np.ndarray, "h w"]:
    """Return how far each pixel of a region is from a mask, which may reach beyond it."""
    box = enclose_boxes(region, mask.bbox_xyxy)
    outside = (~mask.within(box)).astype(np.uint8)
    if not outside.size or outside.all():
        return np.full((region[3] - region[1], region[2] - region[0]), np.inf, np.float32)
    distance = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3), np.float32)
    return distance[
        region[1] - box[1] : region[3] - box[1], region[0] - box[0] : region[2] - box[0]
    ]


def _open_area(mask: BoxedMask, covered: Bool[np.ndarray, "H W"]) -> int:
    """Return how many pixels of a silhouette nothing covers, where it should show."""
    height, width = covered.shape
    box = x0, y0, x1, y1 = intersect_boxes(mask.bbox_xyxy, (0, 0, width, height))
    if x1 <= x0 or y1 <= y0:
        return 0
    return int(np.count_nonzero(mask.within(box) & ~covered[y0:y1, x0:x1]))


def _mean_distance(
    mask: BoxedMask, distance: Float32[np.ndarray, "h w"], region: Box, limit: float
) -> float:
    """Return the mean distance of a mask's pixels from a silhouette; beyond the region the limit.

    Args:
        mask: not empty.
        distance: of the pixels of the region.
        region: the part of the frame that it covers.
        limit: of the distance of any pixel.
    """
    box = intersect_boxes(mask.bbox_xyxy, region)
    if box[2] <= box[0] or box[3] <= box[1]:
        return limit
    near = distance[
        box[1] - region[1] : box[3] - region[1], box[0] - region[0] : box[2] - region[0]
    ]
    inside = np.minimum(near[mask.within(box)], limit)
    area = mask.area
    return float((inside.sum() + limit * (area - inside.size)) / area)
