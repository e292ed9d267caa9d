"""Objects followed alone: nothing else has a mask, and what is measured stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from amodal_model.errors import InputError
from amodal_model.masks import Box, BoxedMask
from amodal_training.evaluate_command import evaluate
from amodal_training.evaluation_alone import AloneSet
from amodal_training.evaluation_clip import open_evaluation_set


def test_each_object_is_a_clip_of_its_own(passing_dataset: Path) -> None:
    together = open_evaluation_set(passing_dataset)
    alone = iter(AloneSet(together).clips())
    for clip in together.clips():
        for key, amodal in clip.amodal.items():
            each = next(alone)
            assert list(each.amodal) == [key]
            assert _boxes(each.amodal[key]) == _boxes(amodal)
            assert _boxes(each.visible(key)) == _boxes(clip.visible(key))
            assert all(set(masks) <= {key} for masks in each.visible_frames)
            assert each.source == clip.source
            assert each.is_looked_at > clip.is_looked_at
    assert next(alone, None) is None
    assert AloneSet(together).name == f"{together.name}, each object alone"


def _boxes(masks: Sequence[BoxedMask | None]) -> list[Box | None]:
    return [None if mask is None else mask.bbox_xyxy for mask in masks]


def test_it_goes_with_given_masks_only(passing_dataset: Path) -> None:
    with pytest.raises(InputError, match="--masks alone goes with neither --prompted nor"):
        evaluate(passing_dataset, masks="alone", identity=True)
