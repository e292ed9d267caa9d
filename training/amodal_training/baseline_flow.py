"""Where an object went, without learning: chained optical flow of the video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from amodal_model.masks import BoxedMask
from amodal_training.baseline_motion import Shifts, last_velocity

MIN_KEPT_SHARE = 0.3
"""Flow counts where so much of the visible mask lands in the next one; else the velocity does."""
_MIN_SIDE = 16


def shifts_by_flow(
    visible_frames: Iterable[Mapping[int, BoxedMask]],
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
) -> dict[int, Shifts]:
    """Return displacements by chained optical flow, per track id (T, 2) pixels.

    The displacement is the median of the DIS flow, at half resolution, over the pixels of the
    visible mask before that land in the visible mask now: the others went under an occluder, and
    their flow is the occluder's. Frames are consumed one by one.

    Args:
        visible_frames: V by track id, of each frame.
        frames: the video, RGB, as many frames.

    Raises:
        ValueError: more or fewer frames than mask frames.
    """
    paths: dict[int, list[Float[np.ndarray, " 2"]]] = {}
    measured: dict[int, list[Float[np.ndarray, " 2"]]] = {}
    before: Mapping[int, BoxedMask] = {}
    for index, (masks, flow) in enumerate(zip(visible_frames, half_flows(frames), strict=True)):
        for track_id in masks:
            paths.setdefault(track_id, [np.zeros(2)] * index)
        for track_id, path in paths.items():
            shift = None
            if flow is not None and track_id in masks and track_id in before:
                shift = median_flow(flow, before[track_id], masks[track_id])
            history = measured.setdefault(track_id, [])
            if shift is not None:
                history.append(shift)
            path.append(last_velocity(history) if shift is None else shift)
        before = masks
    return {track_id: np.asarray(path) for track_id, path in paths.items()}


def half_flows(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
) -> Iterator[Float32[np.ndarray, "h w 2"] | None]:
    """Yield the DIS flow from the frame before, at half resolution, in half pixels; first None."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    estimator.setFinestScale(0)  # the preset's 2 averages over small objects and their surround
    before = None
    for frame in frames:
        height, width = frame.shape[:2]
        size = (max(width // 2, _MIN_SIDE), max(height // 2, _MIN_SIDE))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        if before is None:
            yield None
        else:
            start = np.zeros((*small.shape, 2), np.float32)
            yield np.asarray(estimator.calc(before, small, start), np.float32)
        before = small


def median_flow(
    flow: Float32[np.ndarray, "h w 2"], before: BoxedMask, now: BoxedMask
) -> Float[np.ndarray, " 2"] | None:
    """Return the median flow, in pixels, of the mask's pixels that land in the mask now.

    ``None`` where too few do. Every second pixel of each row and column is read.
    """
    rows, columns = np.nonzero(before.pixels[::2, ::2])
    rows, columns = 2 * rows + before.bbox_xyxy[1], 2 * columns + before.bbox_xyxy[0]
    height, width = flow.shape[:2]
    moved = 2.0 * flow[np.minimum(rows // 2, height - 1), np.minimum(columns // 2, width - 1)]
    landed_x = np.rint(columns + moved[:, 0]).astype(int) - now.bbox_xyxy[0]
    landed_y = np.rint(rows + moved[:, 1]).astype(int) - now.bbox_xyxy[1]
    height, width = now.pixels.shape
    kept = (landed_x >= 0) & (landed_x < width) & (landed_y >= 0) & (landed_y < height)
    kept[kept] = now.pixels[landed_y[kept], landed_x[kept]]
    if np.count_nonzero(kept) <= MIN_KEPT_SHARE * len(rows):
        return None
    return np.asarray(np.median(moved[kept], axis=0), float)
