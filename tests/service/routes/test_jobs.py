"""Jobs over REST."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from small_clips import SmallClip

from amodal_service.services import Services

Post = Callable[..., Any]
WaitFor = Callable[[str], dict[str, Any]]


def _stored(services: Services) -> set[str]:
    return {found.key for found in services.storage.list("jobs")}


def test_a_job_gives_its_files_and_says_how_far_it_is(
    client: TestClient, post_job: Post, wait_for: WaitFor
) -> None:
    made = post_job(outputs=["overlay"])
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/jobs/{made.json()['id']}"
    assert made.json()["video_name"] == "street.mp4"
    job = wait_for(made.json()["id"])
    assert (job["state"], job["frames_done"], job["frames_total"]) == ("succeeded", 20, 20)
    names = [artifact["name"] for artifact in job["artifacts"]]
    assert names == ["amodal.json", "frames.csv", "overlay.mp4"]
    for artifact in job["artifacts"]:
        content = client.get(artifact["url"]).content
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
        assert len(content) == artifact["size_bytes"]


def test_results_are_lines_and_a_range_goes_on_where_one_stopped(
    client: TestClient, post_job: Post, wait_for: WaitFor
) -> None:
    job = wait_for(post_job().json()["id"])
    whole = client.get(job["results"])
    assert whole.headers["amodal-complete"] == "true"
    lines = whole.text.splitlines()
    assert [json.loads(line)["frame_index"] for line in lines] == list(range(20))
    rest = client.get(job["results"], headers={"range": "bytes=1000-"})
    assert rest.status_code == 206
    assert rest.content == whole.content[1000:]
    size = len(whole.content)
    assert rest.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    nothing_new = client.get(job["results"], headers={"range": f"bytes={size}-"})
    assert nothing_new.status_code == 416
    assert nothing_new.json()["type"] == "urn:amodal:problem:http-416"


def test_events_are_replayed_from_the_last_one_seen(
    client: TestClient, post_job: Post, wait_for: WaitFor
) -> None:
    job_id = post_job().json()["id"]
    wait_for(job_id)
    whole = client.get(f"/v1/jobs/{job_id}/events").text
    kinds = [line[7:] for line in whole.splitlines() if line.startswith("event: ")]
    assert kinds == ["queued", "started", "progress", "progress", "progress", "succeeded"]
    ids = [line[4:] for line in whole.splitlines() if line.startswith("id: ")]
    rest = client.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": ids[3]}).text
    assert [line[4:] for line in rest.splitlines() if line.startswith("id: ")] == ids[4:]


def test_the_same_key_and_body_give_the_same_job(
    services: Services, post_job: Post, wait_for: WaitFor
) -> None:
    headers = {"idempotency-key": "one"}
    first = post_job(headers=headers, priority=7)
    stored = _stored(services)
    again = post_job(headers=headers, priority=7, pictures=False)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert {key.split("/")[1] for key in _stored(services)} == {key.split("/")[1] for key in stored}
    wait_for(first.json()["id"])


@pytest.mark.parametrize("change", [{"mode": "offline"}, {"pictures": True}])
def test_the_same_key_and_another_body_is_a_conflict(
    post_job: Post, change: dict[str, object]
) -> None:
    headers = {"idempotency-key": "two"}
    post_job(headers=headers)
    other = post_job(headers=headers, **change)
    assert (other.status_code, other.json()["type"]) == (409, "urn:amodal:problem:conflict")


def test_a_job_of_a_damaged_clip_fails_and_says_why(post_job: Post, wait_for: WaitFor) -> None:
    job = wait_for(post_job(video=b"no video at all").json()["id"])
    assert (job["state"], job["error"]["status"]) == ("failed", 422)
    assert job["error"]["detail"].startswith("street.mp4: not a video that can be read")


def test_a_job_of_broken_masks_fails_without_a_word_of_where_they_lay(
    client: TestClient, clip: SmallClip, wait_for: WaitFor
) -> None:
    files = {"video": ("a.mp4", clip.video.read_bytes()), "visible": ("v.json", b"\x89")}
    job = wait_for(client.post("/v1/jobs", files=files).json()["id"])
    assert job["state"] == "failed"
    assert job["error"]["detail"].startswith("visible.json: not JSON")


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    services: Services, post_job: Post
) -> None:
    before = _stored(services)
    answer = post_job(video=b"x" * 100_001)
    assert answer.status_code == 413
    assert (
        "part 'video' (AMODAL_LIMIT_UPLOAD_BYTES) is over 100000 bytes" in answer.json()["detail"]
    )
    assert _stored(services) == before


def test_a_cancelled_job_can_be_retried_to_its_end(
    client: TestClient, post_job: Post, wait_for: WaitFor
) -> None:
    job_id = post_job().json()["id"]
    cancelled = client.post(f"/v1/jobs/{job_id}/cancel").json()
    assert cancelled["state"] == "cancelled"
    assert client.get(f"/v1/jobs/{job_id}").json()["finished_s"] is not None
    retried = client.post(f"/v1/jobs/{job_id}/retry")
    assert (retried.status_code, retried.json()["runs"]) == (200, 2)
    assert wait_for(job_id)["state"] == "succeeded"
    assert client.post(f"/v1/jobs/{job_id}/retry").status_code == 409


def test_a_deleted_job_is_gone_with_its_files(
    client: TestClient, services: Services, post_job: Post, wait_for: WaitFor
) -> None:
    job_id = post_job().json()["id"]
    wait_for(job_id)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/events").status_code == 404
    assert [key for key in _stored(services) if job_id in key] == []


def test_a_list_has_pages(client: TestClient, post_job: Post) -> None:
    made = [post_job().json()["id"] for _ in range(3)]
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == made[:0:-1]
    rest = client.get("/v1/jobs", params={"before": first["next_before"], "limit": 1}).json()
    assert rest["jobs"][0]["id"] == made[0]
    for job_id in made:
        client.post(f"/v1/jobs/{job_id}/cancel")


def test_a_file_that_an_operator_stored_is_used_by_its_key(
    client: TestClient, services: Services, clip: SmallClip, wait_for: WaitFor
) -> None:
    storage = services.storage
    storage.put("imports/street.mp4", clip.video)
    storage.put("imports/masks.json", clip.visible)
    body = {"video": {"key": "street.mp4"}, "visible": {"key": "masks.json"}}
    made = client.post("/v1/jobs", json=body)
    assert (made.status_code, made.json()["video_name"]) == (201, "street.mp4")
    assert wait_for(made.json()["id"])["state"] == "succeeded"
    missing = client.post("/v1/jobs", json=body | {"video": {"key": "absent.mp4"}})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"video": {"key": "../escape"}, "visible": {"key": "x"}},
        {"video": {"key": "a", "upload_id": "b"}, "visible": {"key": "x"}},
        {"video": {}, "visible": {"key": "x"}},
        {"video": {"key": "a"}},
    ],
)
def test_a_source_that_is_not_one_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/jobs", json=body).status_code == 422


def _prompts(clip: SmallClip) -> Any:
    return json.loads(clip.prompts.read_text())


def test_prompts_come_as_a_part_by_key_or_in_the_request(
    client: TestClient, services: Services, clip: SmallClip, wait_for: WaitFor
) -> None:
    services.storage.put("imports/plain.mp4", clip.video)
    services.storage.put("imports/p.json", clip.prompts)
    files = {
        "video": ("plain.mp4", clip.video.read_bytes()),
        "prompts": ("p.json", clip.prompts.read_bytes()),
    }
    data = {"request": json.dumps({"masks": "prompted"})}
    body = {"video": {"key": "plain.mp4"}, "masks": "prompted"}
    made = [
        client.post("/v1/jobs", files=files, data=data),
        client.post("/v1/jobs", json=body | {"prompts": {"key": "p.json"}}),
        client.post("/v1/jobs", json=body | {"prompts": _prompts(clip)}),
    ]
    assert [each.status_code for each in made] == [201, 201, 201]
    jobs = [wait_for(each.json()["id"]) for each in made]
    assert [(job["state"], job["masks"]) for job in jobs] == [("succeeded", "prompted")] * 3
    results = {client.get(job["results"]).content for job in jobs}
    assert len(results) == 1
    assert b'"track_id":10' in results.pop()


def test_the_same_key_and_other_prompts_are_a_conflict(
    client: TestClient, services: Services, clip: SmallClip, wait_for: WaitFor
) -> None:
    services.storage.put("imports/street.mp4", clip.video)
    headers = {"idempotency-key": "prompts"}
    body = {"video": {"key": "street.mp4"}, "masks": "prompted", "prompts": _prompts(clip)}
    first = client.post("/v1/jobs", json=body, headers=headers)
    again = client.post("/v1/jobs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    body["prompts"]["objects"][0]["bbox_xyxy"][0] += 1
    assert client.post("/v1/jobs", json=body, headers=headers).status_code == 409
    wait_for(first.json()["id"])


def test_a_job_that_finds_its_masks_by_motion_needs_no_other_file(
    client: TestClient, services: Services, clip: SmallClip, wait_for: WaitFor
) -> None:
    services.storage.put("imports/street.mp4", clip.video)
    made = client.post("/v1/jobs", json={"video": {"key": "street.mp4"}, "masks": "motion"})
    job = wait_for(made.json()["id"])
    assert (job["state"], job["masks"], job["frames_done"]) == ("succeeded", "motion", 20)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"prompts": {"objects": []}, "masks": "prompted"}, "prompts/content/objects: List should"),
        (
            {"prompts": {"objects": [{"track_id": 1, "frame_index": 0}]}, "masks": "prompted"},
            "objects[0] must have exactly one of bbox_xyxy, points, rle, remove, has none",
        ),
        ({"prompts": {"key": "p"}}, "masks 'given' takes no 'prompts', masks 'prompted' does"),
        ({"masks": "prompted"}, "masks 'prompted' needs 'prompts'"),
        ({}, "masks 'given' needs 'visible'"),
    ],
)
def test_prompts_that_are_none_are_refused_at_once(
    client: TestClient, body: dict[str, Any], detail: str
) -> None:
    answer = client.post("/v1/jobs", json={"video": {"key": "a"}, **body})
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_another_content_type_is_refused(client: TestClient) -> None:
    assert client.post("/v1/jobs", content=b"x").status_code == 415


def test_an_id_that_is_none_is_not_looked_up(client: TestClient) -> None:
    assert client.get("/v1/jobs/zzz").status_code == 422
    assert client.get(f"/v1/jobs/{'0' * 32}").status_code == 404


def test_a_result_file_comes_as_one_of_the_types_that_are_documented(
    client: TestClient, post_job: Post, wait_for: WaitFor
) -> None:
    job = wait_for(post_job(outputs=["overlay", "davis", "coco-rle"]).json()["id"])
    path = "/v1/jobs/{job_id}/artifacts/{name}"
    answers = client.get("/openapi.json").json()["paths"][path]["get"]["responses"]
    for each in job["artifacts"]:
        kind = client.get(each["url"]).headers["content-type"].partition(";")[0]
        assert kind == each["media_type"], each["name"]
        assert kind in answers["200"]["content"], each["name"]
        assert kind != "application/octet-stream", each["name"]


def test_a_priority_that_is_true_is_no_number(client: TestClient, post_job: Post) -> None:
    answer = post_job(priority=True)
    assert answer.status_code == 422
    assert "priority" in answer.json()["detail"]
