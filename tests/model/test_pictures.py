"""What images show in windows: now, a frame before at the same place, and of the object itself."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.geometry import Window, old_from_new
from amodal_model.pictures import (
    Picture,
    looks_of,
    moved_colours,
    remember_look,
    seen_before,
)
from amodal_model.templates import TEMPLATE_SIDE

SIZE = (240, 320)


def ramp() -> np.ndarray:
    """Return an image whose red tells x and whose green tells y, a value a pixel."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([columns * 0.75, rows, np.zeros(SIZE)], 2).round().astype(np.uint8)


def colours_at(window: Window, column: int, row: int) -> tuple[float, float]:
    """Return red and green of the ramp where a pixel of a window lies."""
    x = window.center_x + (column + 0.5 - TEMPLATE_SIDE / 2) * window.side / TEMPLATE_SIDE
    y = window.center_y + (row + 0.5 - TEMPLATE_SIDE / 2) * window.side / TEMPLATE_SIDE
    return (x - 0.5) * 0.75, y - 0.5


@pytest.mark.parametrize("side", [30, 48, 100, 200])
@pytest.mark.parametrize("longest", [None, 160])
def test_a_window_shows_what_lies_there(side: float, longest: int | None) -> None:
    window = Window(150, 110, side)
    found = Picture(ramp(), longest).within(window)
    for column, row in ((5, 40), (24, 24), (40, 9)):
        red, green = colours_at(window, column, row)
        assert found[row, column, :2].tolist() == pytest.approx([red, green], abs=1.6)


def test_a_turned_window_shows_the_image_turned() -> None:
    upright = Picture(ramp()).within(Window(150, 110, 48))
    turned = Picture(ramp()).within(Window(150, 110, 48, np.pi / 2))
    # its x axis points along the frame's y axis
    assert np.abs(np.rot90(upright, 1).astype(int) - turned).max() <= 1


def test_beyond_the_image_its_border_goes_on() -> None:
    found = Picture(ramp()).within(Window(0, 0, 48))
    assert (found[:24, :24] == found[24, 24]).all() or found[0, 0].max() <= 1
    assert Picture(np.full((1, 1, 3), 9, np.uint8)).within(Window(0, 0, 999)).min() == 9


def test_what_was_before_is_looked_up_at_the_place_in_the_frame() -> None:
    old, new = Window(150, 110, 48), Window(158, 106, 60)
    own = np.zeros((TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    own[:, 30:] = 1
    blank = np.zeros((TEMPLATE_SIDE, TEMPLATE_SIDE, 4), np.uint8)
    look, _ = remember_look(Picture(ramp()).within(old), own, blank)
    now = Picture(np.full((*SIZE, 3), 200, np.uint8)).within(new)
    before = seen_before(look, (old, new), now)
    red, green = colours_at(new, 20, 24)
    assert before[24, 20, :2].tolist() == pytest.approx([red, green], abs=1.6)
    # where the object's mask began, 6 pixels right of the old window's middle
    begins = 24 + (150 + 6 - 158) / 60 * 48
    assert np.flatnonzero(before[24, :, 3] > 127)[0] == pytest.approx(begins, abs=1)
    # beyond the old window nothing is known to have changed
    assert (before[24, -1] == [200, 200, 200, 0]).all()


def test_colours_are_those_that_the_object_showed_last() -> None:
    own = np.zeros((TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    own[:, :24] = 1
    red, blue = (np.full((48, 48, 3), c, np.uint8) for c in ([200, 0, 0], [0, 0, 200]))
    blank = np.zeros((TEMPLATE_SIDE, TEMPLATE_SIDE, 4), np.uint8)
    _, colours = remember_look(red, own, blank)
    _, colours = remember_look(blue, np.roll(own, 12, 1), colours)
    assert colours[9, 5].tolist() == [200, 0, 0, 255]
    assert colours[9, 30].tolist() == [0, 0, 200, 255]
    assert colours[9, 40].tolist() == [0, 0, 0, 0]
    shown = looks_of(blue, np.dstack([red, red[..., :1]]), colours)
    assert shown[:, 9, 5].tolist() == [0, 0, 200, 200, 0, 0, 200, 200, 0, 0, 255]


def test_colours_move_with_windows() -> None:
    colours = np.zeros((1, TEMPLATE_SIDE, TEMPLATE_SIDE, 4), np.uint8)
    colours[0, 20:28, 20:28] = (10, 20, 30, 255)
    same = np.eye(2, 3, dtype=np.float32)[None]
    assert moved_colours(colours, same) is colours
    old, new = Window(60, 50, 48), Window(66, 50, 48)
    there = moved_colours(colours, old_from_new(old, new)[None])
    assert (there[0, 20:28, 14:22] == (10, 20, 30, 255)).all()
    assert there.sum() == colours.sum()
