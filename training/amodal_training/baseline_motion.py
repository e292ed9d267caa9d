"""Where an object went, without learning: chained correlation of its visible masks.

One displacement a frame, in pixels, from the frame before; while nothing of the object is visible
it goes on with its last velocity. The constants were chosen for the strongest union baseline on
both development benchmarks: a baseline is there to be hard to beat.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from amodal_model.masks import Box, BoxedMask, empty_mask, union
from amodal_training.baseline_union import keep_within, untold_within
from amodal_training.mask_motion import MaskMotion, move_mask

VELOCITY_FRAMES = 12
"""The last velocity is the median over so many displacements."""
MAX_TEMPLATE_SIDE = 48
"""Larger objects are searched at a lower resolution first, then refined."""
DEVIATION_COST = 4.0
"""Agreement lost by a displacement that misses the prediction by the frame's diagonal."""
REMEMBERED_WEIGHT = 0.3
"""What a remembered pixel counts against one seen in the frame before: fragments that do not
overlap, as on the two sides of a bar, are held together by what is remembered between them."""

Shifts = Float[np.ndarray, "T 2"]


class Reference(NamedTuple):
    """The object as it was last, over a box that may reach beyond the frame.

    Attributes:
        bbox_xyxy: the box, frame coordinates.
        object_weight: 1 where the object was seen, less where it is remembered, 0 elsewhere.
        weight: 1 where the frame could tell, less where it could not.
    """

    bbox_xyxy: Box
    object_weight: Float32[np.ndarray, "h w"]
    weight: Float32[np.ndarray, "h w"]


class FrameMasks(NamedTuple):
    """V and O of one frame."""

    visible: BoxedMask
    others: BoxedMask


class Prior(NamedTuple):
    """Where a displacement is expected, and what missing it costs, in IoU a pixel."""

    shift: Float[np.ndarray, " 2"]
    cost_per_px: float


class Grid(NamedTuple):
    """The displacements to try: ``reach`` steps of ``factor`` pixels each way from a centre."""

    center: Float[np.ndarray, " 2"]
    factor: int
    reach: int


def told_within(box: Box, now: FrameMasks) -> Bool[np.ndarray, "h w"]:
    """Return where a frame can tell object from background: in it, not under another object."""
    told: Bool[np.ndarray, "h w"] = now.visible.within(box) | ~untold_within(box, now.others).pixels
    return told


def reference_of(now: FrameMasks, remembered: BoxedMask) -> Reference:
    """Return the reference that a frame leaves for the next.

    Args:
        now: V and O of the frame.
        remembered: the object as far as it is known, V included.
    """
    x0, y0, x1, y1 = remembered.bbox_xyxy
    box = grow_box(remembered.bbox_xyxy, max(3, max(x1 - x0, y1 - y0) // 8))
    weight = np.where(told_within(box, now), np.float32(1), np.float32(REMEMBERED_WEIGHT))
    return Reference(box, remembered.within(box) * weight, weight)


def grow_box(box: Box, by: int) -> Box:
    """Return the box with so many pixels added on each side; it may leave the frame."""
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def register(
    reference: Reference, now: FrameMasks, predicted: Float[np.ndarray, " 2"], gap: int = 1
) -> Float[np.ndarray, " 2"]:
    """Return the displacement under which reference and frame agree best, pixels (x, y).

    Agreement is the weighted IoU of the reference and V over the pixels where the frame can tell,
    minus a cost for missing the prediction. It is searched at low resolution around the
    prediction (as far as half the object's size), then refined to a fraction of a pixel.

    Args:
        reference: the object at its last sight.
        now: V, not empty, and O of the present frame.
        predicted: displacement expected from the velocity.
        gap: frames since the last sight; a prediction over more frames is worth less.
    """
    size = max(reference.weight.shape)
    factor = max(1, math.ceil(size / MAX_TEMPLATE_SIDE))
    diagonal = math.hypot(*now.visible.frame_size)
    prior = Prior(predicted, DEVIATION_COST / (diagonal * math.sqrt(gap)))
    shift = _search(reference, now, prior, Grid(predicted, factor, max(4, size // (2 * factor))))
    if factor > 1:
        shift = _search(reference, now, prior, Grid(shift, 1, factor + 1))
    return shift


def _search(
    reference: Reference, now: FrameMasks, prior: Prior, grid: Grid
) -> Float[np.ndarray, " 2"]:
    """Return the best of (2 reach + 1)² displacements around the grid's centre."""
    center, factor, reach = np.rint(grid.center).astype(int), grid.factor, grid.reach
    agreement = _agreement(reference, now, (int(center[0]), int(center[1])), grid)
    offsets = factor * np.arange(-reach, reach + 1)
    missed = (offsets[:, None] + center) - prior.shift
    score = agreement - prior.cost_per_px * np.hypot(missed[None, :, 0], missed[:, None, 1])
    row, column = divmod(int(score.argmax()), score.shape[1])
    best = np.asarray(center + offsets[[column, row]], float)
    if factor == 1:
        best += (_peak(agreement[row], column), _peak(agreement[:, column], row))
    return best


def _agreement(
    reference: Reference, now: FrameMasks, center: tuple[int, int], grid: Grid
) -> Float32[np.ndarray, "n n"]:
    """Return the weighted IoU at every displacement of the grid, by three correlations."""
    x0, y0, x1, y1 = reference.bbox_xyxy
    # Both boxes are whole numbers of coarse pixels and aligned with each other.
    width, height = (math.ceil(side / grid.factor) * grid.factor for side in (x1 - x0, y1 - y0))
    x0, y0 = x0 + center[0], y0 + center[1]
    box = grow_box((x0, y0, x0 + width, y0 + height), grid.reach * grid.factor)
    object_weight, weight = (_coarse(part, (height, width), grid.factor) for part in reference[1:])
    told = told_within(box, now)
    seen, told = (
        _coarse(part, told.shape, grid.factor) for part in (now.visible.within(box), told)
    )
    both = cv2.matchTemplate(seen, object_weight, cv2.TM_CCORR)
    then = cv2.matchTemplate(told, object_weight, cv2.TM_CCORR)
    either = then + cv2.matchTemplate(seen, weight, cv2.TM_CCORR) - both
    return np.asarray(both / np.maximum(either, 1.0), np.float32)


def _coarse(part: np.ndarray, shape: tuple[int, int], factor: int) -> Float32[np.ndarray, "h2 w2"]:
    padded = np.zeros(shape, np.float32)
    padded[: part.shape[0], : part.shape[1]] = part
    if factor == 1:
        return padded
    small = (shape[1] // factor, shape[0] // factor)
    return np.asarray(cv2.resize(padded, small, interpolation=cv2.INTER_AREA), np.float32)


def _peak(values: Float[np.ndarray, " n"], index: int) -> float:
    """Return the offset of a parabola's top through three values, within half a step."""
    if index in (0, len(values) - 1):
        return 0.0
    left, middle, right = (float(v) for v in values[index - 1 : index + 2])
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def shifts_by_masks(visible: Sequence[BoxedMask | None], others: Sequence[BoxedMask]) -> Shifts:
    """Return displacements by chained mask correlation outside other objects, (T, 2) pixels.

    Args:
        visible: V of each frame, ``None`` where the object has no visible pixel.
        others: O of each frame.
    """
    shifts = np.zeros((len(visible), 2))
    measured: list[Float[np.ndarray, " 2"]] = []
    remembered, reference = empty_mask((1, 1)), None
    last, rest = 0, np.zeros(2)  # frame of the last sight; what rounding left over
    for index, (seen, over) in enumerate(zip(visible, others, strict=True)):
        shifts[index] = last_velocity(measured)
        if seen is None:
            continue
        now = FrameMasks(seen, over)
        if reference is not None:
            predicted = shifts[last + 1 : index + 1].sum(axis=0)
            found = register(reference, now, predicted, index - last)
            shifts[index] += found - predicted
            if index == last + 1:
                measured.append(shifts[index].copy())
            remembered = move_mask(remembered, MaskMotion(*(found + rest)))
            rest = found + rest - np.rint(found + rest)
        kept = keep_within(remembered, untold_within(remembered.bbox_xyxy, over))
        remembered, last = union(kept, seen), index
        reference = reference_of(now, remembered)
    return shifts


def last_velocity(measured: Sequence[Float[np.ndarray, " 2"]]) -> Float[np.ndarray, " 2"]:
    """Return the median of the last displacements, zero where there is none."""
    return np.median(measured[-VELOCITY_FRAMES:], axis=0) if measured else np.zeros(2)


def place_by_shifts(shifts: Shifts) -> list[MaskMotion]:
    """Return, per frame, the motion that carries the first frame into it."""
    return [MaskMotion(float(x), float(y)) for x, y in np.cumsum(shifts, axis=0)]


def bridge_hidden(shifts: Shifts, visible: Sequence[BoxedMask | None]) -> Shifts:
    """Return the displacements with every hidden stretch crossed at constant velocity.

    For methods that see the future: where the object is found again says where it was meanwhile.
    """
    bridged = shifts.copy()
    seen = [index for index, mask in enumerate(visible) if mask is not None]
    for left, right in itertools.pairwise(seen):
        bridged[left + 1 : right + 1] = shifts[left + 1 : right + 1].mean(axis=0)
    return bridged
