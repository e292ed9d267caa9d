"""Tracklets of raw clips, and the videos they are mined from."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from moving_scene import SIZE, block_mask, write_clip

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import box_mask, decode_rle, mask_iou
from amodal_model.mining import MineConfig, mask_file, mine_clip
from amodal_model.motion_sightings import MotionFrame, Sighting
from amodal_model.raw_videos import find_raw_videos, fingerprint, mine_videos
from amodal_model.source_motion import MotionSource
from amodal_model.tracklet_quality import QualityConfig
from amodal_model.video import open_clip
from amodal_model.youtube_vis import mask_file_from_json, mask_file_json


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("raw") / "blocks", frames=34)


def test_blocks_are_mined_with_masks_that_fit(clip_folder: Path) -> None:
    mined = mine_clip(open_clip(clip_folder), MineConfig())
    assert mined.length == 34
    overlaps = {1: [0.0], 2: [0.0]}
    for tracklet in mined.tracklets:
        assert tracklet.quality.score >= 0.5
        for index, rle in tracklet.masks.items():
            for block, found in overlaps.items():
                iou = mask_iou(decode_rle(rle), box_mask(block_mask(block, index)))
                if iou > 0.5:
                    found.append(iou)
    assert all(len(found) > 12 and np.median(found) > 0.75 for found in overlaps.values())


@pytest.mark.parametrize(("alone", "joined"), [(4, True), (20, False)])
def test_what_was_followed_by_itself_for_long_is_no_part_of_another(
    alone: int, joined: bool, monkeypatch: pytest.MonkeyPatch, clip_folder: Path
) -> None:
    def look(self: MotionSource, image: np.ndarray, state: int) -> tuple[MotionFrame, int]:
        both = [_sighting(1, state), _sighting(2, state)]
        shown = both if state < alone else both[:1]
        return MotionFrame(tuple(shown), absorbed=((2, 1),) if state == alone else ()), state + 1

    monkeypatch.setattr(MotionSource, "look", look)
    monkeypatch.setattr("amodal_model.mining._warm_state", lambda source, clip: 0)
    quality = QualityConfig(evenness=(-2.0, -1.0))
    mined = mine_clip(open_clip(clip_folder), MineConfig(quality=quality))
    areas = [[decode_rle(rle).area for rle in t.masks.values()] for t in mined.tracklets]
    assert len(areas) == (1 if joined else 2)
    assert areas[0][0] == (2 * 26 * 34 if joined else 26 * 34)


def _sighting(serial: int, index: int) -> Sighting:
    mask = np.zeros(SIZE, bool)
    mask[20:54, 10 + index : 36 + index] = True
    own = mask if serial == 1 else np.roll(mask, 50, axis=0)
    return Sighting(serial, serial, box_mask(own), 0.9, 2.0, 0.9, 2.0 * index, is_merged=False)


def test_mined_tracklets_make_a_valid_mask_file(clip_folder: Path) -> None:
    clip = open_clip(clip_folder)
    masks = mask_file(["blocks"], [clip], [mine_clip(clip, MineConfig())])
    again = mask_file_from_json(mask_file_json(masks))
    assert again.videos[0].length == 34
    assert [track.track_id for track in again.tracklets] == list(range(1, len(again.tracklets) + 1))
    assert again.tracklets
    assert all(0.5 <= track.other["quality"] <= 1 for track in again.tracklets)


def test_nothing_passes_a_bar_that_is_out_of_reach(clip_folder: Path) -> None:
    videos = find_raw_videos([clip_folder], print)
    with pytest.raises(InputError, match=r"nothing that moves .* in 1 videos at a quality of 1\.1"):
        mine_videos(videos, MineConfig(least_quality=1.1), print)


def test_mining_stops_when_its_time_is_over(clip_folder: Path) -> None:
    done: list[int] = []
    mined = mine_clip(
        open_clip(clip_folder), MineConfig(), watch=done.append, until_s=time.monotonic()
    )
    assert mined.length == sum(done) == 1


def test_a_folder_of_videos_leaves_out_what_is_none_in_one_line(
    clip_folder: Path, tmp_path: Path
) -> None:
    write_clip(tmp_path / "a", frames=2)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "LICENSE.md").write_text("text")
    said: list[str] = []
    videos = find_raw_videos([tmp_path, clip_folder], said.append)
    assert [video.name for video in videos] == ["a", "blocks"]
    assert len(said) == 1
    assert "1 entries left out" in said[0]
    assert "broken.mp4" in said[0]


def test_videos_of_one_name_are_refused(clip_folder: Path) -> None:
    with pytest.raises(InputError, match="two videos are named 'blocks'"):
        find_raw_videos([clip_folder, clip_folder], print)


@pytest.mark.parametrize("name", ["nowhere", "empty", "text.mp4"])
def test_what_holds_no_video_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"no such file|nothing in it|not a video"):
        find_raw_videos([tmp_path / name], print)


def test_a_damaged_video_is_left_out_and_the_others_are_mined(
    clip_folder: Path, tmp_path: Path
) -> None:
    damaged = write_clip(tmp_path / "damaged", frames=12)
    (damaged / "00005.png").write_bytes(b"cut short")
    said: list[str] = []
    videos = find_raw_videos([damaged, clip_folder], said.append)
    kept, masks = mine_videos(videos, MineConfig(), said.append)
    assert [video.name for video in kept] == ["blocks"]
    assert masks.tracklets
    assert "left out" in said[0]
    assert "00005.png" in said[0]


def test_the_fingerprint_changes_with_the_frames(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", frames=3)
    before = fingerprint(find_raw_videos([folder], print), MineConfig())
    assert before == fingerprint(find_raw_videos([folder], print), MineConfig())
    assert before != fingerprint(find_raw_videos([folder], print), MineConfig(0.7))
    (folder / "00002.png").unlink()
    assert before != fingerprint(find_raw_videos([folder], print), MineConfig())
