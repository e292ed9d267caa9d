from __future__ import annotations

import numpy as np
import pytest

from amodal_training.tabletop_plan import FAMILIES, plan_tabletop

FRAMES = 24


def test_the_families_take_turns_by_seed() -> None:
    assert [plan_tabletop(seed, FRAMES).family for seed in range(5)] == list(FAMILIES)


def test_a_plan_is_the_same_for_the_same_seed_only() -> None:
    first, again, other = (plan_tabletop(seed, FRAMES) for seed in (11, 11, 16))
    assert first.placements == again.placements
    assert np.array_equal(first.arm_path_rad, again.arm_path_rad)
    assert first.placements != other.placements


@pytest.mark.parametrize("seed", range(15))
def test_every_path_has_one_entry_a_frame(seed: int) -> None:
    plan = plan_tabletop(seed, FRAMES)
    assert plan.arm_path_rad.shape == (FRAMES, 7)
    assert plan.camera.lookat_m.shape == (FRAMES, 3)
    for screen in plan.screens:
        assert screen.path_m.shape == (FRAMES, 2)
    for slide in plan.slides:
        assert slide.path_m.shape == (FRAMES, 2)
    assert all(0 <= shove.object_index < len(plan.placements) for shove in plan.shoves)


def test_a_moving_screen_stays_between_camera_and_object_for_a_while() -> None:
    plan = plan_tabletop(1, 72)
    screen = plan.screens[0]
    steps = np.linalg.norm(np.diff(screen.path_m, axis=0), axis=1)
    still = np.flatnonzero(steps < 1e-9)
    assert len(still) >= 12
    spot = screen.path_m[still[0]]
    sight = plan.camera.ground_position(int(still[len(still) // 4])) - spot
    sight = sight / np.linalg.norm(sight)
    offsets = np.array([[p.x_m, p.y_m] for p in plan.placements]) - spot
    behind = -(offsets @ sight)
    aside = np.abs(offsets @ np.array([-sight[1], sight[0]]))
    assert ((behind > 0.05) & (behind < 0.3) & (aside < screen.half_size_m[0])).any()


def test_an_orbit_turns_the_camera_by_seventy_degrees_or_more() -> None:
    azimuth = plan_tabletop(2, FRAMES).camera.azimuth_deg
    assert abs(azimuth[-1] - azimuth[0]) >= 70
