"""Whose each region is: objects that meet stay two, parts become one, two that part end."""

from __future__ import annotations

import numpy as np

from amodal_model.motion_association import Association, Frame, associate
from amodal_model.motion_division import divide, divide_tracks
from amodal_model.motion_regions import RegionConfig, Views, describe, find_regions
from amodal_model.motion_tracks import FollowConfig, MotionTracks, born

SIZE = (60, 80)
CONFIG = FollowConfig()


def _views() -> Views:
    flat = np.zeros(SIZE, np.float32)
    return Views(flat, flat, np.zeros((*SIZE, 2), np.float32), np.zeros((*SIZE, 3), np.float32))


def _labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros(SIZE, np.int16)
    for label, (x0, y0, x1, y1) in enumerate(boxes, 1):
        labels[y0:y1, x0:x1] = label
    return labels


def _tracks(labels: np.ndarray, seen: list[int]) -> MotionTracks:
    found = describe(labels, len(seen), _views())
    tracks = born(found.center, found.area.astype(float), found.color, 1)
    return tracks._replace(seen=np.array(seen, np.int64))


def _associate(tracks: MotionTracks, regions: np.ndarray, moved: np.ndarray) -> Association:
    found = describe(regions, int(regions.max()), _views())
    return associate(tracks, Frame(regions, found, moved), 50, CONFIG)


def test_a_region_of_two_objects_is_divided_between_them() -> None:
    moved = _labels((10, 10, 30, 40), (30, 10, 50, 40))
    match = _associate(_tracks(moved, [30, 30]), _labels((10, 10, 52, 40)), moved)
    assert match.labels[20, 15] == 1
    assert match.labels[20, 51] == 2
    assert match.tracks.merged.tolist() == [1, 1]


def test_a_young_part_is_absorbed_by_what_it_touches() -> None:
    moved = _labels((10, 10, 40, 40), (40, 20, 48, 30))
    match = _associate(_tracks(moved, [30, 3]), _labels((10, 10, 48, 40)), moved)
    assert match.absorbed == ((1, 0),)
    assert set(np.unique(match.labels)) == {0, 1}


def test_parts_that_stay_apart_end_the_track_and_begin_anew() -> None:
    moved = _labels((10, 10, 60, 30))
    tracks = _tracks(moved, [30])._replace(apart=np.array([CONFIG.split_after - 1]))
    match = _associate(tracks, _labels((5, 10, 22, 30), (45, 10, 65, 30)), moved)
    assert match.split == (0,)
    assert match.tracks.serial.tolist() == [1, 50, 51]
    assert (match.labels[15, 10], match.labels[15, 50]) == (2, 3)


def test_a_far_small_part_is_let_go_at_once() -> None:
    moved = _labels((10, 10, 40, 40))
    moved[50:58, 60:70] = 1
    match = _associate(_tracks(moved, [30]), _labels((10, 10, 40, 40), (60, 50, 70, 58)), moved)
    assert match.split == ()
    assert (match.labels[20, 20], match.labels[54, 65]) == (1, 2)


def test_a_part_that_is_small_beside_the_rest_does_not_end_a_track() -> None:
    moved = _labels((10, 10, 40, 40))
    moved[50:58, 40:70] = 1  # a quarter of the area
    tracks = _tracks(moved, [30])._replace(apart=np.array([CONFIG.split_after - 1]))
    match = _associate(tracks, _labels((10, 10, 40, 40), (50, 50, 78, 59)), moved)
    assert match.split == ()
    assert (match.labels[20, 20], match.labels[54, 65]) == (1, 2)


def test_a_track_out_of_sight_is_found_again_nearby() -> None:
    tracks = _tracks(_labels((10, 10, 30, 30)), [20])._replace(missed=np.array([4]))
    nowhere = np.zeros(SIZE, np.int16)
    near = _associate(tracks, _labels((16, 12, 36, 32)), nowhere)
    assert near.labels[20, 20] == 1
    far = _associate(tracks, _labels((55, 30, 75, 50)), nowhere)
    assert far.labels[40, 60] == 2


def test_two_trunks_side_by_side_are_two_and_a_trunk_with_a_limb_is_one() -> None:
    pair = _labels((10, 10, 24, 40), (30, 10, 44, 40)) > 0
    pair[20:24, 24:30] = True
    parts = divide(pair)
    assert parts.max() == 2
    assert parts[30, 15] != parts[30, 38]
    limb = _labels((10, 10, 30, 40)) > 0
    limb[20:25, 30:50] = True
    assert divide(limb).max() == 1


def test_parts_that_do_not_touch_are_two_although_one_is_thinner() -> None:
    pair = _labels((10, 10, 30, 40), (36, 12, 44, 42)) > 0
    assert divide(pair).max() == 2
    speck = _labels((10, 10, 30, 40), (36, 12, 40, 20)) > 0
    assert divide(speck).max() == 1


def test_a_track_that_keeps_looking_like_two_is_divided() -> None:
    labels = _labels((10, 10, 24, 40))
    labels[10:40, 30:44] = labels[20:24, 24:30] = 1
    tracks = _tracks(labels, [11])._replace(parted=np.array([2]))
    found = describe(labels, 1, _views())
    match = divide_tracks(Association(tracks, labels, (), ()), found, 7, CONFIG)
    assert match.split == (0,)
    assert match.tracks.serial.tolist() == [1, 7, 8]
    assert {match.labels[30, 15], match.labels[30, 38]} == {2, 3}


def test_windows_of_a_region_are_filled_and_specks_are_left_out() -> None:
    odds = np.full(SIZE, -1, np.float32)
    odds[10:40, 10:50] = 2
    odds[20:26, 20:30] = -1
    odds[50:53, 70:73] = 2
    regions, count = find_regions(odds, RegionConfig())
    assert count == 1
    assert regions[23, 25] == 1
    assert regions[51, 71] == 0
