"""Which mask of a frame is which known object.

What was visible in the last frame and lies where it was going is clear at once. The rest is
weighed. Four things speak for a pair: the mask lies on the object's last one; it fills what should
show of the object's whole silhouette; it is like the last one, and near it; it is near the whole
silhouette, for how well the place of that is known. The whole silhouette is the amodal state's
where there is one. Without it the last visible mask stands in, moved on, its place known ever less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from amodal_model.assignment import assign
from amodal_model.masks import Box, BoxedMask, intersect_boxes, overlap_area, shift_mask

_GATE = 3.0
"""Reaches beyond which a mask is too far away: its nearness would be under 0.012."""


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
        drift_share: by how much of its size an object strays in a frame without amodal state.
        largest_growth: how much larger than ever seen or expected an object may come back.
    """

    clear_iou: float = 0.6
    least_affinity: float = 0.05
    like_weight: float = 0.7
    near_weight: float = 0.5
    reach_px: float = 2.0
    reach_std: float = 2.0
    reach_size: float = 0.25
    drift_share: float = 0.25
    largest_growth: float = 2.5


class Candidate(NamedTuple):
    """A known object that a mask may be.

    Attributes:
        recent: its last visible mask, moved to where it should be now; may have no pixel.
        silhouette: its whole silhouette there; the same as ``recent`` without amodal state.
        place_std_px: standard deviation of that place, frame pixels.
        area: the most pixels that it is known to have.
        is_hidden: whether it was hidden in the last frame.
    """

    recent: BoxedMask
    silhouette: BoxedMask
    place_std_px: float
    area: float
    is_hidden: bool


class Evidence(NamedTuple):
    """What is known of each pair of M masks and N objects, and of the objects.

    Attributes:
        stays: (M, N) IoU of the mask and the object's last one.
        fills: (M, N) IoU of the mask and what should show: the part of the whole silhouette that
            is not under other masks.
        likeness: (M, N) ratio of the areas of the mask and the last one, in [0, 1]; 0 where the
            object was hidden.
        offset: (M, N) distance of their centres, frame pixels.
        gap: (M, N) mean distance of the mask's pixels from the whole silhouette, frame pixels.
        growth: (M, N) area of the mask over the largest known of the object.
        size: (N,) side of a square of that largest area, frame pixels.
        place_std_px: (N,) of the silhouette's place.
    """

    stays: Float64[np.ndarray, "M N"]
    fills: Float64[np.ndarray, "M N"]
    likeness: Float64[np.ndarray, "M N"]
    offset: Float64[np.ndarray, "M N"]
    gap: Float64[np.ndarray, "M N"]
    growth: Float64[np.ndarray, "M N"]
    size: Float64[np.ndarray, " N"]
    place_std_px: Float64[np.ndarray, " N"]


def associate(
    masks: Sequence[BoxedMask],
    candidates: Sequence[Candidate],
    covered: Bool[np.ndarray, "H W"],
    config: AssociationConfig,
) -> list[tuple[int, int]]:
    """Return which masks are which objects, as (mask, candidate) pairs; the rest are new.

    Args:
        masks: of one frame, none of them empty.
        candidates: the objects that they may be.
        covered: which pixels of the frame a mask holds, those of other objects included.
        config: what makes a mask an object's.
    """
    clear = clear_pairs(masks, candidates, config.clear_iou)
    rows = sorted(set(range(len(masks))) - {row for row, _ in clear})
    columns = sorted(set(range(len(candidates))) - {column for _, column in clear})
    if not rows or not columns:
        return clear
    shift = common_shift([(masks[row], candidates[column].recent) for row, column in clear])
    left = [move_candidate(candidates[column], shift) for column in columns]
    evidence = weigh([masks[row] for row in rows], left, covered, config)
    pairs = assign(affinities(evidence, config) - config.least_affinity)
    return sorted([*clear, *((rows[row], columns[column]) for row, column in pairs)])


def clear_pairs(
    masks: Sequence[BoxedMask], candidates: Sequence[Candidate], clear_iou: float
) -> list[tuple[int, int]]:
    """Return the pairs of a mask and an object that was visible and is where it was going.

    Each mask and each object once at most, the largest IoU first.
    """
    boxes = _boxes(masks)
    found = []
    for column, one in enumerate(candidates):
        if one.is_hidden or not one.recent.pixels.size:
            continue
        area = one.recent.area
        for row in np.flatnonzero(_meets(boxes, one.recent.bbox_xyxy)).tolist():
            both = overlap_area(masks[row], one.recent)
            iou = both / max(masks[row].area + area - both, 1)
            if iou >= clear_iou:
                found.append((-iou, row, column))
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for _, row, column in sorted(found):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs


def common_shift(pairs: Sequence[tuple[BoxedMask, BoxedMask]]) -> tuple[int, int]:
    """Return by how much most masks missed their prediction: the camera's part, (x, y) pixels.

    Args:
        pairs: masks and where they were expected; fewer than three say nothing.
    """
    if len(pairs) < 3:
        return 0, 0
    missed = np.median([mask_center(mask) - mask_center(other) for mask, other in pairs], axis=0)
    x, y = missed.tolist()
    return round(x), round(y)


def move_candidate(one: Candidate, shift: tuple[int, int]) -> Candidate:
    """Return an object moved by whole pixels."""
    if shift == (0, 0):
        return one
    recent = shift_mask(one.recent, *shift)
    is_same = one.silhouette is one.recent
    return one._replace(
        recent=recent, silhouette=recent if is_same else shift_mask(one.silhouette, *shift)
    )


def affinities(evidence: Evidence, config: AssociationConfig) -> Float64[np.ndarray, "M N"]:
    """Return what speaks for each pair, in [0, 1]."""
    reach = reaches(evidence.size, evidence.place_std_px, config)
    drift = config.reach_px + config.drift_share * evidence.size
    like = np.exp(-0.5 * (evidence.offset / drift) ** 2) * evidence.likeness
    fits = np.minimum(1, config.largest_growth / np.maximum(evidence.growth, 1e-6))
    near = np.exp(-0.5 * (evidence.gap / reach) ** 2) * fits
    strong = np.maximum(evidence.stays, evidence.fills)
    return np.maximum(strong, np.maximum(config.like_weight * like, config.near_weight * near))


def reaches(
    size: Float64[np.ndarray, " N"],
    place_std_px: Float64[np.ndarray, " N"],
    config: AssociationConfig,
) -> Float64[np.ndarray, " N"]:
    """Return how far from its silhouette each object is expected to show, frame pixels."""
    return config.reach_px + config.reach_std * place_std_px + config.reach_size * size


def weigh(
    masks: Sequence[BoxedMask],
    candidates: Sequence[Candidate],
    covered: Bool[np.ndarray, "H W"],
    config: AssociationConfig,
) -> Evidence:
    """Return what is known of each pair; nothing speaks for those beyond three reaches."""
    size = np.sqrt([max(one.area, 1.0) for one in candidates])
    place_std = np.array([one.place_std_px for one in candidates], float)
    limits = _GATE * reaches(size, place_std, config)
    shape = (len(masks), len(candidates))
    zero = [np.zeros(shape) for _ in range(4)]
    evidence = Evidence(
        zero[0], zero[1], zero[2], np.full(shape, np.inf), np.full(shape, np.inf), zero[3], size,
        place_std,
    )
    boxes = _boxes(masks)
    areas = np.array([mask.area for mask in masks], float)
    centers = np.array([mask_center(mask) for mask in masks])
    for column, (one, limit) in enumerate(zip(candidates, limits.tolist(), strict=True)):
        recent_area = one.recent.area
        if recent_area and not one.is_hidden:
            ratio = areas / recent_area
            evidence.likeness[:, column] = np.minimum(ratio, 1 / ratio)
            offset = centers - mask_center(one.recent)
            evidence.offset[:, column] = np.hypot(offset[:, 0], offset[:, 1])
        evidence.growth[:, column] = areas / max(one.area, 1)
        region = _grow(one.silhouette, limit)
        rows = np.flatnonzero(_meets(boxes, region) | _meets(boxes, one.recent.bbox_xyxy))
        if not rows.size:
            continue
        distance = _distance(one.silhouette, region)
        open_area = _open_area(one.silhouette, covered)
        for row in rows.tolist():
            mask, area = masks[row], areas[row]
            both = overlap_area(mask, one.recent)
            evidence.stays[row, column] = both / (area + recent_area - both)
            evidence.fills[row, column] = overlap_area(mask, one.silhouette) / (area + open_area)
            evidence.gap[row, column] = _mean_distance(mask, distance, region, limit)
    return evidence


def mask_center(mask: BoxedMask) -> Float64[np.ndarray, " 2"]:
    """Return the mean of a mask's pixel centres, (x, y) frame pixels; the mask is not empty."""
    x0, y0 = mask.bbox_xyxy[:2]
    across, down = mask.pixels.sum(0), mask.pixels.sum(1)
    count = across.sum()
    x, y = across @ np.arange(across.size) / count, down @ np.arange(down.size) / count
    return np.array([x0 + x + 0.5, y0 + y + 0.5])


def _boxes(masks: Sequence[BoxedMask]) -> np.ndarray:
    return np.array([mask.bbox_xyxy for mask in masks], np.int64).reshape(-1, 4)


def _grow(mask: BoxedMask, reach: float) -> Box:
    """Return the box of a mask grown by a reach, inside the frame; empty for an empty mask."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    if x1 <= x0:
        return 0, 0, 0, 0
    height, width = mask.frame_size
    step = int(np.ceil(min(reach, height + width)))
    return intersect_boxes((x0 - step, y0 - step, x1 + step, y1 + step), (0, 0, width, height))


def _meets(boxes: np.ndarray, box: Box) -> np.ndarray:
    """Return which of some boxes have a pixel in common with another."""
    x0, y0, x1, y1 = box
    return np.asarray(
        (np.minimum(boxes[:, 2], x1) > np.maximum(boxes[:, 0], x0))
        & (np.minimum(boxes[:, 3], y1) > np.maximum(boxes[:, 1], y0))
    )


def _distance(mask: BoxedMask, region: Box) -> Float32[np.ndarray, "h w"]:
    """Return how far each pixel of a region is from a mask."""
    outside = (~mask.within(region)).astype(np.uint8)
    if not outside.size or outside.all():
        return np.full(outside.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3), np.float32)


def _open_area(mask: BoxedMask, covered: Bool[np.ndarray, "H W"]) -> int:
    """Return how many pixels of a silhouette nothing covers, where it should show."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    return int(np.count_nonzero(mask.pixels & ~covered[y0:y1, x0:x1]))


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
    near = distance[box[1] - region[1] : box[3] - region[1], box[0] - region[0] : box[2] - region[0]]
    inside = np.minimum(near[mask.within(box)], limit)
    area = mask.area
    return float((inside.sum() + limit * (area - inside.size)) / area)
