"""One clip through every door of the service: the same results, byte for byte."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service_processes import wait_until
from small_clips import SmallClip, write_small_clip
from veiled_box import write_veiled_clip

from amodal_model.clip import Mode
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.app import create_app
from amodal_service.progress import Reporter
from amodal_service.records import compact_json
from amodal_service.settings import Settings

MODES = ("causal", "offline")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("data")
    settings = Settings(data=data, poll_s=0.05, heartbeat_s=0.2, chunk_frames=7)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 24)


@pytest.fixture(scope="module", params=MODES)
def of_command(
    request: pytest.FixtureRequest, clip: SmallClip, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    output = tmp_path_factory.mktemp(request.param)
    formats = ("coco-rle", "kins", "tao-amodal", "cocoa")
    options = AnnotateOptions(
        clip.video, output, clip.visible, mode=request.param, overlay=True, formats=formats
    )
    annotate(options, Reporter())
    return request.param, output


def test_a_job_makes_the_files_of_the_command_line(
    client: TestClient, clip: SmallClip, of_command: tuple[str, Path]
) -> None:
    mode, output = of_command
    outputs = ["overlay", "coco-rle", "kins", "tao-amodal", "cocoa"]
    made = client.post(
        "/v1/jobs",
        files={
            "video": (clip.video.name, clip.video.read_bytes()),
            "visible": ("visible.json", clip.visible.read_bytes()),
            "request": (None, json.dumps({"mode": mode, "outputs": outputs})),
        },
    ).json()
    url = f"/v1/jobs/{made['id']}"
    wait_until(lambda: client.get(url).json()["state"] == "succeeded", timeout_s=120)
    job = client.get(url).json()
    expected = {path.name: path.read_bytes() for path in output.iterdir()}
    assert {each["name"] for each in job["artifacts"]} == set(expected)
    for artifact in job["artifacts"]:
        assert client.get(artifact["url"]).content == expected[artifact["name"]], artifact["name"]
    assert client.get(job["results"]).content == expected["coco-rle.jsonl"]


def test_a_clip_answered_at_once_has_the_frames_of_the_command_line(
    client: TestClient, clip: SmallClip, of_command: tuple[str, Path]
) -> None:
    mode, output = of_command
    answer = client.post(
        "/v1/segment",
        files={
            "video": (clip.video.name, clip.video.read_bytes()),
            "visible": ("visible.json", clip.visible.read_bytes()),
            "request": (None, json.dumps({"mode": mode})),
        },
    )
    lines = [compact_json(frame) for frame in answer.json()["frames"]]
    assert lines == (output / "coco-rle.jsonl").read_text().splitlines()


@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_looked_at_by_every_door(
    client: TestClient, tmp_path: Path, mode: Mode
) -> None:
    clip = write_veiled_clip(tmp_path)
    lines = {}
    for pictures in (True, False):
        output = tmp_path / str(pictures)
        formats = ("coco-rle",)
        how = AnnotateOptions(
            clip.video, output, clip.visible, mode=mode, formats=formats, pictures=pictures
        )
        annotate(how, Reporter())
        lines[pictures] = (output / "coco-rle.jsonl").read_text().splitlines()
    assert lines[True] != lines[False]
    files = {
        "video": (clip.video.name, clip.video.read_bytes()),
        "visible": ("visible.json", clip.visible.read_bytes()),
    }
    request = {"request": json.dumps({"mode": mode, "pictures": True})}
    job = client.post("/v1/jobs", files=files, data=request).json()
    assert job["pictures"] is True
    answer = client.post("/v1/segment", files=files, data=request)
    assert [compact_json(frame) for frame in answer.json()["frames"]] == lines[True]
    url = f"/v1/jobs/{job['id']}"
    wait_until(lambda: client.get(url).json()["state"] == "succeeded", timeout_s=120)
    assert client.get(job["results"]).text.splitlines() == lines[True]
