"""The result file: one annotation a tracklet, one entry a frame in every list."""

import json
from pathlib import Path
from typing import Any

import pytest

from amodal_model.youtube_vis import MaskFile, read_mask_file
from amodal_service.amodal_json import LISTS, Segmented, write_amodal_json


@pytest.fixture
def written(segmented: Segmented, tmp_path: Path) -> dict[str, Any]:
    source = segmented.source
    categories = ({"id": 3, "name": "cup", "supercategory": "thing"},)
    masks = MaskFile((source.video,), source.tracklets, categories, {"info": {"by": "us"}})
    write_amodal_json(tmp_path / "amodal.json", masks, [segmented], tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    content: dict[str, Any] = json.loads((tmp_path / "amodal.json").read_text())
    return content


def test_every_list_has_one_entry_a_frame(written: dict[str, Any]) -> None:
    for annotation in written["annotations"]:
        assert {len(annotation[name]) for name in LISTS} == {4}
    assert len(written["videos"][0]["order"]) == 4


def test_the_lists_tell_what_happened(written: dict[str, Any]) -> None:
    first, second = written["annotations"]
    assert first["states"] == ["visible"] * 4
    assert second["states"] == [None, "partial", "hidden", "lost"]
    assert second["occlusion_rates"] == [None, 0.5, 1.0, 1.0]
    assert second["bboxes"] == [None, [10, 15, 20, 10], [22, 15, 16, 10], None]
    assert second["areas"] == [None, 200, 160, None]
    assert [rle is None for rle in second["segmentations"]] == [True, False, False, True]
    assert [rle is None for rle in second["visible_segmentations"]] == [True, False, True, True]
    assert [rle is None for rle in second["inferred_segmentations"]] == [True, False, False, True]
    remembered = [rle is None for rle in second["remembered_segmentations"]]
    assert remembered == [True, True, False, True]
    assert first["remembered_segmentations"] == [None] * 4
    assert second["occluded_by"] == [None, [1], [1], [1]]
    assert written["videos"][0]["order"] == [[], [[1, 2]], [[1, 2]], []]


def test_ids_categories_and_unknown_keys_pass_through(written: dict[str, Any]) -> None:
    assert written["info"] == {"by": "us"}
    assert written["categories"] == [{"id": 3, "name": "cup", "supercategory": "thing"}]
    assert written["videos"][0]["camera"] == "left"
    assert (written["videos"][0]["id"], written["videos"][0]["fps"]) == (7, 10.0)
    for track_id, annotation in enumerate(written["annotations"], start=1):
        assert (annotation["id"], annotation["video_id"], annotation["category_id"]) == (
            track_id,
            7,
            3,
        )
        assert (annotation["colour"], annotation["iscrowd"]) == ("red", 0)


def test_the_file_reads_back_as_a_mask_file(written: dict[str, Any], tmp_path: Path) -> None:
    masks = read_mask_file(tmp_path / "amodal.json")
    amodal = masks.masks_at(7, 1)[2]
    assert amodal.bbox_xyxy == (10, 15, 30, 25)
    assert written["annotations"][1]["areas"][1] == amodal.area


def test_nothing_given_still_gives_a_whole_file(segmented: Segmented, tmp_path: Path) -> None:
    write_amodal_json(tmp_path / "a.json", MaskFile((), ()), [], tmp_path / "scratch")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "videos": [],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [],
    }
