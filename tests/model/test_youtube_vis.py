"""Mask files: what is read, what passes through, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model import youtube_vis
from amodal_model.errors import DatasetError, LimitError
from amodal_model.masks import box_mask, encode_rle
from amodal_model.youtube_vis import mask_file_from_json, mask_file_json, read_mask_file

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop"


def square(left: int) -> dict[str, Any]:
    mask = np.zeros((6, 9), bool)
    mask[2:4, left : left + 3] = True
    return dict(encode_rle(box_mask(mask)))


def content() -> dict[str, Any]:
    """Return two videos; track 4 shows in two of three frames of the first."""
    video = {"file_name": "a.mp4", "width": 9, "height": 6, "length": 3, "fps": 12.5}
    track = {"video_id": 1, "category_id": 2, "iscrowd": 0}
    return {
        "info": {"by": "hand"},
        "videos": [
            {**video, "id": 1, "camera": "left"},
            {**video, "id": 2, "file_name": "b", "length": 0},
        ],
        "categories": [{"id": 2, "name": "thing"}],
        "annotations": [
            {**track, "id": 9, "segmentations": [square(0), square(5), square(6)]},
            {**track, "id": 4, "segmentations": [square(1), None, square(3)], "colour": "red"},
        ],
    }


def test_real_file_is_read() -> None:
    masks = read_mask_file(DEMO / "visible.json")
    video = masks.videos[0]
    assert masks.video_named(video.file_name) is video
    shown = masks.masks_at(video.video_id, 0)
    assert shown
    assert all(mask.frame_size == video.frame_size and mask.area for mask in shown.values())


def test_tracklets_come_by_ascending_id() -> None:
    masks = mask_file_from_json(content())
    assert [track.track_id for track in masks.tracklets_of(1)] == [4, 9]
    assert masks.tracklets_of(2) == []


def test_masks_of_a_frame_leave_out_who_has_no_pixel() -> None:
    entry = content()
    entry["annotations"][0]["segmentations"][0] = {"size": [6, 9], "counts": "f1"}  # 54 zeros
    masks = mask_file_from_json(entry)
    assert list(masks.masks_at(1, 1)) == [9]
    assert list(masks.masks_at(1, 0)) == [4]
    assert masks.masks_at(1, 2)[4].bbox_xyxy == (3, 2, 6, 4)


def test_unknown_keys_and_categories_pass_through() -> None:
    again = mask_file_json(mask_file_from_json(content()))
    assert again["info"] == {"by": "hand"}
    assert again["categories"] == [{"id": 2, "name": "thing"}]
    assert again["videos"] == content()["videos"]
    track = next(entry for entry in again["annotations"] if entry["id"] == 4)
    assert track["colour"] == "red"
    assert track["category_id"] == 2


def test_boxes_and_areas_are_derived() -> None:
    entry = content()
    entry["annotations"][1]["areas"] = [1, 2, 3]
    track = mask_file_json(mask_file_from_json(entry))["annotations"][1]
    assert track["areas"] == [6, None, 6]
    assert track["bboxes"] == [[1, 2, 3, 2], None, [3, 2, 3, 2]]
    assert track["segmentations"] == entry["annotations"][1]["segmentations"]


def test_written_file_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(mask_file_json(mask_file_from_json(content()))))
    assert mask_file_json(read_mask_file(path)) == mask_file_json(mask_file_from_json(content()))


def test_original_file_names_give_the_folder() -> None:
    entry = content()
    del entry["videos"][0]["file_name"]
    entry["videos"][0]["file_names"] = ["clip/00000.jpg", "clip/00001.jpg", "clip/00002.jpg"]
    assert mask_file_from_json(entry).videos[0].file_name == "clip"


def test_frame_rate_defaults_to_25() -> None:
    entry = content()
    del entry["videos"][0]["fps"]
    assert mask_file_from_json(entry).videos[0].fps == 25.0


def test_unknown_video_name_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"no video named 'c\.mp4'.*a\.mp4"):
        mask_file_from_json(content()).video_named("c.mp4")


def test_broken_mask_names_track_and_frame() -> None:
    entry = content()
    entry["annotations"][1]["segmentations"][2] = {"size": [6, 9], "counts": "11"}
    with pytest.raises(DatasetError, match="track 4, frame 2: RLE"):
        mask_file_from_json(entry).masks_at(1, 2)


def video_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["videos"][0].update(changes)


def track_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["annotations"][1].update(changes)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no videos": (lambda entry: entry.pop("videos"), "'videos' must be a list, got NoneType"),
    "videos object": (lambda e: e.update(videos={}), "'videos' must be a list, got dict"),
    "no annotations": (lambda e: e.pop("annotations"), "'annotations' must be a list"),
    "video string": (lambda e: e.update(videos=["a"]), "a video must be an object, got str"),
    "track number": (lambda e: e.update(annotations=[3]), "an annotation must be an object"),
    "video ids": (video_with(id=2), "two videos share an id"),
    "track ids": (track_with(id=9), "two annotations of one video share an id"),
    "name": (video_with(file_name=7), "needs a 'file_name', got 7"),
    "no name": (video_with(file_name=""), "needs a 'file_name'"),
    "dots": (video_with(file_name=".."), "needs a 'file_name'"),
    "nul": (video_with(file_name="a\x00"), "needs a 'file_name'"),
    "path": (video_with(file_name="../a.mp4"), "must be a plain name under videos/"),
    "absolute": (video_with(file_name="/clip"), "must be a plain name under videos/"),
    "fps zero": (video_with(fps=0), "'fps' must be a number from 0 to 1000, got 0"),
    "fps text": (video_with(fps="25"), "'fps' must be a number"),
    "fps flag": (video_with(fps=True), "'fps' must be a number"),
    "fps nan": (video_with(fps=float("nan")), "'fps' must be a number"),
    "width": (video_with(width=0), "'width' must be an integer from 1 to 16384, got 0"),
    "height": (video_with(height=16385), "'height' must be an integer from 1 to 16384"),
    "length": (video_with(length=-1), "'length' must be an integer from 0 to 1000000"),
    "length float": (video_with(length=3.0), "'length' must be an integer"),
    "id flag": (video_with(id=True), "'id' must be an integer"),
    "id text": (track_with(id="4"), "'id' must be an integer"),
    "huge id": (track_with(id=1 << 60), "'id' must be an integer"),
    "unknown video": (track_with(video_id=5), "track 4: video id 5 is not in 'videos'"),
    "too few": (track_with(segmentations=[None]), "track 4: 1 segmentations, .* has 3 frames"),
    "none": (track_with(segmentations=None), "track 4: None segmentations"),
    "mask size": (
        track_with(segmentations=[None, {"size": [9, 6], "counts": "f1"}, None]),
        r"track 4, frame 1: mask size \[9, 6\], the video is \[6, 9\]",
    ),
    "mask text": (track_with(segmentations=["f1", None, None]), "frame 0: mask size None"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    entry = content()
    change(entry)
    with pytest.raises(DatasetError, match=message) as caught:
        mask_file_from_json(entry)
    assert "\n" not in str(caught.value)


def test_top_level_that_is_no_object_is_refused() -> None:
    with pytest.raises(DatasetError, match="top level must be an object, got list"):
        mask_file_from_json([])


def test_too_many_tracks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube_vis, "MAX_TRACKS", 1)
    with pytest.raises(DatasetError, match="2 annotations, limit 1"):
        mask_file_from_json(content())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"]
)
def test_file_that_is_not_json_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "visible.json"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"visible\.json: not JSON"):
        read_mask_file(path)


def test_refusal_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "visible.json"
    path.write_text("{}")
    with pytest.raises(DatasetError, match=r"visible\.json: 'videos' must be a list"):
        read_mask_file(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DatasetError, match="no such file"):
            read_mask_file(path)


def test_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "visible.json"
    path.write_text(json.dumps(content()))
    monkeypatch.setattr(youtube_vis, "MAX_JSON_BYTES", 100)
    with pytest.raises(LimitError, match=r"visible\.json: \d+ bytes, limit 100"):
        read_mask_file(path)
