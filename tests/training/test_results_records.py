"""Records: what is written is read again; what does not fit is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.metrics import miou_occ
from amodal_training.results_records import (
    RECORDED,
    Record,
    dataset_record,
    read_record,
    read_records,
    write_record,
)


def halves(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    """The truth in every second frame, with half a confidence."""
    found = {}
    for track_id, masks in clip.amodal.items():
        given = [mask if index % 2 else None for index, mask in enumerate(masks)]
        found[track_id] = TrackPrediction(given, [0.5] * len(given))
    return found


def test_a_record_is_read_as_it_was_written(passing_dataset: Path, tmp_path: Path) -> None:
    options = EvaluationOptions(flow=False)
    evaluation = evaluate_dataset(passing_dataset, [Method("halves", halves)], options)
    one = dataset_record(evaluation, "halves")
    path = write_record(tmp_path / "new", Record("run", "3", {"steps": 5}, {"passing": one}))
    assert [entry.name for entry in path.parent.iterdir()] == ["run-3.json"]
    again = read_records(path.parent)["run", "3"]
    assert again.settings == {"steps": 5}
    read = again.datasets["passing"]
    assert read.sources == ("source0", "source1")
    assert read.clips == 2
    assert tuple(read.figures) == RECORDED
    expected = miou_occ(evaluation.rows[0].pairs)
    assert 0 < expected[0] < 1
    np.testing.assert_allclose(read.figures["miou_occ"], expected, atol=5e-5)
    assert read.calibration.error == pytest.approx(one.calibration.error, abs=5e-5)
    assert np.nanmean(read.baselines["coasting"]["permanence"]) == pytest.approx(1.0)
    assert "union_by_flow" not in read.baselines


def test_figures_that_a_track_lacks_stay_missing(passing_dataset: Path, tmp_path: Path) -> None:
    evaluation = evaluate_dataset(
        passing_dataset, [Method("halves", halves)], EvaluationOptions(baselines=False)
    )
    one = dataset_record(evaluation, "halves")
    one.figures["permanence"][1] = np.nan
    path = write_record(tmp_path, Record("run", "0", {}, {"passing": one}))
    assert json.loads(path.read_text())["datasets"]["passing"]["figures"]["permanence"][1] is None
    read = read_record(path).datasets["passing"].figures["permanence"]
    assert np.isnan(read).tolist() == [False, True]
    assert max(map(len, path.read_text().splitlines())) < 200, "a list of numbers is one line"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"format": 9}',
        '{"format": 1, "name": "a", "variant": "0", "settings": {},'
        ' "datasets": {"d": {"clips": 1}}}',
        '{"format": 1, "name": "a", "variant": "0", "settings": {}, "datasets": {"d": {"clips": 1,'
        ' "sources": ["x"], "figures": {"miou_occ": [0.5, 0.5]}, "calibration": {}, '
        '"baselines": {}}}}',
    ],
)
def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd-0.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"odd-0\.json") as error:
        read_records(tmp_path)
    assert "\n" not in str(error.value)
