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
from jaxtyping import Float32, Int64

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
    search: Float32[np.ndarray, "N 3 72 72"],
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
    shift = np.zeros((count, 2), np.float32)
    log_scale = np.zeros(count, np.float32)
    variance = np.array(prior[0], np.float32)
    if count == 0:
        return Registration(shift, log_scale, variance)
    own = search[:, 0]
    open_part = 1 - np.minimum(search[:, 1] + search[:, 2], 1)
    # a search would leap to chance agreements that the refinement cannot reach
    lost = prior[0] > _SEARCH_FROM**2
    if lost.any():
        seen = np.maximum(1 - _grow(1 - open_part[lost]), own[lost]).astype(np.float32)
        remembered = silhouette[lost], known[lost]
        shift[lost] = _search_shift(*remembered, own[lost], seen, prior[0][lost], config)
    views = np.stack([own, open_part], 1)
    hessian = np.empty((count, 3, 3), np.float32)
    moving = np.arange(count)
    for _ in range(_REFINEMENTS):
        now = shift[moving], log_scale[moving], prior[0][moving], prior[1][moving]
        placed = _resample(views, moving, now[0], now[1])
        step, hessian[moving] = _refine(silhouette[moving], known[moving], placed, now, config)
        shift[moving] += step[:, :2]
        limit = config.max_log_scale
        log_scale[moving] = np.clip(now[1] + step[:, 2], -limit, limit)
        moving = moving[np.abs(step * _SETTLED_UNITS).max(1) > _SETTLED]
        if not len(moving):
            break
    return Registration(shift, log_scale, _largest_variance(hessian))


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
    views: Float32[np.ndarray, "N 2 72 72"],
    rows: Int64[np.ndarray, " M"],
    shift: Float32[np.ndarray, "M 2"],
    log_scale: Float32[np.ndarray, " M"],
) -> Float32[np.ndarray, "2 M 48 48"]:
    """Return (own, open) of some search crops as the displaced, scaled template sees them."""
    placed = np.empty((2, len(rows), TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    middle, center = SEARCH_SIDE / 2 - 0.5, TEMPLATE_SIDE / 2 - 0.5
    matrix = np.zeros((2, 3), np.float32)
    scales = np.exp(log_scale).tolist()
    for index, row in enumerate(rows.tolist()):
        scale = scales[index]
        matrix[0, 0] = matrix[1, 1] = scale
        matrix[:, 2] = shift[index] + (middle - scale * center)
        for view, target in zip(views[row], placed[:, index], strict=True):
            cv2.warpAffine(view, matrix, target.shape, dst=target, flags=_WARP)
    return placed


_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_FROM_CENTER = np.arange(TEMPLATE_SIDE, dtype=np.float32) - TEMPLATE_SIDE / 2 + 0.5
# as large as the maps: numpy is slower where it repeats a row
_ACROSS = np.tile(_FROM_CENTER, (TEMPLATE_SIDE, 1))
_DOWN = np.ascontiguousarray(_ACROSS.T)


def _refine(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    placed: Float32[np.ndarray, "2 N 48 48"],
    current: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    config: PlacementConfig,
) -> tuple[Float32[np.ndarray, "N 3"], Float32[np.ndarray, "N 3 3"]]:
    """Return one step (dx, dy, log scale) and the precision of what it leads to.

    Source: efficient second-order minimisation, Benhimane and Malis 2004, with a prior.
    """
    shift, log_scale, prior_variance, scale_variance = current
    count = len(known)
    weight = placed[1] * known
    system = _system(silhouette, placed[0], weight).reshape(count, 4, -1)
    weighted = system[:, :3] * weight.reshape(count, 1, -1)
    # the blur spreads one contour over five pixels: their errors are not independent
    products = (weighted @ system.transpose(0, 2, 1)) * np.float32(5 / config.mask_noise)
    precision = 1 / np.stack([prior_variance, prior_variance, scale_variance], 1)
    now = np.concatenate([shift, log_scale[:, None]], 1)
    hessian = products[:, :, :3]
    hessian[:, range(3), range(3)] += precision
    step = np.linalg.solve(hessian, (products[:, :, 3] - precision * now)[..., None])[..., 0]
    step[:, :2] = np.clip(step[:, :2], -2, 2)
    return step.astype(np.float32), hessian


def _system(
    silhouette: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 48 48"],
    weight: Float32[np.ndarray, "N 48 48"],
) -> Float32[np.ndarray, "N 4 48 48"]:
    """Return each pixel's change with (x, y, log scale), and its error."""
    # both are blurred over what can be compared, and over no more: the occluder's contour must
    # not look like the object's
    maps = np.empty((*weight.shape, 3), np.float32)
    maps[..., 0] = weight
    np.multiply(own, weight, out=maps[..., 1])
    np.multiply(silhouette, weight, out=maps[..., 2])
    for one in maps:
        cv2.blur(one, (5, 5), dst=one)
    mass = 1 / np.maximum(maps[..., 0], np.float32(0.04))
    system = np.zeros((len(weight), 4, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    # the mean of both gradients converges faster, and moves a silhouette out of open background
    both = (maps[..., 1] + maps[..., 2]) * mass
    both *= np.float32(0.25)
    np.subtract(both[:, :, 2:], both[:, :, :-2], out=system[:, 0, :, 1:-1])
    np.subtract(both[:, 2:], both[:, :-2], out=system[:, 1, 1:-1])
    # the log scale moves a pixel by its distance from the centre, in template pixels
    np.multiply(system[:, 0], _ACROSS, out=system[:, 2])
    system[:, 2] += system[:, 1] * _DOWN
    np.multiply(maps[..., 2] - maps[..., 1], mass, out=system[:, 3])
    return system


def _largest_variance(precision: Float32[np.ndarray, "N 3 3"]) -> Float32[np.ndarray, " N"]:
    """Return the variance of the displacement along its less certain axis."""
    covariance = np.linalg.inv(precision)[:, :2, :2]
    middle = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    split = (covariance[:, 0, 0] - covariance[:, 1, 1]) / 2
    largest = middle + np.sqrt(split**2 + covariance[:, 0, 1] ** 2)
    return np.asarray(largest, np.float32)
