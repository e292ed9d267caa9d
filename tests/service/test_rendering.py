"""Overlay and contact sheet: what is drawn where."""

import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.results import FrameResult, ObjectResult, ObjectState
from amodal_service.rendering import SheetColumn, contact_sheet, draw_overlay, track_colour

SIZE = (240, 320)
NOTHING = empty_mask(SIZE)


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def _result(
    track_id: int, visible: BoxedMask, amodal: BoxedMask, state: ObjectState
) -> FrameResult:
    return FrameResult(
        (
            ObjectResult(
                track_id,
                visible,
                amodal,
                0.5,
                state,
                (),
                0.5,
                1.0,
                0.5,
                empty_mask(visible.frame_size),
            ),
        ),
        (),
    )


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((*SIZE, 3), 90, np.uint8)


PARTIAL = _result(2, _rectangle(20, 100, 60, 140), _rectangle(20, 100, 100, 140), "partial")
HIDDEN = _result(2, NOTHING, _rectangle(20, 100, 100, 140), "hidden")


def test_only_the_object_and_its_label_are_touched(grey: np.ndarray) -> None:
    picture = draw_overlay(grey, PARTIAL)
    changed = (picture != 90).any(axis=2)
    assert (grey == 90).all()
    assert changed[100:140, 20:100].all()
    assert changed[80:98, 20:60].any()  # the label, above the box
    changed[80:142, 18:102] = False
    assert not changed.any()


def test_the_visible_part_is_tinted_and_the_hidden_part_hatched(grey: np.ndarray) -> None:
    picture = draw_overlay(grey, PARTIAL)
    tint = np.unique(picture[105:135, 25:55].reshape(-1, 3), axis=0)
    stripes = np.unique(picture[105:135, 65:95].reshape(-1, 3), axis=0)
    assert (len(tint), len(stripes)) == (1, 2)


def test_a_hidden_object_stays_hatched_all_over(grey: np.ndarray) -> None:
    picture = draw_overlay(grey, HIDDEN)
    assert len(np.unique(picture[105:135, 25:95].reshape(-1, 3), axis=0)) == 2


def test_a_lost_object_is_not_drawn(grey: np.ndarray) -> None:
    assert np.array_equal(draw_overlay(grey, _result(2, NOTHING, NOTHING, "lost")), grey)
    assert np.array_equal(draw_overlay(grey, FrameResult((), ())), grey)


def test_objects_at_the_border_are_drawn_inside_the_frame(grey: np.ndarray) -> None:
    corner = _result(1, _rectangle(0, 0, 320, 3), _rectangle(0, 0, 320, 3), "visible")
    assert (draw_overlay(grey, corner)[0] != 90).any()
    tiny = np.full((16, 16, 3), 90, np.uint8)
    dot = np.zeros((16, 16), bool)
    dot[15, 15] = True
    mask = box_mask(dot)
    result = FrameResult(
        (
            ObjectResult(
                9, mask, mask, 0.0, "visible", (), 1.0, 1.0, 1.0, empty_mask(mask.frame_size)
            ),
        ),
        (),
    )
    assert draw_overlay(tiny, result).shape == (16, 16, 3)


def test_colours_belong_to_track_ids() -> None:
    colours = [track_colour(track_id) for track_id in range(1, 13)]
    assert len(set(colours)) == 12
    assert track_colour(5) == colours[4]
    assert all(0 <= value <= 255 for colour in colours for value in colour)


def test_the_sheet_has_three_rows_and_holds_clips_of_any_size(grey: np.ndarray) -> None:
    columns = [SheetColumn("a", grey, PARTIAL), SheetColumn("b", grey, HIDDEN)]
    sheet = contact_sheet(columns, column_width=128)
    assert sheet.shape[1] > 2 * 128
    assert sheet.shape[0] > 3 * 96
    tall = SheetColumn("c", np.full((400, 200, 3), 90, np.uint8), FrameResult((), ()))
    assert contact_sheet([*columns, tall], column_width=128).shape[0] > 3 * 256
