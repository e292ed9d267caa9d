"""Steps of a registration: how far a remembered silhouette is from the masks it should match.

Source: efficient second-order minimisation, Benhimane and Malis 2004, with a prior.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32

from amodal_model.templates import SEARCH_SIDE, TEMPLATE_SIDE

_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_BLUR = 5
_REACH = _BLUR // 2
_FROM_CENTER = np.arange(TEMPLATE_SIDE, dtype=np.float32) - TEMPLATE_SIDE / 2 + 0.5
# as large as the maps: numpy is slower where it repeats a row
_ACROSS = np.tile(_FROM_CENTER, (TEMPLATE_SIDE, 1))
_DOWN = np.ascontiguousarray(_ACROSS.T)


def resample(
    own: Float32[np.ndarray, "N 72 72"],
    open_part: Float32[np.ndarray, "N 72 72"],
    rows: Sequence[int],
    place: Float32[np.ndarray, "M 4"],
) -> tuple[Float32[np.ndarray, "M 48 48"], Float32[np.ndarray, "M 48 48"]]:
    """Return own and open part of some search crops as the displaced, scaled template sees them."""
    shape = (len(rows), TEMPLATE_SIDE, TEMPLATE_SIDE)
    views = np.empty(shape, np.float32), np.empty(shape, np.float32)
    middle, center = SEARCH_SIDE / 2 - 0.5, TEMPLATE_SIDE / 2 - 0.5
    matrix = np.zeros((2, 3), np.float32)
    scales = np.exp(place[:, 2])
    along, across = scales * np.cos(place[:, 3]), scales * np.sin(place[:, 3])
    matrices = np.stack([along, -across, across, along], 1).reshape(-1, 2, 2)
    starts = place[:, :2] + (middle - center * matrices.sum(2))
    for index, row in enumerate(rows):
        matrix[:, :2], matrix[:, 2] = matrices[index], starts[index]
        for crop, view in zip((own[row], open_part[row]), views, strict=True):
            cv2.warpAffine(crop, matrix, shape[1:], dst=view[index], flags=_WARP)
    return views


def refine(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    views: tuple[Float32[np.ndarray, "N 48 48"], Float32[np.ndarray, "N 48 48"]],
    current: tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, "N 4"]],
    mask_noise: float,
) -> tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, "N 4 4"]]:
    """Return one step (dx, dy, log scale, turn) and the precision of what it leads to.

    Source: efficient second-order minimisation, Benhimane and Malis 2004, with a prior.

    Args:
        silhouette: the remembered silhouette, [0, 1].
        known: where it is known, [0, 1].
        views: own mask and open part where the template is now.
        current: where that is (dx, dy, log scale, turn), and the precision of the prediction.
        mask_noise: variance of one pixel's disagreement, see `placement.PlacementConfig`.
    """
    place, precision = current
    count = len(known)
    weight = views[1] * known
    system = _system(silhouette, views[0], weight).reshape(5, count, -1)
    weighted = system[:4] * weight.reshape(count, -1)
    products = weighted.transpose(1, 0, 2) @ system.transpose(1, 2, 0)
    # the blur spreads one contour over five pixels: their errors are not independent
    products *= np.float32(_BLUR / mask_noise)
    products.reshape(count, 20)[:, ::6] += precision  # the diagonal
    hessian = products[:, :, :4]
    step = np.linalg.solve(hessian, (products[:, :, 4] - precision * place)[..., None])[..., 0]
    step[:, :2] = np.clip(step[:, :2], -2, 2)
    return step.astype(np.float32), hessian


def _system(
    silhouette: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 48 48"],
    weight: Float32[np.ndarray, "N 48 48"],
) -> Float32[np.ndarray, "5 N 48 48"]:
    """Return each pixel's change with (x, y, log scale, turn), and its error."""
    # both are blurred over what can be compared, and over no more: the occluder's contour must
    # not look like the object's
    maps = np.empty((len(weight), 3, TEMPLATE_SIDE + 2 * _REACH, TEMPLATE_SIDE), np.float32)
    share, seen, remembered = maps[:, :, _REACH:-_REACH].transpose(1, 0, 2, 3)
    share[:] = weight
    np.multiply(own, weight, out=seen)
    np.multiply(silhouette, weight, out=remembered)
    _blur(maps)
    mass = 1 / np.maximum(share, np.float32(0.04))
    # the mean of both gradients converges faster, and moves a silhouette out of open background
    both = (seen + remembered) * mass
    both *= np.float32(0.25)
    system = np.empty((5, *weight.shape), np.float32)
    across, down, outward, turned, error = system
    _difference(both, across)
    np.subtract(both[:, 2:], both[:, :-2], out=down[:, 1:-1])
    down[:, :: TEMPLATE_SIDE - 1] = 0
    # the log scale moves a pixel by its distance from the centre, in template pixels
    np.multiply(across, _ACROSS, out=outward)
    outward += np.multiply(down, _DOWN, out=both)
    np.multiply(down, _ACROSS, out=turned)
    turned -= np.multiply(across, _DOWN, out=both)
    np.subtract(remembered, seen, out=error)
    error *= mass
    return system


def _blur(maps: Float32[np.ndarray, "N 3 52 48"]) -> None:
    """Blur maps in place, those of one object as one tall image: sums run on from map to map.

    The rows above and below each are the mirror of those inside, as OpenCV has it at an edge.
    """
    maps[:, :, :_REACH] = maps[:, :, 2 * _REACH : _REACH : -1]
    maps[:, :, -_REACH:] = maps[:, :, -_REACH - 2 : -2 * _REACH - 2 : -1]
    for tall in maps.reshape(len(maps), -1, TEMPLATE_SIDE):
        cv2.blur(tall, (_BLUR, _BLUR), dst=tall)


def _difference(
    values: Float32[np.ndarray, "N 48 48"], across: Float32[np.ndarray, "N 48 48"]
) -> None:
    """Fill in the difference between the pixels right and left of each, 0 at the edges."""
    flat = values.reshape(-1)
    np.subtract(flat[2:], flat[:-2], out=across.reshape(-1)[1:-1])
    across[:, :, :: TEMPLATE_SIDE - 1] = 0


def largest_variance(precision: Float32[np.ndarray, "N 4 4"]) -> Float32[np.ndarray, " N"]:
    """Return the variance of the displacement along its less certain axis."""
    covariance = np.linalg.inv(precision)[:, :2, :2]
    middle = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    split = (covariance[:, 0, 0] - covariance[:, 1, 1]) / 2
    largest = middle + np.sqrt(split**2 + covariance[:, 0, 1] ** 2)
    return np.asarray(largest, np.float32)
