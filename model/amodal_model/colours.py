"""Colour models: how much likelier a colour is on an object than beside it.

A model is a histogram over the Lab cube, smoothed over neighbouring bins, so that a colour seen
once speaks for its neighbours too. Two of them, on and beside the object, give a log ratio.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

BITS = 4
"""Bits of each Lab channel."""
BINS = 1 << (3 * BITS)

_FLOOR = 1e-3
"""Added to both frequencies: a colour seen on neither side says nothing."""
_KERNEL = np.array([0.25, 0.5, 0.25], np.float32)


def colour_bins(image: UInt8[np.ndarray, "h w 3"], bits: int = BITS) -> Int32[np.ndarray, "h w"]:
    """Return the bin of each pixel of an RGB image."""
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), np.uint8)
    coarse = (lab >> (8 - bits)).astype(np.int32)
    return (coarse[..., 0] << (2 * bits)) | (coarse[..., 1] << bits) | coarse[..., 2]


def colour_model(
    bins: Int32[np.ndarray, "h w"], weights: Float32[np.ndarray, "h w"], bits: int = BITS
) -> Float32[np.ndarray, " K"]:
    """Return the smoothed frequencies of the bins; they add up to at most 1."""
    side = 1 << bits
    counts = np.bincount(bins.ravel(), weights.ravel(), side**3)
    cube = np.asarray(counts.reshape(side, side, side), np.float32)
    for axis in range(3):
        rolled = np.moveaxis(cube, axis, 0)
        spread = _KERNEL[1] * rolled
        spread[1:] += _KERNEL[0] * rolled[:-1]
        spread[:-1] += _KERNEL[2] * rolled[1:]
        cube = np.moveaxis(spread, 0, axis)
    total = max(float(cube.sum()), 1e-9)
    return np.asarray(cube.reshape(-1) / total, np.float32)


def log_ratio(
    on: Float32[np.ndarray, " K"],
    beside: Float32[np.ndarray, " K"],
    bins: Int32[np.ndarray, "h w"],
    floor: float = _FLOOR,
) -> Float32[np.ndarray, "h w"]:
    """Return log p(colour | on) - log p(colour | beside) of each pixel."""
    table = np.log((on + floor) / (beside + floor))
    return np.asarray(table[bins], np.float32)


def similarity(a: Float32[np.ndarray, " K"], b: Float32[np.ndarray, " K"]) -> float:
    """Return the common mass of two models, 0 to 1.

    Source: Swain and Ballard, "Color indexing", 1991, section 3.1 (histogram intersection).
    """
    return float(np.minimum(a, b).sum())
