"""Veils: what hides an object without having a mask, and what is kept of the object behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amodal_model import veils
from amodal_model.geometry import Window, old_from_new
from amodal_model.memory import CONTEXT_NAMES, CROP_SIDE, MAP_NAMES
from amodal_model.pictures import LOOK_CHANNELS
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.veil_judge import MAPS, SCALARS, inputs_of
from amodal_model.veils import Sighting, VeilJudge, find_doubts, find_veils, halved

SQUARE = np.s_[12:36, 12:36]
LEFT_HALF = np.s_[12:36, 12:24]


def maps_of(part: Any = None, value: float = 1.0) -> np.ndarray:
    maps = np.zeros((1, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32)
    if part is not None:
        maps[0][part] = value
    return maps


def sighting(
    usual: np.ndarray,
    own: np.ndarray,
    others: np.ndarray | None = None,
    misfit: float = 0.05,
    *,
    has_look: bool = False,
) -> Sighting:
    context = np.zeros((1, len(CONTEXT_NAMES)), np.float32)
    context[0, 1] = 1
    others = maps_of() if others is None else others
    seen = np.stack([own, others, maps_of()], 1)
    return Sighting(
        np.arange(1),
        np.array([[0.0, 0, 48, 0]]),
        usual,
        maps_of() > 0,
        own,
        seen,
        context,
        np.full(1, misfit, np.float32),
        np.zeros((1, LOOK_CHANNELS, TEMPLATE_SIDE, TEMPLATE_SIDE), np.uint8),
        np.array([has_look]),
    )


def veils_of(shown: Sighting, judge: VeilJudge) -> np.ndarray:
    """Return what the judge, asked only where there is doubt, takes for hidden: (N, 48, 48)."""
    doubts = find_doubts(shown.usual, shown.seen, shown.usual_misfit, shown.has_look)
    veiled = np.zeros(shown.usual.shape, bool)
    if len(doubts.rows):
        asked = Sighting(*(field[doubts.rows] for field in shown))
        veiled[doubts.rows] = find_veils(doubts, asked, judge)
    return veiled


def renewed(
    usual: np.ndarray,
    own: np.ndarray,
    veiled: np.ndarray | None = None,
    others: np.ndarray | None = None,
    gap: float = 1.0,
) -> np.ndarray:
    """Return what is usually seen after a frame, without veils and other masks unless given."""
    veiled = maps_of() > 0 if veiled is None else veiled
    return veils.renew(usual, sighting(usual, own, others).seen, veiled, gap)


def certain(hidden: Sighting) -> np.ndarray:
    return np.full(hidden.usual.shape, 5.0, np.float32)


def never(hidden: Sighting) -> np.ndarray:
    raise AssertionError(f"asked for rows {hidden.rows.tolist()}")


def test_what_should_show_and_does_not_may_be_hidden() -> None:
    seen = sighting(maps_of(SQUARE), maps_of(LEFT_HALF))
    expected = (maps_of(SQUARE) - maps_of(LEFT_HALF)) > 0
    assert (veils_of(seen, certain) == expected).all()
    assert not veils_of(seen, lambda asked: -certain(asked)).any()


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (maps_of(SQUARE), None),
        (maps_of(LEFT_HALF), maps_of(np.s_[:, 24:])),
        (maps_of(), None),
        (maps_of(np.s_[12:14, 12:15]), None),
        (maps_of(np.s_[14:36, 12:36]), None),
    ],
    ids=[
        "all of it shows",
        "another mask covers the rest",
        "nothing shows",
        "a sliver shows",
        "a thin rim is missing",
    ],
)
def test_nobody_is_asked_where_nothing_is_in_doubt(
    own: np.ndarray, others: np.ndarray | None
) -> None:
    assert not veils_of(sighting(maps_of(SQUARE), own, others), never).any()


def test_what_bends_is_not_asked_for() -> None:
    seen = sighting(maps_of(SQUARE), maps_of(LEFT_HALF), misfit=veils.STIFF_MISFIT + 0.01)
    assert not veils_of(seen, never).any()


def test_what_bends_is_asked_for_where_a_picture_shows_it() -> None:
    misfit = veils.STIFF_MISFIT + 0.01
    seen = sighting(maps_of(SQUARE), maps_of(LEFT_HALF), misfit=misfit, has_look=True)
    assert veils_of(seen, certain).any()


def test_only_objects_in_doubt_are_asked_for() -> None:
    whole, half = (sighting(maps_of(SQUARE), maps_of(part)) for part in (SQUARE, LEFT_HALF))
    both = Sighting(*(np.concatenate(pair) for pair in zip(whole, half, strict=True)))
    both = both._replace(rows=np.array([4, 7]))
    asked: list[int] = []

    def judge(doubtful: Sighting) -> np.ndarray:
        asked.extend(doubtful.rows.tolist())
        return certain(doubtful)

    veiled = veils_of(both, judge)
    assert asked == [7]
    assert veiled.any((1, 2)).tolist() == [False, True]


def test_what_is_usually_seen_is_about_how_often_it_was() -> None:
    usual = renewed(maps_of(), maps_of(LEFT_HALF))
    assert (usual == veils.FIRST * maps_of(LEFT_HALF)).all()
    for t in range(200):
        usual = renewed(usual, maps_of(SQUARE if t % 2 else LEFT_HALF))
    assert usual[0][LEFT_HALF].min() > 0.99
    swings = usual[0, 20, 30]
    rise, fall = veils.RISE, veils.FALL
    assert swings == pytest.approx(rise / (rise + fall), abs=0.05)
    for _ in range(40):
        usual = renewed(usual, maps_of(LEFT_HALF))
    assert usual[0, 20, 30] < veils.SHOULD_SHOW


def test_behind_a_veil_it_goes_more_slowly_and_behind_a_mask_not_at_all() -> None:
    own, usual, rest = maps_of(LEFT_HALF), maps_of(SQUARE), maps_of(np.s_[:, 24:])
    veiled = renewed(usual, own, rest > 0)
    opened = renewed(usual, own)
    covered = renewed(usual, own, others=rest)
    assert 1 == covered[0, 20, 30] > veiled[0, 20, 30] > opened[0, 20, 30]
    assert (renewed(usual, maps_of()) == usual).all()


def test_two_frames_at_once_are_as_two_frames() -> None:
    own = maps_of(LEFT_HALF)
    once = renewed(maps_of(SQUARE), own)
    together = renewed(maps_of(SQUARE), own, gap=2)
    np.testing.assert_allclose(together, renewed(once, own), atol=1e-6)


def test_each_pixel_of_a_template_is_the_mean_of_four() -> None:
    crop = np.random.default_rng(0).random((3, 2, CROP_SIDE, CROP_SIDE), np.float32)
    means = crop.reshape(3, 2, TEMPLATE_SIDE, 2, TEMPLATE_SIDE, 2).mean((3, 5))
    np.testing.assert_allclose(halved(crop), means, atol=1e-6)


def test_maps_move_with_windows_and_back() -> None:
    old, new = Window(60, 50, 48), Window(66, 47, 60)
    theta = old_from_new(old, new)[None]
    shape = maps_of(SQUARE)
    there = veils.moved(shape, theta)
    # the square's left edge lies 12 pixels from the centre of the old window
    assert there[0, 24].argmax() == pytest.approx(24 + (60 - 12 - 66) / 60 * 48, abs=1)
    back = veils.moved(there, old_from_new(new, old)[None])
    assert np.abs(back - shape).mean() < 0.02
    (silhouette,) = veils.recalled(there > 0.5, theta).values()
    assert np.abs(silhouette[::2, ::2] - shape[0]).mean() < 0.03
    assert veils.moved(shape, np.eye(2, 3, dtype=np.float32)[None]) is shape


def test_memory_is_raised_where_it_is_recalled_and_nowhere_else() -> None:
    maps = np.full((2, len(MAP_NAMES), CROP_SIDE, CROP_SIDE), 0.25, np.float32)
    part = np.zeros((CROP_SIDE, CROP_SIDE), np.float32)
    part[10:20, 10:20] = 1
    veils.recall(maps, {1: part})
    known = MAP_NAMES.index("known")
    assert (maps[0] == 0.25).all()
    assert (maps[1, known] == 0.25).all()
    for channel in set(range(len(MAP_NAMES))) - {known}:
        assert (maps[1, channel] == np.where(part > 0, 1, 0.25)).all()


def test_a_veil_covers_all_but_what_shows() -> None:
    crop = np.zeros((1, 3, CROP_SIDE, CROP_SIDE), np.float32)
    crop[0, 0, :, :40] = 1
    crop[0, 2, :4] = 1
    crop[0, 0, :4] = 0
    veils.cover_veiled(crop, maps_of(np.s_[:, 18:30]) > 0)
    assert crop.sum(1).max() == 1
    assert (crop[0, 1, 4:, 40:60] == 1).all()
    assert not crop[0, 1, :, 62:].any()


def test_the_judge_sees_every_map_and_scalar() -> None:
    seen = sighting(maps_of(SQUARE, 0.7), maps_of(LEFT_HALF), maps_of(np.s_[:, 40:]))
    context = np.array([[0.05, 1, 0.02, -0.03, 0, 9.0]], np.float32)
    inputs = inputs_of(seen._replace(context=context))
    assert inputs.shape == (1, len(MAPS) + len(SCALARS), TEMPLATE_SIDE, TEMPLATE_SIDE)
    by_name = dict(zip((*MAPS, *SCALARS), inputs[0, :, 20, 20], strict=True))
    assert by_name == pytest.approx(
        {
            "usual": 0.7,
            "own": 1,
            "covered": 0,
            "latest": 1,
            "veil": 0,
            "velocity_x": 0.4,
            "velocity_y": -0.6,
            "misfit": 3,
            "place_std": 0.5,
            "usual_misfit": 0.2,
        }
    )
