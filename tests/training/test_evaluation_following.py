"""Masks followed from prompts in place of the given ones."""

from pathlib import Path

import numpy as np
import pytest

import amodal_model
from amodal_model.errors import InputError
from amodal_training.evaluate_command import evaluate
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_clip import EvaluationClip, open_evaluation_set
from amodal_training.evaluation_following import FirstPrompt, first_prompts, following
from amodal_training.evaluation_method import Method, TrackPrediction


def clip_of(dataset: Path) -> EvaluationClip:
    return next(open_evaluation_set(dataset).clips())


def test_each_object_is_prompted_once_in_the_first_frame_that_shows_it(
    passing_dataset: Path,
) -> None:
    clip = clip_of(passing_dataset)
    for first in ("first_mask", "first_box"):
        prompts = first_prompts(clip, first)
        said = {prompt.track_id: index for index, many in prompts.items() for prompt in many}
        assert sum(len(many) for many in prompts.values()) == len(said)
        for track_id, index in said.items():
            seen = [mask is not None for mask in clip.visible(track_id or 0)]
            assert seen.index(True) == index
    (mask, *_), (box, *_) = (
        first_prompts(clip, "first_mask")[0],
        first_prompts(clip, "first_box")[0],
    )
    assert mask.mask is clip.visible_frames[0][mask.track_id or 0]
    assert box.mask is None
    assert box.bbox_xyxy == mask.mask.bbox_xyxy


@pytest.mark.parametrize("first", ["first_mask", "first_box"])
def test_methods_get_what_was_found_and_are_measured_on_the_same_pairs(
    passing_dataset: Path, first: FirstPrompt
) -> None:
    def nothing(clip: EvaluationClip) -> dict[int, TrackPrediction]:
        shown.append(clip)
        return {}

    shown: list[EvaluationClip] = []
    follow = following(amodal_model.load(), first)
    found = [
        evaluate_dataset(passing_dataset, [Method("m", nothing)], options)
        for options in (
            EvaluationOptions(baselines=False),
            EvaluationOptions(baselines=False, follow=follow),
        )
    ]
    assert [each.is_followed for each in found] == [False, True]
    given, followed = (each.rows[0].pairs for each in found)
    assert np.array_equal(given.hidden, followed.hidden)
    assert not np.array_equal(given.measures, followed.measures)
    given_areas, followed_areas = (
        [{key: mask.area for key, mask in masks.items()} for masks in clip.visible_frames]
        for clip in (shown[0], shown[len(shown) // 2])
    )
    assert len(followed_areas) == len(given_areas)
    assert followed_areas != given_areas


def test_the_first_true_mask_is_kept(passing_dataset: Path) -> None:
    clip = clip_of(passing_dataset)
    shown = following(amodal_model.load(), "first_mask")(clip)
    for track_id, mask in clip.visible_frames[0].items():
        assert np.array_equal(shown.visible_frames[0][track_id].full(), mask.full())


def test_choices_that_cannot_be_followed_are_refused(passing_dataset: Path) -> None:
    with pytest.raises(
        InputError, match="'guessed' is not one of given, alone, first_mask, first_box"
    ):
        evaluate(passing_dataset, masks="guessed")
    for how in ({"model": "none"}, {"identity": True}, {"prompted": True}):
        with pytest.raises(InputError, match="--masks first_box needs a --model"):
            evaluate(passing_dataset, masks="first_box", **how)
