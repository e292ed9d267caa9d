"""Searches over all displacements of a remembered silhouette, by correlations at half resolution.

For objects whose place is unknown (`search_shift`), and for those whose masks are not explained
where the motion has them (`search_leap`). Units: template pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32

from amodal_model.templates import SEARCH_MARGIN

_LEAP_COST = 0.02
"""What a leap of one template pixel costs, squared, in pixels left unexplained."""
_SIDE = SEARCH_MARGIN + 1
_OFFSETS = 2 * (np.arange(_SIDE, dtype=np.float32) - _SIDE // 2)
"""Displacements that are looked at along each axis, template pixels."""


def search_leap(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 72 72"],
    open_part: Float32[np.ndarray, "N 72 72"],
) -> tuple[Float32[np.ndarray, "N 2"], Float32[np.ndarray, " N"]]:
    """Return the displacement on a grid of two template pixels that leaves least unexplained.

    Unlike `search_shift` it has to explain all of the visible mask, so that sliding under an
    occluder does not pay. Returned with what it leaves, template pixels.
    """
    silhouette, known, own, open_part = (
        _halve(maps) for maps in (silhouette, known, own, open_part)
    )
    background = np.maximum(open_part - own, 0)
    told_object, doubt = known * silhouette, known * (0.5 - silhouette)
    distance = _LEAP_COST * (_OFFSETS[:, None] ** 2 + _OFFSETS[None, :] ** 2)
    shifts, left = np.empty((len(own), 2), np.float32), np.empty(len(own), np.float32)
    for index in range(len(own)):
        found = cv2.matchTemplate(own[index], doubt[index], cv2.TM_CCORR)
        found += cv2.matchTemplate(background[index], told_object[index], cv2.TM_CCORR)
        # one pixel here is four of the template's
        cost = 4 * (found + 0.5 * own[index].sum())
        best = int((cost + distance).argmin())
        shifts[index] = _OFFSETS[best % _SIDE], _OFFSETS[best // _SIDE]
        left[index] = cost.flat[best]
    return shifts, left


def search_shift(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 72 72"],
    open_part: Float32[np.ndarray, "N 72 72"],
    motion: tuple[Float32[np.ndarray, "N 2"], Float32[np.ndarray, " N"]],
    mask_noise: float,
) -> Float32[np.ndarray, "N 2"]:
    """Return the best displacement on a grid of two template pixels.

    The disagreement sum(seen * known * |T - V|) over all displacements is two correlations.
    The motion says which displacement it expects, and with what variance.
    """
    # beside other masks a contour may be theirs
    seen = np.maximum(1 - _grow(1 - open_part), own).astype(np.float32)
    silhouette, known, own, seen = (_halve(maps) for maps in (silhouette, known, own, seen))
    object_part, visible_part, gain = silhouette * known, own * seen, seen * (1 - 2 * own)
    disagreement = np.empty((len(own), _SIDE, _SIDE), np.float32)
    for index in range(len(own)):
        disagreement[index] = cv2.matchTemplate(
            visible_part[index], known[index], cv2.TM_CCORR
        ) + cv2.matchTemplate(gain[index], object_part[index], cv2.TM_CCORR)
    expected, variance = motion
    across = (_OFFSETS - expected[:, :1]) ** 2
    down = (_OFFSETS - expected[:, 1:]) ** 2
    distance = down[:, :, None] + across[:, None, :]
    # one pixel here is four of the template's
    energy = 4 * disagreement / mask_noise + distance / variance[:, None, None]
    best = energy.reshape(len(own), -1).argmin(1)
    return np.stack([_OFFSETS[best % _SIDE], _OFFSETS[best // _SIDE]], 1)


def _grow(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h w"]:
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(one, kernel) for one in maps]).astype(np.float32)


def _halve(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h2 w2"]:
    """Return the means of two by two pixels; as one tall image, it is quick."""
    count, height, width = maps.shape
    tall = cv2.resize(
        maps.reshape(-1, width),
        (width // 2, count * height // 2),
        interpolation=cv2.INTER_AREA,
    )
    return np.asarray(tall, np.float32).reshape(count, height // 2, width // 2)
