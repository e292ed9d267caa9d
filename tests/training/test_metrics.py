import doctest
from collections.abc import Sequence

import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_training import metrics
from amodal_training.metrics import (
    FIGURES,
    PairMeasures,
    Pairs,
    false_growth,
    hidden_share,
    measure_pair,
    miou_occ,
    pair_jitter,
    permanence,
    savos_full,
    savos_occ,
)


def row(text: str) -> BoxedMask:
    return box_mask(np.array([[letter == "#" for letter in text]]))


def pairs_of(hidden: Sequence[float], value: Sequence[float], track: Sequence[int]) -> Pairs:
    """Pairs whose every measure is ``value``."""
    return Pairs(
        sources=tuple(str(index) for index in range(max(track) + 1)),
        track=np.array(track),
        hidden=np.array(hidden),
        seen_before=np.zeros(len(hidden), bool),
        measures=np.repeat(np.array(value)[:, None], 5, axis=1),
        jitter=np.array(value),
        confidence_occluded=np.full(len(hidden), np.nan),
    )


def test_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted > 10
    assert result.failed == 0


def test_pair_measured_by_hand() -> None:
    """V=2, A=6, P=5 of which 2 in V, 2 right and 1 wrong; O covers one right, one missed pixel."""
    predicted = row("#####...")
    visible = row("##......")
    amodal = row("####.##.")
    others = row("...#.#..")
    measures = measure_pair(predicted, visible, amodal, others)
    assert measures.iou_full == pytest.approx(4 / 7)
    assert measures.iou_occ == pytest.approx(2 / 5)
    # P' = V | (P & O) = pixels 0, 1, 3
    assert measures.savos_occ == pytest.approx(1 / 2)
    assert measures.savos_full == pytest.approx(3 / 6)
    assert measures.growth == pytest.approx(3 / 2)


def test_perfect_prediction_measures_one_and_truth_is_its_own_growth() -> None:
    visible, amodal = row("##...."), row("####..")
    measures = measure_pair(amodal, visible, amodal, row("..####"))
    assert measures == PairMeasures(1.0, 1.0, 1.0, 1.0, 1.0)


def test_empty_prediction_of_a_hidden_object_measures_zero() -> None:
    nothing = empty_mask((1, 6))
    measures = measure_pair(nothing, nothing, row("####.."), row("####.."))
    assert measures[:4] == (0.0, 0.0, 0.0, 0.0)
    assert np.isnan(measures.growth)


def test_occluded_iou_is_one_where_nothing_is_hidden_and_nothing_added() -> None:
    visible = row("####..")
    assert measure_pair(visible, visible, visible, row("....##")).iou_occ == 1.0


def test_others_never_count_where_the_object_itself_is_visible() -> None:
    """O is minus V: an overlapping mask of another object changes nothing."""
    predicted, visible, amodal = row("###..."), row("##...."), row("####..")
    apart = measure_pair(predicted, visible, amodal, row("..##.."))
    assert measure_pair(predicted, visible, amodal, row("####..")) == apart


@pytest.mark.parametrize("hidden_pixels", [5, 20, 40, 60, 80])
def test_hidden_shares_on_bin_edges_are_exact(hidden_pixels: int) -> None:
    whole = np.ones((10, 10), bool)
    seen = whole.copy()
    seen.flat[:hidden_pixels] = False
    assert hidden_share(box_mask(seen), box_mask(whole)) == hidden_pixels / 100


def test_visible_pixels_outside_the_truth_do_not_lower_the_hidden_share() -> None:
    assert hidden_share(row("...###"), row("####..")) == 0.75


def test_bins_are_half_open_and_full_cover_is_in_none_of_them() -> None:
    hidden = [0.049, 0.05, 0.2, 0.4, 0.6, 0.8, 0.999, 1.0]
    pairs = pairs_of(hidden, [1.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.0], [0] * 8)
    bins = ["occ_05_20", "occ_20_40", "occ_40_60", "occ_60_80", "occ_80_100"]
    means = [float(FIGURES[name](pairs)[0]) for name in bins]
    assert means == pytest.approx([0.1, 0.2, 0.4, 0.6, 0.85])
    assert permanence(pairs)[0] == 0.0
    assert miou_occ(pairs)[0] == pytest.approx(3.0 / 7)


def test_savos_pairs_are_strictly_between_ten_and_seventy_percent() -> None:
    pairs = pairs_of([0.1, 0.11, 0.69, 0.7], [0.0, 0.4, 0.6, 0.0], [0] * 4)
    assert savos_occ(pairs)[0] == pytest.approx(0.5)
    assert savos_full(pairs)[0] == pytest.approx(0.5)


def test_false_growth_reads_unoccluded_pairs_only() -> None:
    pairs = pairs_of([0.0, 0.009, 0.01], [0.2, 0.4, 9.0], [0] * 3)
    assert false_growth(pairs)[0] == pytest.approx(0.3)


def test_seen_before_bins_leave_out_what_was_never_seen() -> None:
    pairs = pairs_of([0.3, 0.3, 0.7], [0.1, 0.5, 0.9], [0] * 3)
    pairs.seen_before[1:] = True
    assert FIGURES["seen_05_50"](pairs)[0] == pytest.approx(0.5)
    assert FIGURES["seen_50_100"](pairs)[0] == pytest.approx(0.9)


def test_a_track_without_such_a_pair_has_no_mean() -> None:
    means = miou_occ(pairs_of([0.5, 0.0], [0.3, 1.0], [0, 1]))
    assert means[0] == pytest.approx(0.3)
    assert np.isnan(means[1])


def test_every_figure_is_empty_without_pairs() -> None:
    empty = np.empty(0)
    pairs = Pairs(
        ("a",), np.empty(0, int), empty, np.empty(0, bool), np.empty((0, 5)), empty, empty
    )
    assert all(np.isnan(figure(pairs)).all() for figure in FIGURES.values())


def square(x: int, y: int, side: int) -> BoxedMask:
    frame = np.zeros((60, 60), bool)
    frame[y : y + side, x : x + side] = True
    return box_mask(frame)


def test_jitter_ignores_motion_and_growth_of_the_object() -> None:
    assert pair_jitter(square(5, 5, 10), square(9, 8, 10), square(5, 5, 10), square(9, 8, 10)) == 0
    grown = pair_jitter(square(5, 5, 10), square(5, 5, 20), square(5, 5, 10), square(5, 5, 20))
    assert grown == pytest.approx(0.0, abs=0.01)


def test_jitter_counts_what_the_prediction_moved_beyond_the_object() -> None:
    still = square(10, 10, 10)
    assert pair_jitter(still, square(15, 10, 10), still, still) == pytest.approx(1 - 50 / 150)
