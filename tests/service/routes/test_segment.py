"""Short clips over REST."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from fastapi.testclient import TestClient
from small_clips import SmallClip

from amodal_model.masks import box_mask, encode_rle


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
    missing = client.post("/v1/segment", files={"video": files["video"]})
    assert "'video' and 'visible' are both needed" in missing.json()["detail"]
    unknown = client.post("/v1/segment", files=files | {"extra": ("x", b"")})
    assert "unknown part 'extra'" in unknown.json()["detail"]


@pytest.mark.parametrize("fps", [True, "25", 0, 5e-324])
def test_a_rate_that_is_no_number_or_no_rate_is_refused(client: TestClient, fps: object) -> None:
    body = {"height": 4, "width": 6, "fps": fps, "frames": [{"objects": []}]}
    answer = client.post("/v1/segment", json=body)
    assert answer.status_code == 422
    assert "fps" in answer.json()["detail"]
