"""Placement: put the remembered silhouette where the object now is.

Each frame the motion of the object predicts a window; the remembered silhouette is registered to
the masks seen there, and the window is moved by what was found. Pixels under other objects or
outside the image say nothing, so only the object's *own* contour pulls; a fully hidden object is
pushed out of the background that is seen to be empty, and otherwise coasts. Where the masks
leave a direction open, the motion prior decides: the update is a maximum a posteriori one, and
its variance is carried to the next frame.

Units: template pixels are 1/48 of the window's side.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

TEMPLATE_SIDE = 48
"""Side of the remembered silhouette, pixels; it spans the window."""
SEARCH_SIDE = 72
"""Side of the searched crop, pixels of the same size; it spans 1.5 windows."""
SEARCH_RATIO = SEARCH_SIDE / TEMPLATE_SIDE
_MARGIN = (SEARCH_SIDE - TEMPLATE_SIDE) // 2
_REFINEMENTS = 4
_SETTLED = 0.05
"""A step that moves no contour by more, in template pixels, is the last."""
_SETTLED_UNITS = np.array([1, 1, TEMPLATE_SIDE / 3], np.float32)
_SEARCH_FROM = 8.0
"""Standard deviation of the place, template pixels, from which displacements are searched."""


class PlacementConfig(NamedTuple):
    """How much the masks are believed against the motion.

    Attributes:
        mask_noise: variance of one template pixel's disagreement, pixels of mask area.
        max_log_scale: largest change of the log scale in one frame.
    """

    mask_noise: float = 0.7
    max_log_scale: float = 0.06


class Registration(NamedTuple):
    """Where the remembered silhouettes were found, relative to the searched windows.

    Attributes:
        shift_xy: (N, 2) displacement, template pixels.
        log_scale: (N,) natural logarithm of the size change.
        variance: (N,) variance of the displacement along its less certain axis, template pixels².
    """

    shift_xy: Float32[np.ndarray, "N 2"]
    log_scale: Float32[np.ndarray, " N"]
    variance: Float32[np.ndarray, " N"]


def register(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    search: Float32[np.ndarray, "N 72 72 3"],
    prior: tuple[Float32[np.ndarray, " N"], Float32[np.ndarray, " N"]],
    config: PlacementConfig,
) -> Registration:
    """Register remembered silhouettes to the masks around their predicted windows.

    Args:
        silhouette: the remembered silhouette, [0, 1].
        known: where it is known, [0, 1]; elsewhere it says nothing.
        search: (own, others, outside) over 1.5 times the predicted window, [0, 1].
        prior: variance of the prediction along each axis, template pixels², and of the log scale.
        config: weights of the masks against the motion.
    """
    count = silhouette.shape[0]
    own = search[..., 0]
    blocked = np.minimum(search[..., 1] + search[..., 2], 1)
    shift = np.zeros((count, 2), np.float32)
    log_scale = np.zeros(count, np.float32)
    variance = np.array(prior[0], np.float32)
    if count == 0:
        return Registration(shift, log_scale, variance)
    # a search would leap to chance agreements that the refinement cannot reach
    lost = prior[0] > _SEARCH_FROM**2
    if lost.any():
        seen = np.maximum(1 - _grow(blocked[lost]), own[lost]).astype(np.float32)
        remembered = silhouette[lost], known[lost]
        shift[lost] = _search_shift(*remembered, own[lost], seen, prior[0][lost], config)
    both = np.stack([own, 1 - blocked], -1)
    moving = np.arange(count)
    for _ in range(_REFINEMENTS):
        now = shift[moving], log_scale[moving], prior[0][moving], prior[1][moving]
        placed = _resample(both[moving], now[0], now[1])
        step, variance[moving] = _refine(silhouette[moving], known[moving], placed, now, config)
        shift[moving] += step[:, :2]
        limit = config.max_log_scale
        log_scale[moving] = np.clip(now[1] + step[:, 2], -limit, limit)
        moving = moving[np.abs(step * _SETTLED_UNITS).max(1) > _SETTLED]
        if not len(moving):
            break
    return Registration(shift, log_scale, variance)


def _grow(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h w"]:
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(one, kernel) for one in maps]).astype(np.float32)


def _halve(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h2 w2"]:
    count, height, width = maps.shape
    return np.asarray(maps.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4)), np.float32)


def _search_shift(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 72 72"],
    seen: Float32[np.ndarray, "N 72 72"],
    prior_variance: Float32[np.ndarray, " N"],
    config: PlacementConfig,
) -> Float32[np.ndarray, "N 2"]:
    """Return the best displacement on a grid of two template pixels.

    The disagreement sum(seen * known * |T - V|) over all displacements is two correlations.
    """
    silhouette, known, own, seen = (_halve(maps) for maps in (silhouette, known, own, seen))
    object_part, visible_part, gain = silhouette * known, own * seen, seen * (1 - 2 * own)
    side = _MARGIN + 1
    disagreement = np.empty((len(own), side, side), np.float32)
    for index in range(len(own)):
        disagreement[index] = cv2.matchTemplate(
            visible_part[index], known[index], cv2.TM_CCORR
        ) + cv2.matchTemplate(gain[index], object_part[index], cv2.TM_CCORR)
    offsets = 2 * (np.arange(side, dtype=np.float32) - side // 2)
    distance = offsets[:, None] ** 2 + offsets[None, :] ** 2
    # one pixel here is four of the template's
    energy = 4 * disagreement / config.mask_noise + distance / prior_variance[:, None, None]
    best = energy.reshape(len(own), -1).argmin(1)
    return np.stack([offsets[best % side], offsets[best // side]], 1)


def _resample(
    both: Float32[np.ndarray, "N 72 72 2"],
    shift: Float32[np.ndarray, "N 2"],
    log_scale: Float32[np.ndarray, " N"],
) -> Float32[np.ndarray, "N 48 48 2"]:
    """Return (own, seen) of the search crop as the displaced, scaled template sees them."""
    placed = np.empty((len(both), TEMPLATE_SIDE, TEMPLATE_SIDE, 2), np.float32)
    middle, center = SEARCH_SIDE / 2 - 0.5, TEMPLATE_SIDE / 2 - 0.5
    for index, ((dx, dy), scale) in enumerate(zip(shift, np.exp(log_scale), strict=True)):
        matrix = np.array(
            [
                [scale, 0, middle + dx - scale * center],
                [0, scale, middle + dy - scale * center],
            ],
            np.float32,
        )
        cv2.warpAffine(
            both[index],
            matrix,
            (TEMPLATE_SIDE, TEMPLATE_SIDE),
            dst=placed[index],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
    return placed


_AXIS = (np.arange(TEMPLATE_SIDE, dtype=np.float32) - TEMPLATE_SIDE / 2 + 0.5) / (TEMPLATE_SIDE / 2)


def _refine(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    placed: Float32[np.ndarray, "N 48 48 2"],
    current: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    config: PlacementConfig,
) -> tuple[Float32[np.ndarray, "N 3"], Float32[np.ndarray, " N"]]:
    """Return one step (dx, dy, log scale) and the variance of the displacement.

    Source: efficient second-order minimisation, Benhimane and Malis 2004, with a prior.
    """
    shift, log_scale, prior_variance, scale_variance = current
    weight = placed[..., 1] * known
    # both are blurred over what can be compared, and over no more: the occluder's contour must
    # not look like the object's
    maps = np.empty((*weight.shape, 3), np.float32)
    maps[..., 0] = weight
    np.multiply(placed[..., 0], weight, out=maps[..., 1])
    np.multiply(silhouette, weight, out=maps[..., 2])
    for one in maps:
        cv2.blur(one, (5, 5), dst=one)
    mass = np.maximum(maps[..., 0], 0.04)
    # the mean of both gradients converges faster, and moves a silhouette out of open background
    both = (maps[..., 1] + maps[..., 2]) / (2 * mass)
    gradient_y, gradient_x = np.zeros_like(both), np.zeros_like(both)
    gradient_x[:, :, 1:-1] = (both[:, :, 2:] - both[:, :, :-2]) / 2
    gradient_y[:, 1:-1, :] = (both[:, 2:, :] - both[:, :-2, :]) / 2
    # the log scale moves a pixel by its distance from the centre, in template pixels
    spread = (gradient_x * _AXIS + gradient_y * _AXIS[:, None]) * (TEMPLATE_SIDE / 2)
    count = len(weight)
    jacobian = np.stack([gradient_x, gradient_y, spread], 1).reshape(count, 3, -1)
    weighted = jacobian * weight.reshape(count, 1, -1)
    # the blur spreads one contour over five pixels: their errors are not independent
    noise = config.mask_noise / 5
    precision = np.zeros((count, 3, 3), np.float32)
    precision[:, 0, 0] = precision[:, 1, 1] = 1 / prior_variance
    precision[:, 2, 2] = 1 / scale_variance
    hessian = weighted @ jacobian.transpose(0, 2, 1) / noise + precision
    error = ((maps[..., 2] - maps[..., 1]) / mass).reshape(count, -1, 1)
    now = np.concatenate([shift, log_scale[:, None]], 1)[..., None]
    step = np.linalg.solve(hessian, weighted @ error / noise - precision @ now)[..., 0]
    step[:, :2] = np.clip(step[:, :2], -2, 2)
    covariance = np.linalg.inv(hessian)[:, :2, :2]
    middle = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    split = (covariance[:, 0, 0] - covariance[:, 1, 1]) / 2
    largest = middle + np.sqrt(split**2 + covariance[:, 0, 1] ** 2)
    return step.astype(np.float32), largest.astype(np.float32)
