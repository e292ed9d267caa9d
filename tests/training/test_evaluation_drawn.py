"""Occlusions drawn over visible masks: their truth is known, and nothing else is read."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import BoxedMask, subtract, union
from amodal_training.evaluate_drawn_command import evaluate_drawn
from amodal_training.evaluation import EvaluationOptions, Row, evaluate_clips
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_drawn import OTHERS, TARGET, DrawnConfig, DrawnSet, open_drawn_set
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.metrics import false_growth, miou_full, miou_occ, permanence

FEW = DrawnConfig(sequences=6, frames=12, full_share=0.8)


@pytest.fixture
def drawn(passing_dataset: Path) -> DrawnSet:
    (passing_dataset / "amodal.json").unlink()
    return open_drawn_set(passing_dataset, FEW)


def row_of(drawn: DrawnSet, method: Method) -> Row:
    return evaluate_clips(drawn, [method], EvaluationOptions(baselines=False)).rows[0]


def truth(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    return {track_id: TrackPrediction(masks) for track_id, masks in clip.amodal.items()}


def truth_and_what_is_unknown(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    assert clip.unknown is not None
    whole: list[BoxedMask | None] = [
        hole if mask is None else union(mask, hole)
        for mask, hole in zip(clip.amodal[TARGET], clip.unknown, strict=True)
    ]
    return {TARGET: TrackPrediction(whole)}


def nothing(clip: EvaluationClip) -> dict[int, TrackPrediction]:
    return {}


def shares(values: np.ndarray) -> list[float]:
    found = values[~np.isnan(values)]
    assert found.size
    return sorted(set(found.tolist()))


def test_what_was_drawn_over_is_the_truth(drawn: DrawnSet) -> None:
    pairs = row_of(drawn, Method("truth", truth)).pairs
    assert shares(miou_occ(pairs)) == shares(permanence(pairs)) == shares(miou_full(pairs)) == [1]
    missed = row_of(drawn, Method("nothing", nothing)).pairs
    assert shares(miou_occ(missed)) == shares(permanence(missed)) == [0]
    assert (missed.hidden == pairs.hidden).all()


def test_what_is_not_known_is_not_measured(drawn: DrawnSet) -> None:
    pairs = row_of(drawn, Method("more", truth_and_what_is_unknown)).pairs
    assert shares(miou_full(pairs)) == [1]
    assert shares(false_growth(pairs)) == [0]
    assert any(hole.area for clip in drawn.clips() for hole in clip.unknown or ())


def test_a_seed_gives_its_masks_again_and_another_one_others(drawn: DrawnSet) -> None:
    def masks(seed: int) -> list[int]:
        config = FEW._replace(seed=seed)
        return [
            mask.area
            for clip in open_drawn_set(drawn.folder, config).clips()
            for frame in clip.visible_frames
            for mask in frame.values()
        ]

    assert masks(3) == masks(3) != masks(4)


def test_target_and_what_covers_it_share_no_pixel(drawn: DrawnSet) -> None:
    met = 0
    for clip in drawn.clips():
        for frame in clip.visible_frames:
            if len(frame) == 2:
                met += 1
                both = frame[TARGET].full() & frame[OTHERS].full()
                assert not both.any()
    assert met


def test_occluders_without_a_mask_hide_as_much(passing_dataset: Path) -> None:
    config = FEW._replace(full_share=1.0, sequences=12)
    known, unseen = (
        [
            frame
            for clip in open_drawn_set(passing_dataset, one).clips()
            for frame in clip.visible_frames
        ]
        for one in (config, config._replace(unseen_share=1.0))
    )

    def areas(frames: list[Mapping[int, BoxedMask]], track_id: int) -> list[int]:
        return [frame[track_id].area if track_id in frame else 0 for frame in frames]

    assert areas(known, TARGET) == areas(unseen, TARGET)
    assert sum(areas(unseen, OTHERS)) < 0.7 * sum(areas(known, OTHERS))


def test_what_is_carried_away_is_asked_for_once_it_shows_again(passing_dataset: Path) -> None:
    config = FEW._replace(full_share=1.0, carried_share=1.0, sequences=12)
    still = config._replace(carried_share=0.0)
    asked = [
        [mask is not None for clip in clips.clips() for mask in clip.amodal[TARGET]]
        for clips in (open_drawn_set(passing_dataset, one) for one in (config, still))
    ]
    assert sum(asked[0]) < sum(asked[1])
    for clip in open_drawn_set(passing_dataset, config).clips():
        assert clip.unknown is not None
        for frame, mask, hole in zip(
            clip.visible_frames, clip.amodal[TARGET], clip.unknown, strict=True
        ):
            if TARGET in frame and subtract(frame[TARGET], hole).area:
                assert mask is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sequences": 0}, "0 sequences, limit 1 to 10000"),
        ({"sequences": 10_001}, "10001 sequences"),
        ({"frames": 1}, "1 frames, limit 2 to 1000"),
        ({"frames": 1001}, "1001 frames"),
        ({"seed": -1}, "seed -1, limit 0 or more"),
        (
            {"full_share": 1.1},
            r"full share 1.1, carried share 0.15, unseen share 0.0, limit 0 to 1",
        ),
        ({"carried_share": -0.1}, "carried share -0.1, unseen share 0.0, limit 0 to 1"),
        ({"unseen_share": 2.0}, "unseen share 2.0, limit 0 to 1"),
    ],
)
def test_numbers_are_bounded(passing_dataset: Path, change: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_drawn_set(passing_dataset, FEW._replace(**change))  # type: ignore[arg-type]


def test_a_folder_without_masks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no visible\.json"):
        open_drawn_set(tmp_path, FEW)


def test_the_command_measures_the_shipped_model_beside_baselines(
    drawn: DrawnSet, tmp_path: Path
) -> None:
    app, target = typer.Typer(), tmp_path / "figures.json"
    app.command()(evaluate_drawn)
    options = ["--sequences", "3", "--frames", "12", "--noise", "--json", str(target)]
    result = CliRunner().invoke(app, [str(drawn.folder), *options])
    assert result.exit_code == 0, result.output
    assert "passing, drawn occlusions: 3 clips" in result.stdout
    assert "who is in front" not in result.stdout
    content = json.loads(target.read_text())
    assert content["noise"] is True
    assert {"shipped (causal)", "union_by_masks"} <= content["methods"].keys()
    assert "union_by_flow" not in content["methods"]
