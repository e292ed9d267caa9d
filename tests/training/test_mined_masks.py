"""Training on raw video: masks are mined once, kept in the run, and time is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from moving_scene import write_clip

from amodal_model.errors import InputError
from amodal_model.model_files import find_model
from amodal_training.mined_masks import given_masks, has_masks, mined_masks
from amodal_training.train_command import train


def test_masks_are_mined_once_and_found_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "blocks", frames=30)
    said: list[str] = []
    path = mined_masks(clip, tmp_path / "run", said.append)
    written = path.stat().st_mtime_ns
    assert mined_masks(clip, tmp_path / "run", said.append) == path
    assert path.stat().st_mtime_ns == written
    assert "tracklets mined in 30 frames of 1 videos" in said[0]
    assert "tracklets found again in 30 frames of 1 videos" in said[1]


def test_a_data_set_without_masks_is_named_where_masks_must_be_given(tmp_path: Path) -> None:
    assert not has_masks(tmp_path)
    with pytest.raises(InputError, match=r"no visible\.json; 'amodal mine' makes one"):
        given_masks(tmp_path)


@pytest.mark.usefixtures("quick_selection")
def test_training_runs_from_a_folder_of_raw_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "raw" / "blocks", frames=40)
    run = tmp_path / "run"
    train([tmp_path / "raw"], run, steps=1, size="small", workers=0)
    assert "tracklets mined in 40 frames" in capsys.readouterr().out
    assert find_model(run).description["training"]["mined"] == ["raw"]


def test_a_folder_without_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video that can be read"):
        train([tmp_path / "empty"], tmp_path / "run", steps=1)
    assert not (tmp_path / "run").exists()
