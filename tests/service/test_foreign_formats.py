"""Other layouts of the same results, read back with what others read them with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from amodal_service.amodal_json import Segmented
from amodal_service.foreign_formats import WRITERS, Export
from amodal_service.sources import ClipSource


def _write(name: str, clips: list[Segmented], folder: Path) -> Path:
    target, write = WRITERS[name]
    write(folder / target, Export(clips, [{"id": 3, "name": "cup"}]))
    return folder / target


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_coco_rle_has_one_line_a_frame(segmented: Segmented, tmp_path: Path) -> None:
    lines = _write("coco-rle", [segmented], tmp_path).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["frame_index"] for r in records] == [0, 1, 2, 3]
    assert [r["pts_s"] for r in records] == [0.0, 0.1, 0.2, 0.3]
    assert [len(r["objects"]) for r in records] == [1, 2, 2, 2]


def test_cocoa_orders_regions_from_near_to_far(segmented: Segmented, tmp_path: Path) -> None:
    content = _read(_write("cocoa", [segmented], tmp_path))
    assert [i["file_name"] for i in content["images"]] == [f"clip/0000{n}.png" for n in range(4)]
    annotation = content["annotations"][1]
    assert annotation["depth_constraint"] == "1-2"
    assert (annotation["image_id"], annotation["size"]) == (2, 2)
    front, back = annotation["regions"]
    assert (front["order"], front["track_id"], front["occlude_rate"]) == (1, 1, 0.0)
    assert (back["order"], back["track_id"], back["occlude_rate"]) == (2, 2, 0.5)
    assert "visible_mask" not in front
    visible, hidden = (coco_mask.area(back[key]) for key in ("visible_mask", "invisible_mask"))
    assert (visible, hidden, coco_mask.area(back["segmentation"])) == (100, 100, back["area"])
    assert coco_mask.area(content["annotations"][2]["regions"][1]["visible_mask"]) == 0
    assert len(content["annotations"][3]["regions"]) == 1  # lost objects have no mask


def test_kins_is_read_by_the_coco_tools(
    segmented: Segmented, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = COCO(str(_write("kins", [segmented], tmp_path)))
    assert "index created" in capsys.readouterr().out
    back = coco.loadAnns(coco.getAnnIds(imgIds=[2], catIds=[3]))[1]
    assert int(coco.annToMask(back).sum()) == back["area"] == back["a_area"] == 200
    assert (coco_mask.area(back["inmodal_seg"]), back["i_area"]) == (100, 100)
    assert (back["bbox"], back["inmodal_bbox"]) == ([10, 15, 20, 10], [10, 15, 10, 10])
    assert (back["oco_id"], back["ico_id"]) == (1, 2)
    alone = coco.loadAnns(coco.getAnnIds(imgIds=[1]))[0]
    assert (alone["oco_id"], alone["ico_id"]) == (0, 0)
    hidden = coco.loadAnns(coco.getAnnIds(imgIds=[3]))[1]
    assert (hidden["i_area"], hidden["inmodal_bbox"]) == (0, [0, 0, 0, 0])
    assert len(coco.getAnnIds()) == 6


def test_tao_amodal_ties_images_tracks_and_annotations(
    segmented: Segmented, tmp_path: Path
) -> None:
    content = _read(_write("tao-amodal", [segmented], tmp_path))
    tracks = {track["id"]: track for track in content["tracks"]}
    images = {image["id"]: image for image in content["images"]}
    assert {video["id"] for video in content["videos"]} == {7}
    for annotation in content["annotations"]:
        assert annotation["category_id"] == tracks[annotation["track_id"]]["category_id"] == 3
        assert images[annotation["image_id"]]["video_id"] == annotation["video_id"] == 7
    hidden = next(a for a in content["annotations"] if a["visibility"] == 0)
    assert (hidden["amodal_bbox"], hidden["bbox"]) == ([22, 15, 16, 10], [0, 0, 0, 0])
    assert hidden["amodal_is_uncertain"] is False  # confidence_occluded is 0.5


def test_tao_tracks_get_new_numbers_where_clips_share_ids(
    segmented: Segmented, tmp_path: Path
) -> None:
    other = Segmented(_other_video(segmented), segmented.journal)
    content = _read(_write("tao-amodal", [segmented, other], tmp_path))
    assert [t["id"] for t in content["tracks"]] == [1, 2, 3, 4]
    assert [t["given_track_id"] for t in content["tracks"]] == [1, 2, 1, 2]


def _other_video(segmented: Segmented) -> ClipSource:
    source = segmented.source
    return replace(
        source,
        name="other",
        video=replace(source.video, video_id=8),
        tracklets=tuple(replace(track, video_id=8) for track in source.tracklets),
    )


def _labels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "pal8"
        return np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(
            frame.height, frame.planes[0].line_size
        )[:, : frame.width]


def test_davis_holds_visible_labels_together_and_silhouettes_alone(
    segmented: Segmented, tmp_path: Path
) -> None:
    folder = _write("davis", [segmented], tmp_path)
    visible = _labels(folder / "visible" / "clip" / "00001.png")
    assert sorted(np.unique(visible)) == [0, 1, 2]
    assert np.count_nonzero(visible == 2) == 100
    whole = _labels(folder / "amodal" / "clip" / "2" / "00001.png")
    assert np.count_nonzero(whole == 2) == 200
    hidden = _labels(folder / "amodal" / "clip" / "2" / "00002.png")
    assert np.count_nonzero(hidden == 2) == 160
    assert not _labels(folder / "amodal" / "clip" / "2" / "00003.png").any()
    assert json.loads((folder / "labels.json").read_text()) == {"clip": {"1": 1, "2": 2}}
