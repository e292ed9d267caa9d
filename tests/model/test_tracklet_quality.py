"""What makes a tracklet good, and where a track is cut."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_model.masks import box_mask
from amodal_model.tracklet_quality import Moment, QualityConfig, cut, judge, touches_edge

CONFIG = QualityConfig()
GOOD = Moment(0, 400.0, 0.0, (0, 0, 20, 20), 0.9, 1.5, 0.5, 0.8, is_merged=False, is_cut_off=False)


def _moments(count: int, area: float = 400.0, first: int = 0) -> list[Moment]:
    return [
        GOOD._replace(
            frame_index=first + i, area=area, travel_px=2.0 * i, box=(2 * i, 0, 2 * i + 20, 20)
        )
        for i in range(count)
    ]


def test_a_long_steady_moving_tracklet_is_perfect() -> None:
    assert judge(_moments(20), CONFIG).score == 1


def test_every_property_counts_by_itself() -> None:
    assert judge(_moments(10), CONFIG).score == pytest.approx(0.5)
    shaky = [m._replace(stability=0.5) for m in _moments(20)]
    assert judge(shaky, CONFIG).score == pytest.approx(0.05 / 0.3)
    faint = [m._replace(contrast=0.2) for m in _moments(20)]
    assert judge(faint, CONFIG).score == pytest.approx(0.2)
    still = [m._replace(travel_px=0.0, moving=0.03) for m in _moments(20)]
    assert judge(still, CONFIG).score == pytest.approx(0.1)
    misjudged = [m._replace(box=(5, 5, 25, 25), moving=0.03) for m in _moments(20)]
    assert judge(misjudged, CONFIG).score == pytest.approx(0.1)
    vague = [m._replace(evenness=0.48) for m in _moments(20)]
    assert judge(vague, CONFIG).score == pytest.approx(0.1)
    pulsing = [m._replace(area=400.0 * (1 + i % 2)) for i, m in enumerate(_moments(20))]
    assert judge(pulsing, CONFIG).score == 0


def test_a_thing_at_rest_that_is_seen_in_parts_has_not_moved() -> None:
    parts = [m._replace(box=(0, 0, 20 + 2 * i, 20), moving=0.0) for i, m in enumerate(_moments(20))]
    assert judge(parts, CONFIG).motion == 0
    back = [m._replace(box=(200 - 2 * i, 0, 220 - 2 * i, 20)) for i, m in enumerate(_moments(20))]
    assert judge(back, CONFIG).motion == 1


def test_the_rest_of_what_leaves_the_image_is_left_out() -> None:
    leaving = [
        m._replace(area=area, is_cut_off=True)
        for m, area in zip(_moments(3, first=10), (300.0, 130.0, 60.0), strict=True)
    ]
    (stretch,) = cut(_moments(10) + leaving, CONFIG)
    assert [m.frame_index for m in stretch] == list(range(12))


def test_no_moment_and_one_are_worth_nothing() -> None:
    assert judge([], CONFIG).score == 0
    assert judge(_moments(1), CONFIG).score == 0


def test_a_track_that_grows_into_something_else_is_cut_there() -> None:
    stretches = cut(_moments(10) + _moments(5, 900.0, first=10), CONFIG)
    assert [len(stretch) for stretch in stretches] == [10, 5]


def test_growth_at_the_edge_of_the_image_is_an_entrance() -> None:
    entering = [m._replace(is_cut_off=True) for m in _moments(10)] + _moments(5, 900.0, first=10)
    assert len(cut(entering, CONFIG)) == 1


def test_growth_after_an_occlusion_is_no_growth() -> None:
    behind = _moments(10) + _moments(5, 100.0, first=10) + _moments(5, 400.0, first=15)
    assert len(cut(behind, CONFIG)) == 1


def test_a_short_merge_keeps_frames_of_the_right_area_and_a_long_one_cuts() -> None:
    def merged(count: int, area: float) -> list[Moment]:
        return [m._replace(is_merged=True) for m in _moments(count, area, first=10)]

    kept = cut(_moments(10) + merged(4, 420.0), CONFIG)
    assert [len(stretch) for stretch in kept] == [14]
    dropped = cut(_moments(10) + merged(4, 800.0), CONFIG)
    assert [len(stretch) for stretch in dropped] == [10]
    long = _moments(10) + merged(20, 420.0) + _moments(6, first=30)
    assert [len(stretch) for stretch in cut(long, CONFIG)] == [25, 6]


def test_a_mask_at_the_edge_is_cut_off() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 5:9] = True
    assert not touches_edge(box_mask(mask))
    mask[5:9, 0:9] = True
    assert touches_edge(box_mask(mask))
