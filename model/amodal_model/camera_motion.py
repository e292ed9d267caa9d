"""Camera motion: what of the optical flow a moving camera explains, and what is left.

Flow points from the present frame to the last one: a pixel ``x`` was at ``x + flow(x)``. Where most
textured pixels belong to the scene, a robust affine fit to their flow is the camera's motion;
things that move on their own are its outliers.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
_GRID = 8
"""Distance of the pixels whose flow is fitted."""
_LEAST_POINTS = 24
_ROUNDS = 6
_SETTLED_PX = 0.002
_LEAST_SPREAD_PX = 0.05
_SPREAD = 33
_LEAST_GAIN = 0.985
_OUTLIER = 20.0
_REPLICATE = cv2.BORDER_REPLICATE


class CameraMotion(NamedTuple):
    """How the camera moved since the last frame, in pixels of the frame that was measured.

    Attributes:
        previous_from_current: (2, 3) affine transform of pixel coordinates.
        spread_px: how far the flow of the scene lies from it, robust standard deviation.
    """

    previous_from_current: Float64[np.ndarray, "2 3"]
    spread_px: float


def measure_flow(
    current: UInt8[np.ndarray, "H W"], previous: UInt8[np.ndarray, "H W"]
) -> Float32[np.ndarray, "H W 2"]:
    """Return where each pixel was in the previous frame, as a displacement, pixels.

    Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016.
    """
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    return np.asarray(estimator.calc(current, previous, None), np.float32)  # type: ignore[call-overload]


def fit_camera(
    flow: Float32[np.ndarray, "H W 2"],
    images: tuple[UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]],
    is_object: Bool[np.ndarray, "H W"],
) -> CameraMotion:
    """Return the affine motion of the scene: least squares, reweighted by Cauchy's weights.

    A camera that rests is the rule, and flow spreads around what moves: a motion is believed only
    if it explains the image better than rest does.

    Args:
        flow: of `measure_flow`.
        images: the present frame and the last one, grey; flow is believed where there is texture.
        is_object: pixels known to move on their own, left out.
    """
    current, previous = images
    points, vectors = _textured(flow, current, is_object)
    if len(points) < _LEAST_POINTS:
        return CameraMotion(IDENTITY.copy(), _LEAST_SPREAD_PX)
    height, width = current.shape
    center, scale = np.array([width / 2, height / 2]), max(height, width) / 2
    design = np.concatenate([np.ones((len(points), 1)), (points - center) / scale], 1)
    solution = np.zeros((3, 2))
    solution[0] = [_middle(vectors[:, 0]), _middle(vectors[:, 1])]
    spread = 0.0
    for _ in range(_ROUNDS):
        miss = np.hypot(*(vectors - design @ solution).T)
        spread = max(1.4826 * _middle(miss), _LEAST_SPREAD_PX)
        weighted = design / (1 + (miss / (2 * spread)) ** 2)[:, None]
        last = solution
        solution = np.linalg.solve(weighted.T @ design + 1e-6 * np.eye(3), weighted.T @ vectors)
        if np.abs(solution - last).max() < _SETTLED_PX:
            break
    linear = solution[1:].T / scale
    offset = solution[0] - linear @ center
    moved = IDENTITY + np.concatenate([linear, offset[:, None]], 1)
    error, error_at_rest = (_error(t, points, current, previous) for t in (moved, IDENTITY))
    if error < _LEAST_GAIN * error_at_rest:
        return CameraMotion(moved, spread)
    return CameraMotion(IDENTITY.copy(), spread)


def _middle(values: Float[np.ndarray, " P"]) -> float:
    """Return the upper median: at this size a tenth of the cost of `np.median`."""
    half = len(values) // 2
    return float(np.partition(values, half)[half])


def _error(
    transform: Float64[np.ndarray, "2 3"],
    points: Float64[np.ndarray, "P 2"],
    current: UInt8[np.ndarray, "H W"],
    previous: UInt8[np.ndarray, "H W"],
) -> float:
    """Return by how much the frames differ at points, outliers cut off, grey levels."""
    at = (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)
    then = cv2.remap(previous, at[:, 0], at[:, 1], cv2.INTER_LINEAR, borderMode=_REPLICATE)
    x, y = points.astype(np.int64).T
    apart = np.abs(current[y, x].astype(np.float64) - np.asarray(then).ravel())
    return float(np.minimum(apart, _OUTLIER).mean())


def _textured(
    flow: Float32[np.ndarray, "H W 2"],
    image: UInt8[np.ndarray, "H W"],
    is_object: Bool[np.ndarray, "H W"],
) -> tuple[Float64[np.ndarray, "P 2"], Float64[np.ndarray, "P 2"]]:
    """Return coordinates and flow of grid pixels with texture around them, outside objects."""
    gradient = cv2.convertScaleAbs(cv2.Laplacian(image, cv2.CV_16S, ksize=3))
    steep = cv2.boxFilter(gradient, cv2.CV_32F, (_GRID, _GRID))
    grid = (slice(_GRID // 2, None, _GRID), slice(_GRID // 2, None, _GRID))
    # flow spreads over the edge of what moves
    near = cv2.dilate(is_object.astype(np.uint8), np.ones((_SPREAD, _SPREAD), np.uint8))
    texture, free = np.asarray(steep[grid]), near[grid] == 0
    if not free.any():
        return np.zeros((0, 2)), np.zeros((0, 2))
    rows, columns = np.nonzero(free & (texture >= max(_middle(texture[free]), 0.5)))
    points = np.stack([columns, rows], 1) * float(_GRID) + _GRID // 2
    return points, flow[grid][rows, columns].astype(np.float64)


def camera_flow(motion: CameraMotion, frame_size: tuple[int, int]) -> Float32[np.ndarray, "H W 2"]:
    """Return the flow that the camera's motion alone would make."""
    (a, b, c), (d, e, f) = motion.previous_from_current - IDENTITY
    height, width = frame_size
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    flow = np.empty((height, width, 2), np.float32)
    flow[..., 0] = np.float32(a) * x + (np.float32(b) * y + np.float32(c))
    flow[..., 1] = np.float32(d) * x + (np.float32(e) * y + np.float32(f))
    return flow


def compose(
    first: Float64[np.ndarray, "2 3"], second: Float64[np.ndarray, "2 3"]
) -> Float64[np.ndarray, "2 3"]:
    """Return the affine transform that applies ``second``, then ``first``."""
    linear = first[:, :2] @ second[:, :2]
    return np.concatenate([linear, first[:, :2] @ second[:, 2:] + first[:, 2:]], 1)


def invert(transform: Float64[np.ndarray, "2 3"]) -> Float64[np.ndarray, "2 3"]:
    """Return the inverse affine transform."""
    linear = np.linalg.inv(transform[:, :2])
    return np.concatenate([linear, -linear @ transform[:, 2:]], 1)


def largest_displacement(
    transform: Float64[np.ndarray, "2 3"], frame_size: tuple[int, int]
) -> float:
    """Return how far the transform moves the corner that it moves most, pixels."""
    height, width = frame_size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    moved = corners @ (transform - IDENTITY).T
    return float(np.linalg.norm(moved, axis=1).max())
