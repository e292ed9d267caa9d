import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from amodal_model.masks import BoxedMask, box_mask
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_clip import EvaluationClip, open_evaluation_set
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.evaluation_order import (
    LOWER_EDGE,
    ORDER_FIGURES,
    count_order,
    order_of_lower_edges,
    true_fronts,
)
from amodal_training.evaluation_report import print_report, report_json, report_on

BALL, BAR = 4, 9
ALONE = EvaluationOptions(baselines=False)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    full = np.zeros((40, 60), bool)
    full[y0:y1, x0:x1] = True
    return box_mask(full)


def always(*pairs: tuple[int, int]) -> Method:
    """Return a method that states the same order in every frame."""

    def predict(clip: EvaluationClip) -> dict[int, TrackPrediction]:
        length = clip.video.length
        return {BALL: TrackPrediction([None] * length, None, [list(pairs)] * length)}

    return Method("always", predict)


def figures_of(dataset: Path, method: Method) -> list[float]:
    counts = evaluate_dataset(dataset, [method], ALONE).orders["always"]
    return [float(figure(counts)[0]) for figure in ORDER_FIGURES.values()]


def test_true_front_covers_twenty_hidden_pixels(passing_dataset: Path) -> None:
    clip = next(open_evaluation_set(passing_dataset).clips())
    ((_, one),) = clip.objects()
    for index, masks in enumerate(clip.visible_frames):
        whole = one.amodal[index]
        assert whole is not None
        bar = masks[BAR].full() if BAR in masks else np.zeros(whole.frame_size, bool)
        expected = {BAR} if (whole.full() & bar).sum() >= 20 else set()
        assert true_fronts(one, BALL, clip.visible_frames, index) == expected
    found = [true_fronts(one, BALL, clip.visible_frames, index) for index in range(16)]
    assert 4 < sum(map(bool, found)) < 16


def test_an_order_is_measured_by_recall_precision_and_direction(passing_dataset: Path) -> None:
    recall, precision, accuracy = figures_of(passing_dataset, always((BAR, BALL)))
    assert (recall, accuracy) == (1.0, 1.0)
    assert 0.3 < precision < 1
    backwards = figures_of(passing_dataset, always((BALL, BAR)))
    assert (backwards[0], backwards[2]) == (0.0, 0.0)
    assert np.isnan(backwards[1])
    assert figures_of(passing_dataset, always((BAR, BALL), (BALL, BAR)))[2] == 0.5
    silent = figures_of(passing_dataset, always())
    assert silent[0] == 0.0
    assert np.isnan(silent[1:]).all()


def test_two_objects_can_be_in_front_of_each_other() -> None:
    fronts = {0: {1: frozenset({2}), 2: frozenset({1})}}
    both = count_order("s", 1, fronts, {0: [(1, 2), (2, 1)]})
    one_way = count_order("s", 1, fronts, {0: [(2, 1)]})
    assert (both.right, one_way.right) == (1.0, 0.5)


def test_what_reaches_lower_is_in_front_where_two_touch() -> None:
    masks = {1: rectangle(5, 5, 20, 25), 2: rectangle(20, 5, 30, 35), 3: rectangle(45, 5, 55, 39)}
    assert order_of_lower_edges(masks, 1) == [(2, 1)]
    assert order_of_lower_edges(masks, 2) == [(2, 1)]
    assert order_of_lower_edges(masks, 3) == []
    assert order_of_lower_edges(masks, 9) == []
    level = {1: rectangle(5, 5, 20, 25), 2: rectangle(20, 5, 30, 25)}
    assert order_of_lower_edges(level, 2) == [(1, 2)]


def test_order_stands_beside_its_heuristic_in_table_and_json(passing_dataset: Path) -> None:
    evaluation = evaluate_dataset(passing_dataset, [always((BAR, BALL))], ALONE)
    reports, text = report_on(evaluation), io.StringIO()
    content = report_json(evaluation, reports)["order"]
    assert list(content) == ["always", LOWER_EDGE]
    assert content["always"]["order_recall"] == pytest.approx(
        {"mean": 1.0, "low": 1.0, "high": 1.0, "tracks": 2}
    )
    assert set(content[LOWER_EDGE]) == set(ORDER_FIGURES)
    print_report(Console(file=text, width=150), evaluation, reports)
    assert "order_accuracy" in text.getvalue()
    assert LOWER_EDGE in text.getvalue()
