"""Prompts: what is read, and the one line that each wrong one gets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model import prompts as prompts_module
from amodal_model.errors import InputError, LimitError
from amodal_model.masks import box_mask, encode_rle
from amodal_model.prompts import prompts_from_json, prompts_of, read_prompt_file

SIZE = (40, 60)
LENGTH = 10
BOX: dict[str, Any] = {"track_id": 1, "frame_index": 0, "bbox_xyxy": [5, 6, 20, 30]}


def _entry(**changes: Any) -> dict[str, Any]:
    content = {**BOX, **changes}
    return {key: value for key, value in content.items() if value is not None}


def _points(points: list[Any], **changes: Any) -> dict[str, Any]:
    return _entry(bbox_xyxy=None, points=points, **changes)


def _rle(size: tuple[int, int] = SIZE, *, is_empty: bool = False) -> Any:
    mask = np.zeros(size, bool)
    mask[3:9, 4:14] = not is_empty
    return encode_rle(box_mask(mask))


def _fit(*objects: Any) -> Any:
    return prompts_of(prompts_from_json({"objects": list(objects)}), SIZE, LENGTH)


def test_every_kind_is_read_by_frame_and_unknown_keys_are_passed_over() -> None:
    found = _fit(
        _entry(colour="red"),
        _entry(track_id=2, frame_index=4, bbox_xyxy=None, rle=_rle()),
        _points([[7, 8, 1], [9.5, 39.9, 0]], frame_index=4),
        _entry(frame_index=6, bbox_xyxy=None, remove=True),
    )
    assert list(found) == [0, 4, 6]
    assert found[0][0].bbox_xyxy == (5, 6, 20, 30)
    assert (found[4][0].track_id, found[4][0].mask.bbox_xyxy) == (2, (4, 3, 14, 9))
    assert found[4][1].points == ((7, 8, True), (9.5, 39.9, False))
    assert (found[6][0].track_id, found[6][0].remove) == (1, True)


def test_a_box_over_the_edge_is_cut_at_it() -> None:
    assert _fit(_entry(bbox_xyxy=[-4, -5, 20, 99]))[0][0].bbox_xyxy == (0, 0, 20, 40)


def test_a_removed_object_may_be_shown_again() -> None:
    removal = _entry(frame_index=3, bbox_xyxy=None, remove=True)
    assert list(_fit(_entry(), removal, _entry(frame_index=5))) == [0, 3, 5]


def test_video_ids_are_kept_where_given() -> None:
    entries = prompts_from_json({"objects": [_entry(video_id=7), _entry()]})
    assert [entry.video_id for entry in entries] == [7, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object with a list 'objects'"),
        ({"objects": {}}, "must be an object with a list 'objects'"),
        ({"objects": []}, "no prompts"),
        ({"objects": [3]}, r"objects\[0\] must be an object, got int"),
    ],
)
def test_content_that_is_no_list_of_prompts_is_refused(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts_from_json(content)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (_entry(bbox_xyxy=None), "exactly one of .* has none"),
        (_entry(points=[[1, 2, 1]]), "exactly one of .* has bbox_xyxy and points"),
        (_entry(track_id=None), "'track_id' must be an integer"),
        (_entry(track_id=True), "'track_id' must be an integer"),
        (_entry(frame_index=-1), "'frame_index' must be an integer from 0"),
        (_entry(frame_index=1.5), "'frame_index' must be an integer"),
        (_entry(video_id="a"), "'video_id' must be an integer"),
        (_entry(bbox_xyxy=[1, 2, 3]), "must be 4 numbers"),
        (_entry(bbox_xyxy=[1, 2, float("nan"), 4]), "must be 4 numbers"),
        (_entry(bbox_xyxy=[1, 2, "3", 4]), "must be 4 numbers"),
        (_entry(bbox_xyxy=[9, 2, 3, 4]), "is empty"),
        (_entry(bbox_xyxy=[60, 2, 70, 9]), r"less than a pixel in the frame, 60x40"),
        (_entry(frame_index=10), "frame 10 does not exist, the video has 10"),
        (_points([]), "'points' must be a list of .* not empty"),
        (_points([[1, 2]]), r"points\[0\] must be 3 numbers"),
        (_points([[1, 2, 2]]), r"points\[0\] must end with 1 or 0"),
        (_points([[1, 40, 1]]), r"point \(1, 40\) is outside the frame, 60x40"),
        (_points([[1, 2, 0]]), "needs a box, a mask or a point on the object first"),
        (_entry(bbox_xyxy=None, rle="abc"), "'rle' must be an object"),
        (_entry(bbox_xyxy=None, rle=_rle((20, 30))), r"mask size \[20, 30\], the frames are"),
        (_entry(bbox_xyxy=None, rle={"size": [16384, 10**9]}), "mask size"),
        (_entry(bbox_xyxy=None, rle={"size": [40, 60], "counts": "a"}), r"objects\[0\]: RLE"),
        (_entry(bbox_xyxy=None, rle=_rle(is_empty=True)), "the mask is empty"),
        (_entry(bbox_xyxy=None, remove=True), "removed, but no prompt before shows it"),
        (_entry(bbox_xyxy=None, remove="yes"), "'remove' must be true"),
    ],
)
def test_a_wrong_prompt_is_one_line_that_names_it(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _fit(entry)
    assert "objects[0]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (_entry(bbox_xyxy=[1, 1, 5, 5]), "track 1, frame 0: 2 different boxes"),
        (_entry(bbox_xyxy=None, remove=True), "removed and prompted in the same frame"),
        (_points([[7.2, 8, 1], [7.9, 8.5, 0]]), r"point \(7, 8\) is both on and off"),
    ],
)
def test_prompts_that_contradict_each_other_are_refused(
    second: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _fit(_entry(), second)


def test_the_same_box_twice_is_no_contradiction() -> None:
    assert len(_fit(_entry(), _entry())[0]) == 2


def test_thousands_of_points_are_refused_in_one_prompt_and_in_many() -> None:
    points = [[index % 60, index // 60, 1] for index in range(257)]
    with pytest.raises(LimitError, match="257 points, limit 256"):
        _fit(_points(points))
    with pytest.raises(LimitError, match="257 points, limit 256"):
        _fit(_points(points[:200]), _points(points[200:]))


def test_too_many_objects_are_refused() -> None:
    with pytest.raises(LimitError, match="1025 objects, limit 1024"):
        _fit(*(_entry(track_id=number) for number in range(1025)))


def test_a_file_that_is_missing_broken_or_huge_is_one_line_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(InputError, match=r"p\.json: no such file"):
        read_prompt_file(path)
    path.write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"p\.json: not JSON"):
        read_prompt_file(path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"p\.json: not JSON"):
        read_prompt_file(path)
    path.write_text(json.dumps({"objects": [BOX, {**BOX, "bbox_xyxy": 3}]}))
    with pytest.raises(InputError, match=r"p\.json: objects\[1\]"):
        read_prompt_file(path)
    monkeypatch.setattr(prompts_module, "MAX_PROMPT_BYTES", 10)
    with pytest.raises(LimitError, match="limit 10"):
        read_prompt_file(path)
