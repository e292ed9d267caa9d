"""Scenes on disk: the same again, not written twice, with boxes to begin from."""

from pathlib import Path

import numpy as np
import pytest
from small_scenes import small_parts, write_small_scenes

from amodal_model.errors import DatasetError
from amodal_training.follow_scenes import read_scene, scene_files, write_drawn, write_labeled
from amodal_training.scenes import draw_scene


def test_a_scene_is_read_as_it_was_drawn_and_is_not_drawn_again(tmp_path: Path) -> None:
    (path,) = scene_files(write_small_scenes(tmp_path, 1))
    drawn = draw_scene(small_parts(), np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(read_scene(path).scene, drawn, strict=True))
    before = path.stat().st_mtime_ns
    write_drawn(tmp_path, small_parts(), range(1))
    assert path.stat().st_mtime_ns == before


def test_boxes_to_begin_from_hold_most_of_their_object(tmp_path: Path) -> None:
    (path,) = scene_files(write_small_scenes(tmp_path, 1))
    stored = read_scene(path)
    assert stored.prompts
    for prompt in stored.prompts:
        rows, columns = np.nonzero(stored.scene.labels[prompt.frame_index] == prompt.label)
        x0, y0, x1, y1 = prompt.box
        inside = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
        assert inside.mean() > 0.6


def test_labeled_clips_become_scenes(passing_dataset: Path, tmp_path: Path) -> None:
    write_labeled(tmp_path / "scenes", passing_dataset, range(2))
    for path in scene_files(tmp_path / "scenes"):
        scene = read_scene(path).scene
        assert len(scene.images) == 16
        assert set(np.unique(scene.labels)) <= {0, 1, 2}


def test_a_folder_without_scenes_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no scene"):
        scene_files(tmp_path)
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(DatasetError, match="not a scene"):
        read_scene(tmp_path / "other.npz")
