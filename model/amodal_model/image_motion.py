"""A frame as it is followed: its picture, how it moved, and windows sampled out of both.

Flow is dense inverse search at a reduced working size, backward: it says where each pixel was in
the last frame. The camera's part of it is an affine map, fitted beside the objects.

Source: Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016 (OpenCV's DIS).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.geometry import Window
from amodal_model.masks import BoxedMask

WORK_SIDE = 428
"""Longer side of the working size, pixels; smaller frames are worked on as they are."""

_STEP = 8
"""Work pixels between the points that the camera's motion is fitted to."""
_LEAST_POINTS = 12

Map = Float32[np.ndarray, "S S"]


class FrameView(NamedTuple):
    """A frame and its motion.

    Attributes:
        image: RGB.
        scale: working pixels a frame pixel.
        flow: (h, w, 2) where each working pixel was in the last frame, minus where it is, working
            pixels; ``None`` where there was no last frame.
    """

    image: UInt8[np.ndarray, "H W 3"]
    scale: float
    flow: Float32[np.ndarray, "h w 2"] | None


def work_size(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)`` of the working size of a frame."""
    scale = min(WORK_SIDE / max(frame_size), 1.0)
    return max(round(frame_size[0] * scale), 16), max(round(frame_size[1] * scale), 16)


def work_grey(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w"]:
    """Return a frame in grey at working size."""
    height, width = work_size(image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def backward_flow(
    grey: UInt8[np.ndarray, "h w"], before: UInt8[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 2"]:
    """Return where each pixel was in the frame before, minus where it is.

    A careful search at half the size finds more than a quick one at full size, at equal cost.
    """
    height, width = grey.shape
    half = (max(width // 2, 8), max(height // 2, 8))
    small = [cv2.resize(each, half, interpolation=cv2.INTER_AREA) for each in (grey, before)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(small[0], small[1], np.zeros((half[1], half[0], 2), np.float32))
    stretch = np.array([width / half[0], height / half[1]], np.float32)
    return np.asarray(cv2.resize(flow, (width, height)) * stretch, np.float32)


def own_motion(
    flow: Float32[np.ndarray, "h w 2"], is_object: Bool[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 2"]:
    """Return the flow without the camera's part, fitted where no object is."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[_STEP // 2 : height : _STEP, _STEP // 2 : width : _STEP]
    free = ~is_object[rows, columns]
    points = np.stack([columns[free], rows[free]], axis=-1).astype(np.float32)
    if len(points) < _LEAST_POINTS:
        return flow
    cv2.setRNGSeed(0)
    camera, _ = cv2.estimateAffine2D(
        points,
        points + flow[rows[free], columns[free]],
        method=cv2.RANSAC,
        ransacReprojThreshold=1.0,
        maxIters=200,
        confidence=0.95,
    )
    if camera is None:
        return flow
    a = np.asarray(camera, np.float32) - np.eye(2, 3, dtype=np.float32)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    still = np.stack([a[k, 0] * x + a[k, 1] * y + a[k, 2] for k in (0, 1)], axis=-1)
    return np.asarray(flow - still, np.float32)


def window_axes(
    window: Window, side: int
) -> tuple[Float32[np.ndarray, " S"], Float32[np.ndarray, " S"]]:
    """Return the frame coordinates (x, y) of a window's columns and rows, pixel centres."""
    offsets = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    columns = window.center_x + offsets * window.side
    rows = window.center_y + offsets * window.side
    return columns.astype(np.float32), rows.astype(np.float32)


def inside_frame(window: Window, side: int, frame_size: tuple[int, int]) -> Map:
    """Return 1 where a window's pixel lies in the frame, 0 elsewhere."""
    columns, rows = window_axes(window, side)
    is_column = (columns >= 0) & (columns <= frame_size[1])
    is_row = (rows >= 0) & (rows <= frame_size[0])
    return np.asarray(np.outer(is_row, is_column), np.float32)


def sample_image(
    image: UInt8[np.ndarray, "H W 3"], window: Window, side: int
) -> UInt8[np.ndarray, "S S 3"]:
    """Return a window of an image, averaged where it is shrunk; edges go on beyond the frame."""
    height, width = image.shape[:2]
    shrink = max(int(window.side / side), 1)
    reach = window.side / 2 + 2 * shrink
    x0 = int(np.clip(window.center_x - reach, 0, width - shrink))
    y0 = int(np.clip(window.center_y - reach, 0, height - shrink))
    x1 = int(np.clip(window.center_x + reach + 1, x0 + shrink, width))
    y1 = int(np.clip(window.center_y + reach + 1, y0 + shrink, height))
    wide, high = (x1 - x0) // shrink, (y1 - y0) // shrink
    part = image[y0 : y0 + high * shrink, x0 : x0 + wide * shrink]
    if shrink > 1:
        part = np.asarray(cv2.resize(part, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)
    columns, rows = window_axes(window, side)
    step = window.side / side / shrink
    left, top = (columns[0] - x0) / shrink - 0.5, (rows[0] - y0) / shrink - 0.5
    matrix = np.array([[step, 0, left], [0, step, top]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(
        part, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, np.uint8)


def sample_mask(mask: BoxedMask, window: Window, side: int) -> Map:
    """Return a mask in a window, 0 to 1."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    if x1 <= x0 or y1 <= y0:
        return np.zeros((side, side), np.float32)
    columns, rows = window_axes(window, side)
    step = window.side / side
    matrix = np.array([[step, 0, columns[0] - x0 - 0.5], [0, step, rows[0] - y0 - 0.5]], np.float32)
    sampled = cv2.warpAffine(
        mask.pixels.astype(np.float32),
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return np.asarray(sampled, np.float32)


def sample_field(
    field: Float32[np.ndarray, "h w 2"], window: Window, side: int, scale: float
) -> Float32[np.ndarray, "S S 2"]:
    """Return a window of a vector field of working size, its vectors in frame pixels."""
    columns, rows = window_axes(window, side)
    step = window.side / side * scale
    matrix = np.array(
        [[step, 0, columns[0] * scale - 0.5], [0, step, rows[0] * scale - 0.5]], np.float32
    )
    sampled = cv2.warpAffine(
        field,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sampled, np.float32) / np.float32(scale)
