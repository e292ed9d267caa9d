"""Which clips a call annotates, and with which masks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import box_mask, encode_rle
from amodal_model.video import no_check, open_clip
from amodal_service.sources import CheckedClip, find_sources


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def dataset(tmp_path: Path, frames: Callable[..., Path]) -> Path:
    """Two clips of three frames with one object each, in the dataset format."""
    folder = tmp_path / "dataset"
    frames(folder / "videos" / "a", 3)
    frames(folder / "videos" / "b", 3)
    _write_masks(folder / "visible.json", ["a", "b"])
    return folder


def _write_masks(path: Path, names: list[str], **changes: Any) -> Path:
    rle = encode_rle(box_mask(np.ones((48, 64), bool)))
    video = {"width": 64, "height": 48, "length": 3, "fps": 10, **changes}
    content = {
        "videos": [{"id": n, "file_name": name, **video} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 5, "video_id": n, "category_id": 1, "segmentations": [rle, None, rle]}
            for n in range(len(names))
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_dataset_gives_all_its_clips_with_its_own_masks(dataset: Path, said: list[str]) -> None:
    sources = find_sources(dataset, None, said.append)
    assert sources.is_dataset
    assert [(c.name, c.video.video_id, len(c.tracklets)) for c in sources.clips] == [
        ("a", 0, 1),
        ("b", 1, 1),
    ]
    assert list(sources.clips[0].masks(0)) == [5]
    assert sources.clips[0].masks(1) == {}
    assert said == []


def test_a_clip_is_matched_by_its_name_then_its_stem_then_as_the_only_one(
    dataset: Path, said: list[str]
) -> None:
    visible = dataset / "visible.json"
    clip = dataset / "videos" / "b"
    assert find_sources(clip, visible, said.append).clips[0].video.video_id == 1
    _write_masks(visible, ["a.mp4", "b.avi"])
    assert find_sources(clip, visible, said.append).clips[0].video.file_name == "b.avi"
    assert said == []
    _write_masks(visible, ["other.mp4"])
    assert find_sources(clip, visible, said.append).clips[0].video.file_name == "other.mp4"
    assert "the only video of the mask file" in said[0]
    _write_masks(visible, ["x.mp4", "y.mp4"])
    with pytest.raises(DatasetError, match="no video named 'b' in the mask file"):
        find_sources(clip, visible, said.append)


def test_two_videos_with_one_stem_keep_their_whole_names(
    dataset: Path, frames: Callable[..., Path], said: list[str]
) -> None:
    frames(dataset / "videos" / "a.frames", 3)
    _write_masks(dataset / "visible.json", ["a", "a.frames", "b"])
    assert [c.name for c in find_sources(dataset, None, said.append).clips] == [
        "a",
        "a.frames",
        "b",
    ]


def test_videos_without_masks_are_left_out_with_one_line(dataset: Path, said: list[str]) -> None:
    _write_masks(dataset / "visible.json", ["a"])
    assert len(find_sources(dataset, None, said.append).clips) == 1
    assert said[0].endswith("1 videos without visible masks left out, first 'b'")


def test_missing_things_are_named(dataset: Path, said: list[str]) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        find_sources(dataset / "nowhere", None, said.append)
    with pytest.raises(InputError, match="no visible masks given; name their file with --visible"):
        find_sources(dataset / "videos" / "a", None, said.append)
    shutil.rmtree(dataset / "videos" / "b")
    with pytest.raises(DatasetError, match="1 videos are missing, first 'b'"):
        find_sources(dataset, None, said.append)
    (dataset / "visible.json").unlink()
    with pytest.raises(DatasetError, match=r"visible\.json: no such file"):
        find_sources(dataset, None, said.append)


def test_masks_of_another_size_or_length_are_refused(dataset: Path, said: list[str]) -> None:
    source = find_sources(dataset, None, said.append).clips[0]
    with pytest.raises(DatasetError, match="4 frames or more, its visible masks have 3"):
        source.masks(3)
    with pytest.raises(DatasetError, match="2 frames, its visible masks have 3"):
        source.check_length(2)
    content = (dataset / "visible.json").read_text()
    other = content.replace('"height": 48', '"height": 40').replace("[48, 64]", "[40, 64]")
    (dataset / "visible.json").write_text(other)
    with pytest.raises(DatasetError, match="frames are 64x48, its visible masks 64x40"):
        find_sources(dataset, None, said.append)


def test_an_empty_list_of_videos_is_refused(dataset: Path, said: list[str]) -> None:
    _write_masks(dataset / "visible.json", [])
    with pytest.raises(DatasetError, match="its 'videos' list is empty"):
        find_sources(dataset, None, said.append)


@pytest.mark.parametrize("limit", [1, 2])
def test_a_check_ends_the_reading_and_the_counting_of_a_clip(dataset: Path, limit: int) -> None:
    def check(frames: int) -> None:
        if frames > limit:
            raise InputError(f"{frames} frames")

    clip = CheckedClip(open_clip(dataset / "videos" / "a"), check)
    given: list[int] = []
    with pytest.raises(InputError, match=f"{limit + 1} frames"):
        given.extend(frame.index for frame in clip.frames())  # keeps what came before the error
    assert given == list(range(limit))
    with pytest.raises(InputError, match="3 frames"):
        clip.count()
    counted: list[int] = []
    free = CheckedClip(clip.clip, no_check)
    assert free.count(counted.append) == counted[-1] == 3
    assert [frame.index for frame in free.frames(1)] == [1, 2]
