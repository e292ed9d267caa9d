"""Objects that show another shape than what is remembered of them begin again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from amodal_model.contour_noise import RIM
from amodal_model.geometry import window_around
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, Tracks, new_tracks
from amodal_model.views import View, crops_of

FORGET_SHOWN = 0.25
"""Share of the remembered silhouette's area that must show to tell that it is another shape."""
LEAST_NOISE = 1.5
"""Frame pixels by which contours are taken to be off at least, in misfits that make forget."""


def looks_other(
    predicted: Tracks,
    placed: Tracks,
    seen: tuple[Float32[np.ndarray, "M 3 72 72"], Sequence[View]],
    misfit: Float32[np.ndarray, " N"],
    motion: MotionConfig,
) -> Bool[np.ndarray, " N"]:
    """Return which objects show a shape that the remembered one cannot be, noise left aside.

    Args:
        predicted: the objects as they were expected, with their usual misfit.
        placed: as they were found.
        seen: crops around those that are not new, and the frame's views of all.
        misfit: of each as it was found, see `placement.Registration`.
        motion: from which misfit on.
    """
    search, views = seen
    is_other = _shows_another_shape(predicted, misfit, search, motion)
    for row in np.flatnonzero(is_other).tolist():
        usual = float(predicted.misfit[row])
        is_other[row] = _wide_misfit(placed, row, views[row], usual) > motion.forget_from
    return is_other


def _shows_another_shape(
    tracks: Tracks,
    misfit: Float32[np.ndarray, " N"],
    search: Float32[np.ndarray, "M 3 72 72"],
    motion: MotionConfig,
) -> Bool[np.ndarray, " N"]:
    """Return which objects show a shape that the remembered one cannot be, wherever it is put.

    What was turned over, thrown or carried while hidden comes out so; what is remembered of it
    would stay under its occluder.
    """
    is_other = np.zeros(len(misfit), bool)
    old = np.flatnonzero(~tracks.is_new)
    shown, remembered = search[:, 0].sum((1, 2)), tracks.template[old, 0].sum((1, 2))
    usual = motion.forget_usual * tracks.misfit[old]
    is_other[old] = (misfit[old] > motion.forget_from + usual) & (shown > FORGET_SHOWN * remembered)
    return is_other


def _wide_misfit(tracks: Tracks, row: int, view: View, usual: float) -> float:
    """Return the misfit of a placed object less what the noise of contours explains.

    Rims are opened away that are as narrow as masks may be off on both sides: as the object's
    ``usual`` misfit tells, and no wider than the contour noise of the frame.
    """
    silhouette, known = tracks.template[row]
    own, others, outside = crops_of([view], tracks.window[row : row + 1], TEMPLATE_SIDE)[0]
    differs = abs(own - silhouette) * known * (1 - np.minimum(others + outside, 1))
    differs += 0.5 * own * (1 - known)
    # a contour that is off by r pixels misfits by about 4 r / sqrt(area); a few times that happens
    usual_reach = 0.7 * usual * math.sqrt(own.sum())
    noise_px = max(RIM * view.contour_noise, LEAST_NOISE)
    reach = math.ceil(min(usual_reach, noise_px * TEMPLATE_SIDE / tracks.window[row, 2]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    wide = np.asarray(cv2.morphologyEx(differs, cv2.MORPH_OPEN, kernel))
    return float(wide.sum() / max(own.sum(), 1))


def begin_again(
    tracks: Tracks,
    views: Sequence[View],
    is_other: Bool[np.ndarray, " N"],
    motion: MotionConfig,
) -> Tracks:
    """Return the tracks with some objects as if they showed for the first time."""
    if not is_other.any():
        return tracks
    rows = np.flatnonzero(is_other)
    begun = Tracks(*(field.copy() for field in tracks))
    for field, value in zip(begun, new_tracks(len(rows)), strict=True):
        field[rows] = value
    # how much it misfits is the object's, not the silhouette's
    begun.misfit[rows] = tracks.misfit[rows]
    begun.jitters[rows], begun.areas[rows] = tracks.jitters[rows], tracks.areas[rows]
    begun.is_new[rows] = False
    for row in rows.tolist():
        begun.window[row] = window_around(views[row].own.bbox_xyxy, motion.window_ratio)
    return begun
