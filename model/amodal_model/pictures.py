"""What images show in the windows of objects: now, in the frame before, and of the object itself.

Masks alone do not tell a hand before a cup from a cup that bends away from the hand's place. A
picture does: what comes in front looked the same elsewhere a frame before, and unlike the object.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.geometry import Window, crop_from_frame, frame_from_crop
from amodal_model.templates import TEMPLATE_SIDE

LOOK_NAMES = ("now", "before", "shown_before", "colours", "are_known")
"""What `Sighting.looks` holds, of 3, 3, 1, 3 and 1 channels."""
LOOK_CHANNELS = 11
_FULL = 255
_SURELY = 0.9
"""Share of a pixel under the object's mask from which its colour is the object's."""


class Picture:
    """The image of a frame, halved at will. Objects of one frame share it.

    Args:
        image: RGB.
        longest: pixels of the longer side of what is kept of it.
    """

    def __init__(self, image: UInt8[np.ndarray, "H W 3"], longest: int | None = None) -> None:
        self.frame_size = image.shape[:2]
        height, width = image.shape[:2]
        shrink = 1.0 if longest is None else longest / max(height, width)
        if shrink < 1:
            side = max(round(width * shrink), 1), max(round(height * shrink), 1)
            image = np.asarray(cv2.resize(image, side, interpolation=cv2.INTER_AREA), np.uint8)
        self._levels: list[np.ndarray] = [image]

    def within(self, window: Window) -> UInt8[np.ndarray, "48 48 3"]:
        """Return what a window shows, the image's border continued beyond it."""
        kept = self._levels[0].shape[1] / self.frame_size[1]
        halvings = max(int(kept * window.side / TEMPLATE_SIDE), 1).bit_length() - 1
        while len(self._levels) <= halvings and min(self._levels[-1].shape[:2]) > 1:
            last = self._levels[-1]
            height, width = last.shape[:2]
            half = (max(width // 2, 1), max(height // 2, 1))
            self._levels.append(cv2.resize(last, half, interpolation=cv2.INTER_AREA))
        image = self._levels[min(halvings, len(self._levels) - 1)]
        height, width = self.frame_size
        x, y = image.shape[1] / width, image.shape[0] / height
        matrix = frame_from_crop(window, TEMPLATE_SIDE).astype(np.float64)
        matrix = _on_pixels(np.array([[x], [y]]) * matrix)
        side = (TEMPLATE_SIDE, TEMPLATE_SIDE)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        found = cv2.warpAffine(image, matrix, side, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, np.uint8)


def seen_before(
    look: UInt8[np.ndarray, "48 48 4"],
    windows: tuple[Window, Window],
    now: UInt8[np.ndarray, "48 48 3"],
) -> UInt8[np.ndarray, "48 48 4"]:
    """Return what a new window's place showed a frame before, and where the object showed there.

    Args:
        look: the picture in the old window, and the object's mask in it.
        windows: the old and the new one.
        now: the picture in the new window, taken where the old one does not reach.
    """
    old, new = windows
    to_old = crop_from_frame(old, TEMPLATE_SIDE).astype(np.float64)
    of_new = np.vstack([frame_from_crop(new, TEMPLATE_SIDE), [0, 0, 1]])
    before = np.dstack([now, np.zeros_like(now[..., 0])])
    return np.asarray(
        cv2.warpAffine(
            look,
            _on_pixels(to_old @ of_new),
            (TEMPLATE_SIDE, TEMPLATE_SIDE),
            dst=before,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_TRANSPARENT,
        ),
        np.uint8,
    )


def looks_of(
    now: UInt8[np.ndarray, "48 48 3"],
    before: UInt8[np.ndarray, "48 48 4"],
    colours: UInt8[np.ndarray, "48 48 4"],
) -> UInt8[np.ndarray, "11 48 48"]:
    """Return what a judge is shown of an object, see `LOOK_NAMES`."""
    return np.ascontiguousarray(np.dstack([now, before, colours]).transpose(2, 0, 1))


def remember_look(
    now: UInt8[np.ndarray, "48 48 3"],
    own: Float32[np.ndarray, "48 48"],
    colours: UInt8[np.ndarray, "48 48 4"],
) -> tuple[UInt8[np.ndarray, "48 48 4"], UInt8[np.ndarray, "48 48 4"]]:
    """Return the look for the next frame, and the object's colours where it showed last.

    Args:
        now: the picture in the window.
        own: share of each pixel under the object's mask.
        colours: the object's before, and where they are known.
    """
    look = np.dstack([now, np.where(own > 0.5, _FULL, 0).astype(np.uint8)])
    surely = np.where(own > _SURELY, _FULL, 0).astype(np.uint8)
    fresh = np.dstack([now, surely])
    return look, np.where(surely[..., None] > 0, fresh, colours)


def moved_colours(
    colours: UInt8[np.ndarray, "N 48 48 4"], theta: Float32[np.ndarray, "N 2 3"]
) -> UInt8[np.ndarray, "N 48 48 4"]:
    """Return colours of the old windows in the new ones, see `geometry.old_from_new`."""
    is_moved = (theta != _SAME).any((1, 2))
    changed = np.flatnonzero(is_moved).tolist() if colours.any() else []
    if changed:
        colours = colours.copy()
    half, side = TEMPLATE_SIDE / 2, (TEMPLATE_SIDE, TEMPLATE_SIDE)
    for row in changed:
        matrix = theta[row].astype(np.float64)
        # from -1..1 to pixels
        shift = half * (matrix[:, 2] + 1 - matrix[:, :2].sum(1))
        moved = _on_pixels(np.hstack([matrix[:, :2], shift[:, None]]))
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        colours[row] = cv2.warpAffine(colours[row], moved, side, flags=flags)
    return colours


_SAME = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def _on_pixels(matrix: np.ndarray) -> np.ndarray:
    """Return an affine map of continuous coordinates as one of pixel indices."""
    moved = matrix[:2].copy()
    moved[:, 2] += 0.5 * matrix[:2, :2].sum(1) - 0.5
    return moved
