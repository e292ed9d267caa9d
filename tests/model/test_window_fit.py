"""Fitting windows: they stay while their object keeps well inside, whatever its box does."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.composition import cover
from amodal_model.geometry import Coverage, Window, crop_from_frame
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, Tracks, new_tracks
from amodal_model.views import View
from amodal_model.window_fit import fit_windows

FRAME = (160, 200)


def tracks_in(window: Window, remembered: tuple[int, int]) -> Tracks:
    """Return one object that is remembered in some rows and columns of its template."""
    tracks = new_tracks(1)
    tracks.window[0] = window
    part = slice(*remembered)
    tracks.template[0, :, part, part] = 1
    return tracks._replace(is_new=np.zeros(1, bool))


def fitted(own: BoxedMask, window: Window, remembered: tuple[int, int] = (10, 38)) -> Window:
    """Return the window that is fitted to a mask."""
    view = View(own, Coverage(cover([own], FRAME)))
    windows, _ = fit_windows(tracks_in(window, remembered), [view], MotionConfig())
    return Window(*windows[0].tolist())


def keeps_inside(own: BoxedMask, window: Window, remembered: tuple[int, int] = (10, 38)) -> bool:
    """Return whether all pixels of a mask keep inside a window that they fill as they should."""
    rows, columns = np.nonzero(own.full())
    points = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    x, y = crop_from_frame(window, TEMPLATE_SIDE) @ points
    half = TEMPLATE_SIDE / window.side / 2
    low, high = remembered
    x0, y0 = min(low, x.min() - half), min(low, y.min() - half)
    x1, y1 = max(high, x.max() + half), max(high, y.max() + half)
    fill = max(x1 - x0, y1 - y0) / TEMPLATE_SIDE * MotionConfig().window_ratio
    room = min(x0, y0, TEMPLATE_SIDE - x1, TEMPLATE_SIDE - y1) / TEMPLATE_SIDE
    return bool(0.7 < fill < 1.35 and room > 0.1)


def disc(center: tuple[float, float], radius: float) -> BoxedMask:
    y, x = np.mgrid[: FRAME[0], : FRAME[1]] + 0.5
    return box_mask((x - center[0]) ** 2 + (y - center[1]) ** 2 < radius**2)


@pytest.mark.parametrize("angle", [0.1, 0.4, -0.8])
def test_window_is_kept_just_where_all_pixels_keep_inside(angle: float) -> None:
    window = Window(100.0, 80.0, 90.0, angle)
    kept = set()
    for offset in np.linspace(0, 40, 21).tolist():
        own = disc((100 + offset, 80 - offset / 3), 22)
        is_kept = fitted(own, window) == window
        assert is_kept == keeps_inside(own, window), f"{offset} pixels beside the middle"
        kept.add(is_kept)
    assert kept == {True, False}


def test_window_around_a_corner_of_the_box_without_pixels_is_kept() -> None:
    """Turned by 45 degrees, the box of a disc reaches beyond the room that the disc leaves."""
    window = Window(100.0, 80.0, 90.0, np.pi / 4)
    assert fitted(disc((100.0, 80.0), 32.0), window) == window


def test_window_of_what_has_shrunk_is_fitted_anew() -> None:
    window = Window(100.0, 80.0, 90.0, 0.2)
    after = fitted(disc((100.0, 80.0), 8.0), window, (20, 28))
    assert after.side < 60
    assert after.angle == window.angle
