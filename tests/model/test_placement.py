"""Placement: the object's own contour pulls, occluders and borders do not."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.placement import PlacementConfig, Prior, Registration, register
from amodal_model.templates import SEARCH_MARGIN, SEARCH_SIDE, TEMPLATE_SIDE

MARGIN = SEARCH_MARGIN
CONFIG = PlacementConfig()
OVER = 8
"""Samples along each side of a pixel."""


def prior_of(variance: float, count: int = 1, misfit: float = 0.0) -> Prior:
    """Return the prior of objects that are expected where they are searched."""
    place, scale, turn, usual = (
        np.full(count, v, np.float32) for v in (variance, 0.03**2, 0.02**2, misfit)
    )
    return Prior(place, scale, turn, np.zeros((count, 2), np.float32), usual)


def ellipse(
    side: int,
    center: tuple[float, float],
    radii: tuple[float, float] = (13.0, 9.0),
    turn: float = 0.0,
) -> np.ndarray:
    """Return an ellipse as coverage of pixels, float32 (side, side)."""
    axis = (np.arange(side * OVER) + 0.5) / OVER
    x, y = axis[None, :] - center[0], axis[:, None] - center[1]
    across = (x * np.cos(turn) + y * np.sin(turn)) / radii[0]
    down = (y * np.cos(turn) - x * np.sin(turn)) / radii[1]
    inside = across**2 + down**2 < 1
    blocks = inside.reshape(side, OVER, side, OVER)
    return np.asarray(blocks.mean((1, 3)), np.float32)


TEMPLATE = ellipse(TEMPLATE_SIDE, (24, 24))[None]
KNOWN = np.ones_like(TEMPLATE)


def searched(
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    others: np.ndarray | None = None,
    outside: np.ndarray | None = None,
    turn: float = 0.0,
) -> np.ndarray:
    """Return what is seen of the ellipse, moved, scaled and turned, behind the others."""
    middle = MARGIN + TEMPLATE_SIDE / 2
    center = (middle + shift[0], middle + shift[1])
    nothing = np.zeros((SEARCH_SIDE, SEARCH_SIDE), np.float32)
    others = nothing if others is None else others
    outside = nothing if outside is None else outside
    whole = ellipse(SEARCH_SIDE, center, (13 * scale, 9 * scale), turn)
    own = whole * (1 - others) * (1 - outside)
    return np.stack([own, others * (1 - outside), outside])[None].astype(np.float32)


def half_plane(columns: slice) -> np.ndarray:
    covered = np.zeros((SEARCH_SIDE, SEARCH_SIDE), np.float32)
    covered[:, columns] = 1
    return covered


def found(search: np.ndarray, variance: float = 16.0, misfit: float = 0.0) -> Registration:
    shape = (len(search), 1, 1)
    prior = prior_of(variance, len(search), misfit)
    return register(np.tile(TEMPLATE, shape), np.tile(KNOWN, shape), search, prior, CONFIG)


SHIFTS = [(0.0, 0.0), (3.0, -2.0), (-6.5, 1.3), (0.4, 7.7), (5.0, 5.0)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_shift_of_an_open_object_is_found(shift: tuple[float, float]) -> None:
    place = found(searched(shift))
    np.testing.assert_allclose(place.shift_xy[0], shift, atol=0.5)
    assert abs(place.log_scale[0]) < 0.02


@pytest.mark.parametrize("scale", [0.96, 1.04])
def test_scale_of_an_open_object_is_found(scale: float) -> None:
    place = found(searched((1.0, -1.0), scale))
    np.testing.assert_allclose(place.log_scale[0], np.log(scale), atol=0.015)
    np.testing.assert_allclose(place.shift_xy[0], (1, -1), atol=0.5)


@pytest.mark.parametrize("turn", [-0.06, 0.04])
def test_turn_of_an_open_object_is_found_in_part(turn: float) -> None:
    """A frame's turn is expected to be small; what is missing is found in the next frames."""
    place = found(searched((1.0, -1.0), turn=turn))
    assert 0.15 < place.turn[0] / turn < 1.05
    np.testing.assert_allclose(place.shift_xy[0], (1, -1), atol=0.5)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("covers", ["left", "right"])
def test_shift_is_found_behind_an_occluder_over_half(
    shift: tuple[float, float], covers: str
) -> None:
    middle = int(SEARCH_SIDE / 2 + shift[0])
    occluder = half_plane(slice(None, middle) if covers == "left" else slice(middle, None))
    place = found(searched(shift, others=occluder))
    np.testing.assert_allclose(place.shift_xy[0], shift, atol=0.5)


def test_shift_is_found_at_the_border_of_the_image() -> None:
    place = found(searched((4.0, 2.0), outside=half_plane(slice(40, None))))
    np.testing.assert_allclose(place.shift_xy[0], (4, 2), atol=0.5)


def test_contour_of_an_occluder_does_not_attract() -> None:
    """The occluder passes over a standing object, contour by contour; the object stays."""
    for edge in range(26, 46, 2):
        place = found(searched(others=half_plane(slice(edge, None))))
        assert abs(place.shift_xy[0]).max() < 0.5, f"occluder from column {edge}"


def test_hidden_object_stays_where_its_surroundings_are_covered() -> None:
    place = found(searched(others=np.ones((SEARCH_SIDE, SEARCH_SIDE), np.float32)))
    np.testing.assert_array_equal(place.shift_xy, 0)
    assert place.log_scale[0] == 0
    np.testing.assert_allclose(place.variance, 16, rtol=1e-4)


def test_hidden_object_is_pushed_out_of_open_background() -> None:
    """The occluder ends where a third of the predicted silhouette would be seen, and is not."""
    occluder = half_plane(slice(None, 40))
    search = np.stack([occluder * 0, occluder, occluder * 0])[None]
    place = found(search)
    assert place.shift_xy[0, 0] < -5, "its right end was at column 49"
    assert abs(place.shift_xy[0, 1]) < 0.5
    assert place.shift_xy[0, 0] > -14, "no further than the occluder hides it"


def test_certain_motion_outweighs_the_masks() -> None:
    near, far = found(searched((1.0, 0.0)), 1e-3), found(searched((1.0, 0.0)), 16.0)
    assert near.shift_xy[0, 0] < 0.2
    assert far.shift_xy[0, 0] > 0.8


@pytest.mark.parametrize("shift", [(7.0, 0.0), (-8.0, 9.0)])
def test_masks_that_are_not_explained_outweigh_certain_motion(shift: tuple[float, float]) -> None:
    place = found(searched(shift), 0.1)
    np.testing.assert_allclose(place.shift_xy[0], shift, atol=0.5)
    assert place.misfit[0] < 0.1


def test_what_misfits_always_does_not_leap() -> None:
    stays, leaps = (found(searched((7.0, 0.0)), 0.1, usual) for usual in (0.5, 0.1))
    assert stays.shift_xy[0, 0] < 6
    np.testing.assert_allclose(leaps.shift_xy[0], (7, 0), atol=0.5)


def test_a_sliver_does_not_make_the_silhouette_leap() -> None:
    """Of the ellipse a tenth shows, where the motion does not expect any: the motion is kept."""
    others = np.ones((SEARCH_SIDE, SEARCH_SIDE), np.float32)
    others[:, 50:53] = 0
    place = found(searched((8.0, 0.0), others=others), 0.1)
    assert abs(place.shift_xy[0]).max() < 2


def test_misfit_is_what_is_left_unexplained() -> None:
    fits, turned = found(searched((2.0, 1.0))), found(searched(turn=np.pi / 2))
    hidden = found(searched(others=np.ones((SEARCH_SIDE, SEARCH_SIDE), np.float32)))
    assert fits.misfit[0] < 0.05
    assert turned.misfit[0] > 0.3, "an ellipse of 26 by 18 pixels, upright where it lay"
    assert hidden.misfit[0] == 0


def test_seeing_the_object_makes_its_place_certain() -> None:
    open_view = found(searched()).variance[0]
    half_view = found(searched(others=half_plane(slice(36, None)))).variance[0]
    assert open_view < half_view < 16


def test_what_is_not_known_of_the_silhouette_does_not_pull() -> None:
    """The remembered half fits; the other half was never seen and is something else."""
    known = KNOWN.copy()
    known[:, :, 24:] = 0
    wrong = TEMPLATE.copy()
    wrong[:, :, 24:] = 0
    place = register(wrong, known, searched((3.0, 0.0)), prior_of(16), CONFIG)
    np.testing.assert_allclose(place.shift_xy[0], (3, 0), atol=1)


def test_objects_do_not_change_each_other() -> None:
    cases = [searched(shift) for shift in SHIFTS]
    together = found(np.concatenate(cases))
    for row, case in enumerate(cases):
        alone = found(case)
        np.testing.assert_allclose(together.shift_xy[row], alone.shift_xy[0], atol=1e-5)
        np.testing.assert_allclose(together.variance[row], alone.variance[0], rtol=1e-5)


def test_registering_twice_gives_the_same() -> None:
    first, second = found(searched((2.2, 3.3))), found(searched((2.2, 3.3)))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_to_register_gives_nothing() -> None:
    place = found(np.zeros((0, 3, SEARCH_SIDE, SEARCH_SIDE), np.float32))
    assert [field.shape for field in place] == [(0, 2), (0,), (0,), (0,), (0,)]


@pytest.mark.parametrize("shift", [(11.0, -9.0), (-12.0, 4.0)])
def test_object_whose_place_is_uncertain_is_searched_far_away(shift: tuple[float, float]) -> None:
    """Steps alone follow the gradient of contours that overlap, which these hardly do."""
    place = found(searched(shift), variance=12.0**2)
    np.testing.assert_allclose(place.shift_xy[0], shift, atol=0.5)


def test_uncertain_and_certain_objects_are_placed_together_as_alone() -> None:
    cases, variances = [searched((11.0, -9.0)), searched((2.0, 1.0))], [144.0, 4.0]
    prior = prior_of(1, 2)._replace(variance=np.array(variances, np.float32))
    shape = (2, 1, 1)
    together = register(
        np.tile(TEMPLATE, shape), np.tile(KNOWN, shape), np.concatenate(cases), prior, CONFIG
    )
    for row, (case, variance) in enumerate(zip(cases, variances, strict=True)):
        np.testing.assert_allclose(
            together.shift_xy[row], found(case, variance).shift_xy[0], atol=1e-5
        )
