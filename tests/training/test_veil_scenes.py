"""Scenes that veils are learned from: what is hidden in them is known, mask or no mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_scenes import small_parts

from amodal_model.errors import DatasetError
from amodal_training.follow_scenes import scene_files
from amodal_training.veil_scenes import (
    OTHERS,
    VeilScene,
    VeilShares,
    pasted_of,
    read_veil_scene,
    write_crossed_veils,
    write_drawn_veils,
)

SIZE = (40, 60)
LENGTH = 6
NONE = VeilShares(0, 0, 0, 0)


def crossed(*, are_drawn: bool) -> VeilScene:
    """A square, thing 1, that thing 2 stands before from frame 3 on; thing 3 stands aside."""
    square, before, aside = np.zeros((3, *SIZE), bool)
    square[10:30, 10:30], before[10:30, 20:40], aside[5:35, 45:55] = True, True, True
    labels, wholes = np.zeros((2, LENGTH, *SIZE), np.uint8)
    for index in range(LENGTH):
        for number, thing in ((1, square), (2, before), (3, aside)):
            if number != 2 or index >= 3:
                labels[index][thing] = number
                # of what was not drawn only what shows is known
                shown = thing if are_drawn or number != 1 or index < 3 else square & ~before
                wholes[index][shown] |= 1 << (number - 1)
    images = np.arange(LENGTH, dtype=np.uint8)[:, None, None, None] * np.ones((*SIZE, 3), np.uint8)
    return VeilScene(images, labels, wholes, np.full(OTHERS, are_drawn))


def first_with_target_1(scene: VeilScene, shares: VeilShares) -> tuple[int, ...]:
    """Return of the last frame: pixels that show, are covered, are asked for, and are unknown."""
    for seed in range(100):
        pasted = pasted_of(scene, np.random.default_rng(seed), shares)
        assert pasted is not None
        if pasted.answer[0].bbox_xyxy == (10, 10, 30, 30):
            covered = int((pasted.coverage[-1] > 0).sum()) - pasted.own[-1].area
            unknown = int(pasted.unknown[-1].sum())
            return pasted.own[-1].area, covered, pasted.answer[-1].area, unknown
    raise AssertionError("thing 1 is never the target")


def test_what_was_drawn_is_known_behind_others_with_and_without_masks() -> None:
    scene = crossed(are_drawn=True)
    assert first_with_target_1(scene, NONE) == (200, 400 + 300, 400, 0)
    assert first_with_target_1(scene, NONE._replace(unseen_drawn=1)) == (200, 0, 400, 0)


def test_of_what_was_not_drawn_nothing_is_known_where_others_show() -> None:
    scene = crossed(are_drawn=False)
    assert first_with_target_1(scene, NONE) == (200, 400 + 300, 200, 400 + 300)
    assert first_with_target_1(scene, NONE._replace(unseen_real=1)) == (200, 0, 200, 400 + 300)


def test_scenes_are_played_backwards_with_their_pictures() -> None:
    scene = crossed(are_drawn=True)
    pasted = pasted_of(scene, np.random.default_rng(0), NONE._replace(reversed=1))
    assert pasted is not None
    assert [int(image.max()) for image in pasted.images] == [5, 4, 3, 2, 1, 0]


def test_where_hardly_anything_shows_there_is_no_target() -> None:
    scene = crossed(are_drawn=True)
    few = np.where(np.arange(SIZE[1]) % 20 < 19, 0, scene.labels)
    assert pasted_of(scene._replace(labels=few), np.random.default_rng(0)) is None


def test_drawn_scenes_know_what_is_behind(tmp_path: Path) -> None:
    write_drawn_veils(tmp_path, small_parts(), range(2))
    hidden = 0
    for path in scene_files(tmp_path):
        scene = read_veil_scene(path)
        for number in range(1, OTHERS):
            whole = (scene.wholes & (1 << (number - 1))) > 0
            assert whole[scene.labels == number].all()
            hidden += int((whole & (scene.labels != number)).sum())
        assert scene.drawn.all()
    assert hidden > 0
    before = {path: path.stat().st_mtime_ns for path in scene_files(tmp_path)}
    write_drawn_veils(tmp_path, small_parts(), range(2))
    assert before == {path: path.stat().st_mtime_ns for path in scene_files(tmp_path)}


def test_drawn_things_cross_real_clips(passing_dataset: Path, tmp_path: Path) -> None:
    write_crossed_veils(tmp_path, small_parts(), passing_dataset, range(4))
    scenes = [read_veil_scene(path) for path in scene_files(tmp_path)]
    hidden = 0
    for scene in scenes:
        assert not scene.drawn[0]
        assert scene.drawn.any()
        of_first = (scene.wholes & 1) > 0
        hidden += int((of_first & np.isin(scene.labels, 1 + np.flatnonzero(scene.drawn))).sum())
    assert hidden > 0


def test_a_file_that_is_no_scene_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(DatasetError, match="not a scene of veils"):
        read_veil_scene(tmp_path / "other.npz")
