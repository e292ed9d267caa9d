import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from amodal_training.baselines import BASELINES
from amodal_training.evaluation import Evaluation, EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.evaluation_report import (
    best_heuristic,
    calibration_of,
    comparison_lines,
    print_report,
    report_json,
    report_on,
)
from amodal_training.metrics import FIGURES, example_pairs


def truth(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    sure = [1.0] * clip.video.length
    return {track_id: TrackPrediction(masks, sure) for track_id, masks in clip.amodal.items()}


def evaluation_of(folder: Path, sees_future: bool = False) -> Evaluation:
    return evaluate_dataset(folder, [Method("truth", truth, sees_future)])


def test_json_holds_every_figure_of_every_method_and_no_nan(passing_dataset: Path) -> None:
    evaluation = evaluation_of(passing_dataset)
    content = report_json(evaluation, report_on(evaluation))
    written = json.loads(json.dumps(content, allow_nan=False))
    assert set(written["methods"]) == {"truth", *BASELINES}
    assert (written["clips"], written["tracks"], written["pairs"]) == (2, 2, 32)
    for method in written["methods"].values():
        assert set(method["figures"]) == set(FIGURES)
    ours = written["methods"]["truth"]
    assert ours["figures"]["miou_occ"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "tracks": 2}
    assert ours["calibration"] == {"error": 0.0, "rank_correlation": None}
    assert ours["miou_occ_differences"]["visible_mask"]["mean"] == 1.0
    assert written["methods"]["union_truly_placed"]["reads_truth"] is True


def test_best_heuristic_reads_no_truth_and_sees_no_more_than_asked(passing_dataset: Path) -> None:
    reports = report_on(evaluation_of(passing_dataset))
    figures = {
        report.name: report.figures["miou_occ"].mean
        for report in reports
        if report.is_baseline and not report.traits.reads_truth
    }
    causal = {name: mean for name, mean in figures.items() if not BASELINES[name].sees_future}
    best, best_of_all = (best_heuristic(reports, sees_future) for sees_future in (False, True))
    assert best is not None
    assert best_of_all is not None
    assert best.figures["miou_occ"].mean == max(causal.values())
    assert best_of_all.figures["miou_occ"].mean == max(figures.values())


def test_offline_methods_are_held_against_offline_heuristics_alone(passing_dataset: Path) -> None:
    lines = comparison_lines(report_on(evaluation_of(passing_dataset, sees_future=True)))
    assert len(lines) == 1
    assert lines[0].startswith("truth - ")
    assert lines[0].endswith("over 2 tracks")


def test_without_baselines_nothing_is_compared(passing_dataset: Path) -> None:
    options = EvaluationOptions(baselines=False)
    evaluation = evaluate_dataset(passing_dataset, [Method("truth", truth)], options)
    assert comparison_lines(report_on(evaluation)) == []


def test_tables_name_every_method_and_the_lead(passing_dataset: Path) -> None:
    evaluation = evaluation_of(passing_dataset)
    text = io.StringIO()
    print_report(Console(file=text, width=150), evaluation, report_on(evaluation))
    printed = text.getvalue()
    assert "passing: 2 clips of 2 sources, 2 tracks, 32 pairs" in printed
    for name in BASELINES:
        assert printed.count(f" {name}") >= 2, name
    assert "union_by_masks_both*" in printed
    assert "[1.000, 1.000]" in printed
    assert "truth - " in printed


def test_calibration_reads_occluded_pairs_with_a_confidence() -> None:
    """Confidence .6 and .1 against IoU .5 and .2: both are .1 off, in the right order."""
    error, rank = calibration_of(example_pairs())
    assert error == pytest.approx(0.1)
    assert rank == 1.0
    silent = example_pairs()
    silent.confidence_occluded[:] = np.nan
    assert np.isnan(calibration_of(silent)).all()
