"""Short clips over REST."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fastapi.testclient import TestClient
from small_clips import SmallClip, write_small_clip

from amodal_model.masks import box_mask, encode_rle
from amodal_service.annotation import annotate
from amodal_service.progress import Reporter


def _files(clip: SmallClip) -> dict[str, Any]:
    return {
        "video": (clip.video.name, clip.video.read_bytes()),
        "visible": ("visible.json", clip.visible.read_bytes()),
    }


def _masks(clip: SmallClip) -> dict[str, Any]:
    content = json.loads(clip.visible.read_text())
    video, tracks = content["videos"][0], content["annotations"]
    frames = [
        {
            "objects": [
                {"track_id": each["id"], "rle": each["segmentations"][index]}
                for each in tracks
                if each["segmentations"][index]
            ]
        }
        for index in range(video["length"])
    ]
    return {"height": video["height"], "width": video["width"], "fps": 25, "frames": frames}


@pytest.fixture
def whole_frame_clip() -> dict[str, Any]:
    rle = encode_rle(box_mask(np.ones((20, 30), bool)))
    frames = [{"objects": [{"track_id": 1, "rle": rle}]}]
    return {"height": 20, "width": 30, "fps": 25, "frames": frames}


def test_a_clip_and_its_masks_alone_give_the_same_silhouettes(
    client: TestClient, clip: SmallClip
) -> None:
    of_files = client.post("/v1/segment", files=_files(clip))
    of_masks = client.post("/v1/segment", json=_masks(clip))
    assert (of_files.status_code, of_masks.status_code) == (200, 200)
    pairs = zip(of_files.json()["frames"], of_masks.json()["frames"], strict=True)
    assert all(a["objects"] == b["objects"] and a["order"] == b["order"] for a, b in pairs)
    assert of_files.json()["video"] == {
        "file_name": "street.mp4",
        "width": 64,
        "height": 48,
        "length": 20,
        "fps": 25.0,
    }


def test_messagepack_says_what_json_says(
    client: TestClient, whole_frame_clip: dict[str, Any]
) -> None:
    as_json = client.post("/v1/segment", json=whole_frame_clip)
    packed = client.post(
        "/v1/segment",
        content=msgspec.msgpack.encode(whole_frame_clip),
        headers={"content-type": "application/msgpack", "accept": "application/msgpack"},
    )
    assert packed.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(packed.content) == as_json.json()


def test_a_clip_that_is_too_long_is_told_the_limit(
    client: TestClient, whole_frame_clip: dict[str, Any]
) -> None:
    whole_frame_clip["frames"] *= 51
    answer = client.post("/v1/segment", json=whole_frame_clip)
    assert answer.status_code == 413
    assert "clip is 2.04 s, limit 2.00 s (AMODAL_LIMIT_SEGMENT_SECONDS)" in answer.json()["detail"]


def test_a_clip_of_too_many_pixels_is_told_the_limit(
    client: TestClient, whole_frame_clip: dict[str, Any]
) -> None:
    whole_frame_clip |= {"height": 16384, "width": 16384}
    whole_frame_clip["frames"] = [{"objects": []}] * 3
    answer = client.post("/v1/segment", json=whole_frame_clip)
    assert answer.status_code == 413
    assert "AMODAL_LIMIT_SEGMENT_PIXELS" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"height": 21}, "mask size [20, 30], the frames are [21, 30]"),
        ({"surprise": 1}, "body/surprise: Extra inputs are not permitted"),
        ({"frames": []}, "body/frames"),
        ({"fps": 0}, "body/fps"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    client: TestClient, whole_frame_clip: dict[str, Any], change: dict[str, Any], detail: str
) -> None:
    answer = client.post("/v1/segment", json=whole_frame_clip | change)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_two_masks_of_one_object_in_a_frame_are_refused(
    client: TestClient, whole_frame_clip: dict[str, Any]
) -> None:
    whole_frame_clip["frames"][0]["objects"] *= 2
    answer = client.post("/v1/segment", json=whole_frame_clip)
    assert answer.json()["detail"] == "track 1, frame 0: two masks of one object"


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/json", "accept": "text/html"}, b"{}", 406),
        ({"content-type": "application/json"}, b"{", 422),
        ({"content-type": "application/msgpack"}, b"\xc1", 422),
        ({"content-type": "application/json"}, b"[" * 100_000, 422),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(
    client: TestClient, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = client.post("/v1/segment", content=content, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_damaged_clip_is_refused_without_a_word_of_where_it_lay(
    client: TestClient, clip: SmallClip
) -> None:
    files = _files(clip) | {"video": ("broken.mp4", b"no video")}
    answer = client.post("/v1/segment", files=files)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("broken.mp4: not a video that can be read")


def test_a_part_that_is_missing_or_unknown_is_refused(client: TestClient, clip: SmallClip) -> None:
    files = _files(clip)
    missing = client.post("/v1/segment", files={"visible": files["visible"]})
    assert missing.json()["detail"] == "the part 'video' is needed"
    unknown = client.post("/v1/segment", files=files | {"extra": ("x", b"")})
    assert "unknown part 'extra'" in unknown.json()["detail"]


@pytest.mark.parametrize("masks", ["prompted", "motion"])
def test_masks_are_found_where_none_are_given(
    client: TestClient, clip: SmallClip, masks: str, tmp_path: Path
) -> None:
    files = {"video": _files(clip)["video"]}
    if masks == "prompted":
        files["prompts"] = ("p.json", clip.prompts.read_bytes())
    data = {"request": json.dumps({"masks": masks})}
    answer = client.post("/v1/segment", files=files, data=data)
    assert answer.status_code == 200
    annotate(clip.options(tmp_path, masks, formats=("coco-rle",)), Reporter())
    lines = (tmp_path / "coco-rle.jsonl").read_text().splitlines()
    assert answer.json()["frames"] == [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("masks", "parts", "detail"),
    [
        (
            "given",
            "video",
            "masks 'given' needs 'visible' (masks is one of given, prompted, motion",
        ),
        ("given", "video visible prompts", "masks 'given' takes no 'prompts', masks 'prompted'"),
        ("prompted", "video", "masks 'prompted' needs 'prompts'"),
        ("prompted", "video visible", "masks 'prompted' takes no 'visible', masks 'given' does"),
        ("motion", "video visible", "masks 'motion' takes no 'visible'"),
        ("motion", "video prompts", "masks 'motion' takes no 'prompts', masks 'prompted' does"),
        ("guessed", "video", "request/masks: Input should be 'given', 'prompted' or 'motion'"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/segment", "/v1/jobs"])
def test_masks_that_contradict_the_files_are_refused(
    client: TestClient, clip: SmallClip, path: str, masks: str, parts: str, detail: str
) -> None:
    files = _files(clip) | {"prompts": ("p.json", clip.prompts.read_bytes())}
    files = {name: files[name] for name in parts.split()}
    answer = client.post(path, files=files, data={"request": json.dumps({"masks": masks})})
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize("pictures", ["true", 1, None])
@pytest.mark.parametrize("path", ["/v1/segment", "/v1/jobs"])
def test_pictures_are_looked_at_or_not(
    client: TestClient, clip: SmallClip, path: str, pictures: object
) -> None:
    data = {"request": json.dumps({"pictures": pictures})}
    answer = client.post(path, files=_files(clip), data=data)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "request/pictures: Input should be a valid boolean"


def test_masks_alone_have_no_pictures(client: TestClient, whole_frame_clip: dict[str, Any]) -> None:
    answer = client.post("/v1/segment", json=whole_frame_clip | {"pictures": True})
    assert answer.status_code == 422


def test_a_long_clip_is_refused_while_it_is_counted(client: TestClient, tmp_path: Path) -> None:
    long = write_small_clip(tmp_path, "long.mp4", 80)
    data = {"request": json.dumps({"masks": "motion"})}
    files = {"video": ("long.mp4", long.video.read_bytes())}
    answer = client.post("/v1/segment", files=files, data=data)
    assert answer.status_code == 413
    assert "clip is 2.56 s, limit 2.00 s (AMODAL_LIMIT_SEGMENT_SECONDS)" in answer.json()["detail"]


def test_prompts_that_do_not_fit_the_clip_are_refused(client: TestClient, clip: SmallClip) -> None:
    entry = {"track_id": 1, "frame_index": 99, "bbox_xyxy": [1, 1, 9, 9]}
    for content, detail in (
        (b"{", "prompts: not JSON"),
        (json.dumps({"objects": [entry]}).encode(), "frame 99 does not exist, the video has 20"),
    ):
        files = {"video": _files(clip)["video"], "prompts": ("p.json", content)}
        data = {"request": json.dumps({"masks": "prompted"})}
        answer = client.post("/v1/segment", files=files, data=data)
        assert answer.status_code == 422
        assert detail in answer.json()["detail"]
        assert "amodal-clip-" not in answer.json()["detail"]


@pytest.mark.parametrize("fps", [True, "25", 0, 5e-324])
def test_a_rate_that_is_no_number_or_no_rate_is_refused(client: TestClient, fps: object) -> None:
    body = {"height": 4, "width": 6, "fps": fps, "frames": [{"objects": []}]}
    answer = client.post("/v1/segment", json=body)
    assert answer.status_code == 422
    assert "fps" in answer.json()["detail"]
