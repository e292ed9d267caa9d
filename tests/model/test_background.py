"""The background model: what differs, what is a shadow, what becomes part of the scene."""

from __future__ import annotations

import numpy as np

from amodal_model.background import (
    Background,
    BackgroundConfig,
    brighten,
    difference,
    forget,
    learn,
    move_background,
    new_background,
)

SIZE = (20, 30)
CONFIG = BackgroundConfig()


def _frame(light: float = 120.0) -> np.ndarray:
    return np.full((*SIZE, 3), (light, 128, 128), np.float32)


def _see(model: Background, image: np.ndarray, held: int = 0, times: int = 1) -> Background:
    for _ in range(times):
        score = difference(model, image, CONFIG, unsteadiness=0.0).score
        on = np.full(SIZE, held, np.uint8)
        model = learn(model, image, score, on, CONFIG, unsteadiness=0.0)
    return model


def _known() -> Background:
    return _see(new_background(SIZE), _frame(), times=60)


def test_what_looks_otherwise_differs_and_the_rest_does_not() -> None:
    image = _frame()
    image[5:10, 5:10] = (200, 90, 160)
    score = difference(_known(), image, CONFIG, unsteadiness=0.0).score
    assert (score[5:10, 5:10] > 1).all()
    assert (score[12:, 12:] < 0.1).all()


def test_a_darker_pixel_of_the_same_hue_may_be_in_shadow_a_brighter_one_not() -> None:
    known = _known()
    assert difference(known, _frame(95), CONFIG, unsteadiness=0.0).is_shadow.all()
    assert not difference(known, _frame(40), CONFIG, unsteadiness=0.0).is_shadow.any()
    assert not difference(known, _frame(150), CONFIG, unsteadiness=0.0).is_shadow.any()


def test_a_scene_never_seen_says_nothing() -> None:
    assert not difference(new_background(SIZE), _frame(), CONFIG, unsteadiness=0.0).score.any()


def test_what_stays_becomes_the_scene_but_not_under_an_object_that_is_followed() -> None:
    stays = _frame(240)
    free = _see(_known(), stays, times=45)
    assert np.abs(free.mean - stays).max() < 2
    held = _see(_known(), stays, held=1, times=45)
    assert np.abs(held.mean - _frame()).max() < 2


def test_under_an_object_that_is_followed_the_scene_is_kept_for_as_long_as_nothing_shakes() -> None:
    stays = _frame(240)
    model = _see(_known(), stays, held=1, times=300)
    assert np.abs(model.mean - _frame()).max() < 2
    on, score = np.ones(SIZE, np.uint8), np.full(SIZE, 9, np.float32)
    shaken = _known()
    for _ in range(20):
        shaken = learn(shaken, stays, score, on, CONFIG, unsteadiness=1.0)
    assert np.abs(shaken.mean - stays).max() < 2


def test_what_is_seen_instead_is_learned_anew_where_it_changes() -> None:
    model = _see(_known(), _frame(240), times=10)
    assert np.allclose(model.other[..., 0], 240)
    assert (model.other_age == 10).all()
    changed = _see(model, _frame(20))
    assert np.allclose(changed.other[..., 0], 20)
    assert (changed.other_age == 1).all()
    known = _see(model, _frame())
    assert np.allclose(known.other_age, 9.5)


def test_pixels_that_come_into_view_are_unknown() -> None:
    moved = move_background(_known(), np.array([[1.0, 0, 8], [0, 1, 0]]))
    assert (moved.age[:, :20] > 0).all()
    assert not moved.age[:, 23:].any()
    assert np.allclose(moved.mean[:, :20], 120, atol=9)


def test_a_change_of_exposure_is_taken_over_as_a_whole() -> None:
    brighter = brighten(_known(), _frame(135))
    assert np.allclose(brighter.mean[..., 0], 135, atol=1)


def test_a_forgotten_pixel_is_what_the_frame_shows() -> None:
    where = np.zeros(SIZE, bool)
    where[3, 4] = True
    model = forget(_known(), _frame(200), where)
    assert model.mean[3, 4, 0] == 200
    assert abs(model.mean[3, 5, 0] - 120) < 1
