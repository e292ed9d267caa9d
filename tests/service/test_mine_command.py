"""``amodal mine`` and ``--masks motion`` end to end on a rendered clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from moving_scene import write_clip
from typer.testing import CliRunner

from amodal_model.errors import InputError
from amodal_model.model_files import ModelFolder
from amodal_model.youtube_vis import read_mask_file
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.cli import app
from amodal_service.mine_command import mine
from amodal_service.progress import Reporter


def test_a_dataset_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip(tmp_path / "raw" / "blocks", frames=30)
    output = tmp_path / "mined"
    mine([tmp_path / "raw"], output)
    masks = read_mask_file(output / "visible.json")
    assert masks.videos[0].file_name == "blocks"
    assert f"{len(masks.tracklets)} tracklets in 1 videos" in capsys.readouterr().out
    copied = sorted(path.name for path in (output / "videos" / "blocks").iterdir())
    assert copied == sorted(path.name for path in clip.iterdir())
    assert "mined from the videos" in (output / "LICENSE.md").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_is_found_by_its_entry_point() -> None:
    shown = CliRunner().invoke(app, ["mine", "--help"])
    assert "raw video" in shown.output


def test_an_output_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "mined"
    output.mkdir()
    (output / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not empty"):
        mine([tmp_path], output)
    assert (output / "mine.txt").read_text() == "kept"


def test_nothing_is_written_where_nothing_moves(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "still", frames=1)
    for index in range(1, 8):
        (folder / f"{index:05d}.png").write_bytes((folder / "00000.png").read_bytes())
    with pytest.raises(InputError, match="nothing that moves"):
        mine([folder], tmp_path / "mined")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["still"]


def test_motion_gives_the_visible_masks_of_annotate(
    tmp_path: Path, tiny_model_folder: ModelFolder
) -> None:
    clip = write_clip(tmp_path / "blocks", frames=26)
    options = AnnotateOptions(
        clip, tmp_path / "out", masks="motion", model=str(tiny_model_folder.path)
    )
    result = json.loads(annotate(options, Reporter()).read_text())
    tracks = result["annotations"]
    assert {track["id"] for track in tracks} >= {1, 2}
    assert all(len(track["segmentations"]) == 26 for track in tracks)
    assert any(track["visible_segmentations"][-1] for track in tracks)
