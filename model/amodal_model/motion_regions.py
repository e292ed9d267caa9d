"""Regions of a frame that differ from the background: connected, without holes, described."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int64, UInt8

MAX_REGIONS = 250


class RegionConfig(NamedTuple):
    """How pixels become regions; lengths in pixels of the working size.

    Attributes:
        least_area: pixels of the smallest region.
        threshold: log odds, smoothed, from which a pixel is in a region.
        least_peak: and those that some pixel of a region must have.
        hole_share: holes up to this share of what is around them are filled.
    """

    least_area: int = 24
    threshold: float = 0.4
    least_peak: float = 0.8
    hole_share: float = 0.3


class Views(NamedTuple):
    """What describes the pixels of a frame.

    Attributes:
        odds: log odds of the foreground.
        motion: displacement since the last frame that the camera does not explain, pixels.
        colors: colour.
    """

    odds: Float32[np.ndarray, "H W"]
    moves: Float32[np.ndarray, "H W"]
    motion: Float32[np.ndarray, "H W 2"]
    colors: Float32[np.ndarray, "H W 3"]


class Description(NamedTuple):
    """What describes N labelled parts of a frame; zeros where one has no pixel.

    Attributes:
        area: pixels.
        box: half-open ``x0, y0, x1, y1``.
        center: mean pixel coordinates.
        motion: mean displacement since the last frame, pixels.
        moving: mean of how surely its pixels move by themselves.
        color: mean colour, YCrCb.
        contrast: mean log odds.
    """

    area: Int64[np.ndarray, " N"]
    box: Int64[np.ndarray, "N 4"]
    center: Float64[np.ndarray, "N 2"]
    motion: Float64[np.ndarray, "N 2"]
    moving: Float64[np.ndarray, " N"]
    color: Float64[np.ndarray, "N 3"]
    contrast: Float64[np.ndarray, " N"]


def find_regions(
    odds: Float32[np.ndarray, "H W"], config: RegionConfig
) -> tuple[Int16[np.ndarray, "H W"], int]:
    """Return the regions, numbered from 1, and how many there are.

    Args:
        odds: log odds of the foreground.
        config: sizes and thresholds.
    """
    smooth = cv2.GaussianBlur(odds, (5, 5), 0)
    binary = (smooth > config.threshold).astype(np.uint8)
    binary = np.asarray(cv2.morphologyEx(binary, cv2.MORPH_CLOSE, _ball(3)), np.uint8)
    binary = np.asarray(cv2.morphologyEx(binary, cv2.MORPH_OPEN, _ball(3)), np.uint8)
    binary = _fill_holes(binary, config.hole_share)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, ltype=cv2.CV_16U)
    if count == 1:
        return np.zeros(odds.shape, np.int16), 0
    is_strong = np.zeros(count, bool)
    is_strong[np.unique(labels[smooth > config.least_peak])] = True
    is_strong[stats[:, cv2.CC_STAT_AREA] < config.least_area] = False
    is_strong[0] = False
    chosen = np.flatnonzero(is_strong)
    chosen = chosen[np.argsort(-stats[chosen, cv2.CC_STAT_AREA], kind="stable")[:MAX_REGIONS]]
    renumber = np.zeros(count, np.int16)
    renumber[chosen] = np.arange(1, len(chosen) + 1)
    return renumber[labels], len(chosen)


def _ball(size: int) -> UInt8[np.ndarray, "s s"]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _fill_holes(binary: UInt8[np.ndarray, "H W"], share: float) -> UInt8[np.ndarray, "H W"]:
    """Fill holes that are small beside what is around them: a car's grey windows on a grey road."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return binary
    filled = binary.copy()
    for index, (_, _, _, parent) in enumerate(hierarchy[0].tolist()):
        if parent < 0:
            continue
        if cv2.contourArea(contours[index]) <= share * cv2.contourArea(contours[parent]):
            cv2.drawContours(filled, contours, index, (1,), cv2.FILLED)
    return filled


def describe(labels: Int16[np.ndarray, "H W"], count: int, views: Views) -> Description:
    """Return what describes the parts numbered 1 to ``count``."""
    width = labels.shape[1]
    where = np.flatnonzero(labels)
    own = labels.ravel()[where]
    order = np.argsort(own, kind="stable")
    where, own = where[order], own[order]
    area = np.bincount(own, minlength=count + 1)[1 : count + 1]
    x, y = where % width, where // width
    motion = views.motion.reshape(-1, 2)[where].astype(np.float64)
    columns = np.concatenate(
        [
            np.stack([x, y], 1).astype(np.float64),
            motion,
            views.moves.ravel()[where].astype(np.float64)[:, None],
            views.colors.reshape(-1, 3)[where].astype(np.float64),
            views.odds.ravel()[where].astype(np.float64)[:, None],
        ],
        1,
    )
    sums, box = np.zeros((count, 9)), np.zeros((count, 4), np.int64)
    shown = np.flatnonzero(area)
    if shown.size:
        starts = np.concatenate([[0], np.cumsum(area[shown])[:-1]])
        sums[shown] = np.add.reduceat(columns, starts) / area[shown, None]
        box[shown, 0] = np.minimum.reduceat(x, starts)
        box[shown, 1] = np.minimum.reduceat(y, starts)
        box[shown, 2] = np.maximum.reduceat(x, starts) + 1
        box[shown, 3] = np.maximum.reduceat(y, starts) + 1
    return Description(area, box, sums[:, :2], sums[:, 2:4], sums[:, 4], sums[:, 5:8], sums[:, 8])


def spread_labels(
    seeds: Int16[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> Int16[np.ndarray, "h w"]:
    """Return, for each pixel of a mask, the label of the nearest seed; 0 outside the mask."""
    _, nearest = cv2.distanceTransformWithLabels(
        (seeds == 0).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, np.int16)
    table[nearest[seeds > 0]] = seeds[seeds > 0]
    return np.asarray(np.where(mask, table[nearest], 0), np.int16)
