"""A region whose contour is an edge of the background only is a ghost."""

from __future__ import annotations

import numpy as np

from amodal_model.motion_ghosts import find_ghosts

SIZE = (40, 60)


def _scenes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return regions, an empty scene, and the scene with a thing in the first region."""
    regions = np.zeros(SIZE, np.int16)
    regions[10:30, 10:25] = 1
    empty = np.full((*SIZE, 3), 100, np.float32)
    thing = empty.copy()
    thing[10:30, 10:25] = 200
    return regions, empty, thing


def test_what_left_is_a_ghost_and_what_came_is_not() -> None:
    regions, empty, thing = _scenes()
    still = np.zeros(SIZE, np.float32)
    assert find_ghosts(regions, 1, still, empty, thing).tolist() == [True]
    assert find_ghosts(regions, 1, still, thing, empty).tolist() == [False]


def test_what_moves_is_no_ghost() -> None:
    regions, empty, thing = _scenes()
    moves = (regions > 0).astype(np.float32)
    assert find_ghosts(regions, 1, moves, empty, thing).tolist() == [False]


def test_no_region_is_no_ghost() -> None:
    regions, empty, thing = _scenes()
    assert (
        find_ghosts(np.zeros_like(regions), 0, np.zeros(SIZE, np.float32), empty, thing).size == 0
    )
