"""Paired differences over seeds, ratios, and the verdicts of the reach table."""

from pathlib import Path

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_training.evaluation_report import Calibration
from amodal_training.intervals import Interval
from amodal_training.results_figures import (
    best_baseline,
    lead_over_baseline,
    level,
    run_difference,
    run_ratio,
    variant_difference,
)
from amodal_training.results_reach import GOALS, Reached, reached_goals, read_elsewhere
from amodal_training.results_records import DatasetRecord, Record

SOURCES = ("a", "a", "b")


def record(
    name: str, variant: str, values: list[float], sources: tuple[str, ...] = SOURCES
) -> tuple[tuple[str, str], Record]:
    baselines = {
        "visible_mask": {"miou_occ": np.zeros(3), "permanence": np.zeros(3)},
        "coasting": {"miou_occ": np.full(3, 0.2), "permanence": np.full(3, 0.25)},
        "union_or_hull_both": {"miou_occ": np.full(3, 0.3), "permanence": np.full(3, 0.3)},
        "union_truly_placed": {"miou_occ": np.full(3, 0.9), "permanence": np.full(3, 0.9)},
    }
    figures = {
        figure: np.array(values)
        for figure in (
            *("miou_occ", "miou_full", "seen_05_50", "seen_50_100"),
            *("permanence", "false_growth", "jitter"),
        )
    }
    one = DatasetRecord(3, sources, figures, Calibration(0.1, 0.5), baselines)
    return (name, variant), Record(name, variant, {}, {"bench": one})


RECORDS = dict(
    [
        record("memory", "0", [0.6, 0.6, np.nan]),
        record("memory", "1", [0.8, 0.6, np.nan]),
        record("no_memory", "0", [0.4, 0.5, np.nan]),
        record("no_memory", "1", [0.4, 0.3, np.nan]),
        record("no_memory", "7", [0.0, 0.0, np.nan]),
        record("shipped", "causal", [0.5, 0.5, 0.5]),
        record("shipped", "offline", [0.6, 0.6, 0.5]),
    ]
)


def test_differences_are_paired_by_track_over_the_seeds_that_both_have() -> None:
    difference = run_difference(RECORDS, "memory", "no_memory", "bench", "miou_occ")
    assert difference is not None
    assert difference.mean == pytest.approx((0.3 + 0.2) / 2), "seed 7 has no partner"
    assert difference.tracks == 2
    assert run_difference(RECORDS, "memory", "supervised", "bench", "miou_occ") is None
    assert run_difference(RECORDS, "memory", "no_memory", "elsewhere", "miou_occ") is None


def test_level_is_the_mean_over_seeds() -> None:
    found = level(RECORDS, "memory", "bench", "miou_occ")
    assert found is not None
    assert found.mean == pytest.approx(0.65)
    assert level(RECORDS, "absent", "bench", "miou_occ") is None


def test_ratio_is_that_of_the_means() -> None:
    ratio = run_ratio(RECORDS, "memory", "no_memory", "bench", "miou_occ")
    assert ratio is not None
    assert ratio.mean == pytest.approx(0.65 / 0.4)


def test_interval_resamples_sources() -> None:
    """The gain is on source a alone: without it there is none."""
    difference = variant_difference(RECORDS, "shipped", "offline", "causal", "bench", "miou_occ")
    assert difference is not None
    assert difference.mean == pytest.approx(0.2 / 3)
    assert difference.low == pytest.approx(0.0)
    assert difference.high == pytest.approx(0.1)


def test_records_of_different_tracks_are_not_compared() -> None:
    other = RECORDS | dict([record("no_memory", "0", [0.1, 0.1, 0.1], ("a", "b", "b"))])
    with pytest.raises(DatasetError, match="different tracks of bench"):
        run_difference(other, "memory", "no_memory", "bench", "miou_occ")


def test_best_baseline_neither_reads_the_truth_nor_the_future_unless_allowed() -> None:
    one = RECORDS["shipped", "causal"].datasets["bench"]
    assert best_baseline(one) == "coasting"
    assert best_baseline(one, sees_future=True) == "union_or_hull_both"
    assert lead_over_baseline(one, "coasting", "miou_occ").mean == pytest.approx(0.3)


def goal(key: str, mean: float, low: float) -> str:
    chosen = next(goal for goal in GOALS if goal.key == key)
    return Reached(chosen, "bench", Interval(mean, low, 1.0, 3)).verdict


def test_verdicts() -> None:
    assert goal("lead", 0.09, 0.05) == "no"
    assert goal("lead", 0.10, -0.05) == "yes"
    assert goal("lead", 0.18, 0.1) == "aim"
    assert goal("seen_05_50", 0.2, -0.01) == "no", "the interval must be above 0"
    assert goal("seen_05_50", 0.2, 0.01) == "aim"
    assert goal("growth", 0.021, 0.0) == "no", "a cost must be lower"
    assert goal("growth", 0.02, 0.0) == "yes"
    assert goal("growth", 0.004, 0.0) == "aim"
    assert goal("seen_05_50", float("nan"), float("nan")) == "not recorded"


def test_every_goal_has_a_row_even_without_records() -> None:
    rows = reached_goals(RECORDS, {})
    assert {row.goal.key for row in rows} == {goal.key for goal in GOALS}
    verdicts = {row.goal.key: row.verdict for row in rows}
    assert verdicts["lead"] == "aim"
    assert verdicts["coasting"] == "aim"
    assert verdicts["offline"] == "aim"
    assert verdicts["bound"] == verdicts["noise"] == verdicts["adaptation"] == "not recorded"


def test_goals_of_other_commands_are_read(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    assert read_elsewhere(path) == {}
    path.write_text('[adaptation]\nvalue = 0.05\nlow = 0.01\nhigh = 0.09\nhow = "amodal train"\n')
    (row,) = [r for r in reached_goals({}, read_elsewhere(path)) if r.goal.key == "adaptation"]
    assert row.measured is not None
    assert row.measured[:3] == (0.05, 0.01, 0.09)
    assert row.verdict == "yes"


@pytest.mark.parametrize(
    "text", ["[lead]\nvalue = 1\nhow = 'x'\n", "[adaptation]\nhow = 'x'\n", "adaptation = 3\n", "["]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"elsewhere\.toml: not figures of adaptation"):
        read_elsewhere(path)
