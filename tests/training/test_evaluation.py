from pathlib import Path

import numpy as np
import pytest

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import box_mask, empty_mask
from amodal_training.baselines import BASELINES, ObjectClip
from amodal_training.evaluation import EvaluationOptions, Row, evaluate_dataset, pair_keys
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.metrics import FIGURES, miou_full, miou_occ, permanence

BALL = 4
ALONE = EvaluationOptions(baselines=False)


def truth(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    return {track_id: TrackPrediction(masks) for track_id, masks in clip.amodal.items()}


def nothing(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    return {}


def visible(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    return {BALL: TrackPrediction(clip.visible(BALL))}


def hidden_part(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    """The truth without its visible part: the paste rule must give that back."""
    (found,) = (one for _, one in clip.objects())
    masks = [
        None if whole is None else box_mask(whole.full() & over.full())
        for whole, over in zip(found.amodal, found.others, strict=True)
    ]
    return {BALL: TrackPrediction(masks, [0.5] * len(masks))}


def row_of(dataset: Path, method: Method) -> Row:
    return evaluate_dataset(dataset, [method], ALONE).rows[0]


def test_truth_as_a_method_is_perfect(passing_dataset: Path) -> None:
    row = row_of(passing_dataset, Method("truth", truth))
    for name in ("miou_full", "miou_occ", "permanence", "savos_occ", "savos_full"):
        assert FIGURES[name](row.pairs).tolist() == [1.0, 1.0], name
    assert FIGURES["false_growth"](row.pairs).tolist() == [0.0, 0.0]
    assert FIGURES["jitter"](row.pairs).tolist() == [0.0, 0.0]


def test_missing_prediction_counts_as_the_visible_mask(passing_dataset: Path) -> None:
    missing, given = (row_of(passing_dataset, Method("m", m)) for m in (nothing, visible))
    assert np.array_equal(missing.pairs.measures, given.pairs.measures, equal_nan=True)
    assert miou_occ(missing.pairs).tolist() == [0.0, 0.0]
    assert permanence(missing.pairs).tolist() == [0.0, 0.0]
    assert 0 < miou_full(missing.pairs)[0] < 1
    assert missing.pairs.hidden.size == 2 * 16  # no pair is dropped for it


def test_every_prediction_gets_the_visible_mask_pasted(passing_dataset: Path) -> None:
    row = row_of(passing_dataset, Method("hidden part", hidden_part))
    assert miou_full(row.pairs).tolist() == [1.0, 1.0]


def test_confidences_stay_with_their_pairs(passing_dataset: Path) -> None:
    assert set(row_of(passing_dataset, Method("m", hidden_part)).pairs.confidence_occluded) == {0.5}
    assert np.isnan(row_of(passing_dataset, Method("m", truth)).pairs.confidence_occluded).all()


def test_baselines_follow_the_methods_on_the_same_pairs(passing_dataset: Path) -> None:
    evaluation = evaluate_dataset(passing_dataset, [Method("truth", truth)])
    assert [row.name for row in evaluation.rows] == ["truth", *BASELINES]
    assert evaluation.dataset == "passing"
    assert evaluation.clips == 2
    for row in evaluation.rows:
        assert np.array_equal(row.pairs.hidden, evaluation.rows[0].pairs.hidden)
        assert row.pairs.sources == ("source0", "source1")
    figures = {row.name: miou_occ(row.pairs)[0] for row in evaluation.rows}
    assert figures["union_by_masks"] > 0.9
    assert figures["visible_mask"] == 0.0
    assert figures["hull_under_occluders"] < figures["union_truly_placed"] == 1.0


def test_without_flow_no_video_is_needed(passing_dataset: Path) -> None:
    (passing_dataset / "videos").rename(passing_dataset / "gone")
    rows = evaluate_dataset(passing_dataset, [], EvaluationOptions(flow=False)).rows
    assert "union_by_flow" not in {row.name for row in rows}
    assert "union_by_masks" in {row.name for row in rows}
    with pytest.raises(DatasetError, match="no such file"):
        evaluate_dataset(passing_dataset, [])


def test_clips_can_be_limited(passing_dataset: Path) -> None:
    evaluation = evaluate_dataset(
        passing_dataset, [Method("m", truth)], EvaluationOptions(False, limit_clips=1)
    )
    assert evaluation.rows[0].pairs.sources == ("source0",)


@pytest.mark.parametrize("names", [["a", "a"], ["convex_hull"]])
def test_method_names_must_differ(passing_dataset: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match=names[-1]):
        evaluate_dataset(passing_dataset, [Method(name, truth) for name in names])


def test_prediction_of_another_length_is_refused(passing_dataset: Path) -> None:
    short = Method("short", lambda clip: {BALL: TrackPrediction([None] * 3)})
    with pytest.raises(InputError, match="3 frames, the clip 16"):
        evaluate_dataset(passing_dataset, [short], ALONE)


def object_clip(seen: list[int | None], whole: list[int]) -> ObjectClip:
    """Areas in pixels of a frame of 10x20, the visible part being the first pixels."""

    def mask(area: int | None):  # type: ignore[no-untyped-def]
        frame = np.zeros(200, bool)
        frame[:area] = True
        return box_mask(frame.reshape(10, 20)) if area else None

    others = [empty_mask((10, 20))] * len(seen)
    return ObjectClip([mask(area) for area in seen], others, [mask(area) for area in whole])


def test_pairs_begin_with_the_first_sight_and_need_fifty_pixels() -> None:
    keys = pair_keys(object_clip([None, 10, None, 49, 50], [100, 100, 100, 49, 50]))
    assert [key.frame_index for key in keys] == [1, 2, 4]
    assert [key.hidden for key in keys] == [0.9, 1.0, 0.0]
    assert [key.follows for key in keys] == [False, True, False]


def test_seen_before_needs_ninety_percent_in_an_earlier_frame() -> None:
    keys = pair_keys(object_clip([89, 90, 100, None], [100] * 4))
    assert [key.seen_before for key in keys] == [False, False, True, True]


def test_object_that_is_never_seen_has_no_pair() -> None:
    assert pair_keys(object_clip([None, None], [100, 100])) == []
