"""What shows of objects in one frame, and the crops of it that placement and network see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from amodal_model.contour_noise import noise_of, rim_of
from amodal_model.geometry import Coverage, Window, sample_masks
from amodal_model.masks import BoxedMask, add_mask
from amodal_model.pictures import Picture


class View(NamedTuple):
    """What one object has in one frame: its mask, if any, and how masks cover the frame.

    Views of one frame share their ``coverage``.

    Attributes:
        own: its visible mask.
        coverage: of the frame.
        contour_noise: by how many pixels contours of the frame's masks are off; `follow` finds it.
        picture: the frame's image, where there is one.
    """

    own: BoxedMask
    coverage: Coverage
    contour_noise: float = 0.0
    picture: Picture | None = None


def with_noise(views: Sequence[View], jitters: Float32[np.ndarray, "N 8"]) -> list[View]:
    """Return the views with the contour noise of their frames: all objects of a frame tell it."""
    rows: dict[int, list[int]] = {}
    for row, view in enumerate(views):
        rows.setdefault(id(view.coverage), []).append(row)
    noise = {key: noise_of(jitters[one]) for key, one in rows.items()}
    return [view._replace(contour_noise=noise[id(view.coverage)]) for view in views]


def with_stand_ins(views: Sequence[View], stand_ins: Mapping[int, BoxedMask]) -> list[View]:
    """Return the views of frames in which the objects whose masks are missing cover others too.

    Left out, they would show open background where they are: whoever they hide would be forgotten.
    """
    counts: dict[int, UInt8[np.ndarray, "H W"]] = {}
    for row, mask in stand_ins.items():
        coverage = views[row].coverage
        added = counts.setdefault(id(coverage), coverage.counts.copy())
        add_mask(added, mask)
    covered = {key: Coverage(values) for key, values in counts.items()}
    return [view._replace(coverage=covered.get(id(view.coverage), view.coverage)) for view in views]


def crops_of(
    views: Sequence[View], windows: Float64[np.ndarray, "N 4"], side: int
) -> Float32[np.ndarray, "N 3 s s"]:
    """Return (own, others, outside) of each window, [0, 1]."""
    planes = np.empty((len(views), 4, side, -(-side // 16) * 16), np.uint8)
    for crop, view, window in zip(planes, views, windows.tolist(), strict=True):
        sampled = sample_masks(view.own, view.coverage, Window(*window), side)
        cv2.split(sampled, list(crop))
        if rim := rim_of(view.contour_noise):
            _widen(crop, round(rim * side / window[2]))
    shares = planes[:, :3, :, :side].astype(np.float32)
    shares /= 255
    return shares


def _widen(crop: UInt8[np.ndarray, "4 s w"], reach: int) -> None:
    """Widen what other masks cover, in place, by some crop pixels, but not over the own mask.

    Between masks whose contours are off lie gaps that show no background.
    """
    if reach:
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        wide = np.minimum(cv2.dilate(crop[1], kernel), 255 - crop[0])
        np.maximum(crop[1], wide, out=crop[1])
