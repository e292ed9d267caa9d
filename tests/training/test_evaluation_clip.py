from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_training.evaluation_clip import open_evaluation_set

Edit = Callable[[Path, Callable[[Any], None]], None]
BALL, BAR = 4, 9


def test_clips_come_with_masks_truth_and_source(passing_dataset: Path) -> None:
    clips = list(open_evaluation_set(passing_dataset).clips())
    assert [clip.source for clip in clips] == ["source0", "source1"]
    assert list(clips[0].amodal) == [BALL]
    assert set(clips[0].visible_frames[8]) <= {BALL, BAR}
    assert len(list(clips[0].frames())) == 16


def test_others_are_the_other_masks_less_the_objects_own(passing_dataset: Path) -> None:
    clip = next(open_evaluation_set(passing_dataset).clips())
    ((track_id, one),) = clip.objects()
    assert track_id == BALL
    for seen, over, masks in zip(one.visible, one.others, clip.visible_frames, strict=True):
        own = np.zeros((48, 64), bool) if seen is None else seen.full()
        bar = masks[BAR].full() if BAR in masks else np.zeros((48, 64), bool)
        assert np.array_equal(over.full(), bar & ~own)
    assert any(seen is None for seen in one.visible)


def test_source_is_the_file_name_where_none_is_said(passing_dataset: Path, edit_json: Edit) -> None:
    edit_json(passing_dataset / "amodal.json", lambda content: content["videos"][0].pop("source"))
    assert next(open_evaluation_set(passing_dataset).clips()).source == "clip0"


def test_only_the_first_clips_are_read_when_asked(passing_dataset: Path) -> None:
    assert len(open_evaluation_set(passing_dataset, limit_clips=1).videos) == 1


@pytest.mark.parametrize("missing", ["visible.json", "amodal.json"])
def test_missing_mask_file_is_named(passing_dataset: Path, missing: str) -> None:
    (passing_dataset / missing).unlink()
    with pytest.raises(DatasetError, match=f"{missing}: no such file"):
        open_evaluation_set(passing_dataset)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such dataset folder"):
        open_evaluation_set(tmp_path / "nowhere")


def test_video_without_visible_masks_is_named(passing_dataset: Path, edit_json: Edit) -> None:
    def rename(content: Any) -> None:
        content["videos"][1]["file_name"] = "elsewhere"

    edit_json(passing_dataset / "visible.json", rename)
    with pytest.raises(DatasetError, match="no video named 'clip1'"):
        open_evaluation_set(passing_dataset)


def test_mask_files_of_different_lengths_are_refused(
    passing_dataset: Path, edit_json: Edit
) -> None:
    def shorten(content: Any) -> None:
        content["videos"][0]["length"] = 15
        for annotation in content["annotations"]:
            if annotation["video_id"] == 0:
                annotation["segmentations"].pop()

    edit_json(passing_dataset / "visible.json", shorten)
    with pytest.raises(DatasetError, match=r"clip0 is \(16, 48, 64\).* and \(15, 48, 64\)"):
        open_evaluation_set(passing_dataset)


def test_dataset_without_truth_is_refused(passing_dataset: Path, edit_json: Edit) -> None:
    edit_json(passing_dataset / "amodal.json", lambda content: content["annotations"].clear())
    with pytest.raises(DatasetError, match="no annotation to evaluate"):
        open_evaluation_set(passing_dataset)


def test_video_of_another_length_than_its_masks_is_refused(passing_dataset: Path) -> None:
    clip = next(open_evaluation_set(passing_dataset).clips())
    (clip.video_path / "00015.png").unlink()
    with pytest.raises(DatasetError, match="15 frames, the mask files say 16"):
        list(clip.frames())
