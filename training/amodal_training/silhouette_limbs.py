"""Limbs of a silhouette: the pieces that stick out, found by distance along the inside."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Int32

_SCALE = 2
_STEP = 3
_MAX_LIMBS = 6
_AREA_RANGE = (0.012, 0.34)
_KERNELS = tuple(
    cv2.getStructuringElement(kind, (3, 3)) for kind in (cv2.MORPH_CROSS, cv2.MORPH_RECT)
)


class Limb(NamedTuple):
    """A piece of a silhouette and the joint it turns about.

    ``pixels`` is bool, of the silhouette's size; ``joint_x``, ``joint_y`` and ``half_width`` (of
    the piece, at the joint) are in pixels.
    """

    pixels: Bool[np.ndarray, "S S"]
    joint_x: float
    joint_y: float
    half_width: float


class _Candidate(NamedTuple):
    value: float
    pixels: np.ndarray
    joint: tuple[float, float]
    width: float


def find_limbs(silhouette: Bool[np.ndarray, "S S"]) -> list[Limb]:
    """Return up to six disjoint limbs: longer than their root is wide, a third of the area at most.

    The distance of every pixel from the thickest point is measured inside the silhouette; what
    remains beyond a distance falls into pieces, and the best-proportioned pieces are kept.
    """
    small = silhouette[::_SCALE, ::_SCALE].astype(np.uint8)
    distance = _inner_distance(small)
    area = int(small.sum())
    candidates: list[_Candidate] = []
    for cut in range(_STEP, int(distance.max()), _STEP):
        candidates += _pieces_beyond(distance, cut, area)
    chosen: list[_Candidate] = []
    taken = np.zeros(small.shape, bool)
    for candidate in sorted(candidates, key=lambda c: -c.value):
        if len(chosen) < _MAX_LIMBS and not (taken & candidate.pixels).any():
            taken |= candidate.pixels
            chosen.append(candidate)
    return [_full_size(candidate, silhouette) for candidate in chosen]


def _inner_distance(mask: np.ndarray) -> Int32[np.ndarray, "h w"]:
    """Return steps from the thickest point along the inside; -1 outside (or not connected)."""
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    reached = np.zeros_like(mask)
    reached[np.unravel_index(int(np.argmax(depth)), mask.shape)] = 1
    distance = np.full(mask.shape, -1, np.int32)
    distance[reached > 0] = 0
    step = 0
    while True:
        step += 1
        # A cross and a square in turn grow an octagon: close enough to a disc.
        grown = cv2.dilate(reached, _KERNELS[step % 2]) & mask
        fresh = (grown > 0) & (reached == 0)
        if not fresh.any():
            return distance
        distance[fresh] = step
        reached = grown


def _pieces_beyond(distance: np.ndarray, cut: int, area: int) -> list[_Candidate]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (distance >= cut).astype(np.uint8), connectivity=8
    )
    found: list[_Candidate] = []
    for label in range(1, count):
        share = stats[label, cv2.CC_STAT_AREA] / area
        if not _AREA_RANGE[0] <= share <= _AREA_RANGE[1]:
            continue
        piece = labels == label
        root = piece & (distance == cut)
        width = max(float(root.sum()), 1.0)
        length = float(distance[piece].max()) - cut
        if length < 1.1 * width or not root.any():
            continue
        ys, xs = np.nonzero(root)
        joint = (float(xs.mean()), float(ys.mean()))
        found.append(_Candidate(min(length / width, 4.0) * share**0.5, piece, joint, width))
    return found


def _full_size(candidate: _Candidate, silhouette: np.ndarray) -> Limb:
    height, width = silhouette.shape
    large = cv2.resize(
        candidate.pixels.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
    x, y = ((value + 0.5) * _SCALE - 0.5 for value in candidate.joint)
    return Limb((large > 0) & silhouette, x, y, candidate.width * _SCALE / 2)
